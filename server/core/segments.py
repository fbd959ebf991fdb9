"""A segment: a named condition or list of keys that rules refer to."""

from dataclasses import dataclass

from server.core.flags import TARGETING_KEY
from server.core.json import Json


@dataclass(frozen=True, slots=True)
class Segment:
    """Units that belong together: those that meet a condition, or whose attribute is in a list.

    Exactly one of `condition` and `keys` is set. A condition may refer to other segments by `{"$ref": key}`.
    """

    key: str
    condition: Json = None
    keys: tuple[str, ...] | None = None
    key_attribute: str = TARGETING_KEY
    """The context attribute that is looked up in `keys`."""

    description: str = ""
    lenient: bool = False
