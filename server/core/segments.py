"""A segment: a named condition or list of keys that rules refer to."""

from dataclasses import dataclass, replace

from server.core.errors import InvalidRequest
from server.core.flags import TARGETING_KEY
from server.core.json import Json
from server.core.keylists import KeyList, difference, key_list, union
from server.core.limits import LIST_ITEMS_MAX


@dataclass(frozen=True, slots=True)
class Segment:
    """Units that belong together: those that meet a condition, or whose attribute is in a list.

    Exactly one of `condition`, `keys` and `key_list` is set. A condition refers to other segments by `{"$ref": key}`.
    """

    key: str
    condition: Json = None
    keys: tuple[str, ...] | None = None
    key_attribute: str = TARGETING_KEY
    """The context attribute that is looked up in `keys`."""

    description: str = ""
    lenient: bool = False
    key_list: KeyList | None = None
    """In place of `keys` when there are more than LIST_ITEMS_MAX. Such a segment is large: its keys are looked up by
    the server, and flags that need it are not sent to in-process clients."""


def add_keys(segment: Segment, added: KeyList) -> Segment:
    """A segment with more keys; those that it has already change nothing.

    Errors: InvalidRequest when it has a condition; TooLarge.
    """
    if segment.key_list is not None:
        return replace(segment, key_list=union(segment.key_list, added))
    stored = _small(segment)
    if added.count <= LIST_ITEMS_MAX:
        known = set(stored)
        keys = (*stored, *sorted(key for key in added if key not in known))
        if len(keys) <= LIST_ITEMS_MAX:
            return replace(segment, keys=keys)
    united = union(key_list(stored), added)
    return replace(segment, keys=None, key_list=united)


def remove_keys(segment: Segment, removed: KeyList) -> Segment:
    """A segment with fewer keys; those that it does not have change nothing. Errors: InvalidRequest as `add_keys`."""
    if segment.key_list is None:
        return replace(segment, keys=tuple(key for key in _small(segment) if key not in removed))
    left = difference(segment.key_list, removed)
    if left.count > LIST_ITEMS_MAX:
        return replace(segment, key_list=left)
    return replace(segment, keys=tuple(sorted(left)), key_list=None)


def refuse_unknown_keys(segment: Segment, stored: Segment | None) -> None:
    """Errors: InvalidRequest when only count and digest are given of keys that are not the stored ones."""
    given = segment.key_list
    if given is None or given.chunks is not None or (stored is not None and stored.key_list == given):
        return
    raise InvalidRequest(
        f"segment {segment.key!r} comes without its {given.count} keys: of a large list, earlier revisions keep only "
        "number and digest, so it cannot be brought back from them; add or remove keys instead"
    )


def _small(segment: Segment) -> tuple[str, ...]:
    if segment.keys is None:
        raise InvalidRequest(f"segment {segment.key!r} has a condition and no list of keys; give it keys first")
    return segment.keys
