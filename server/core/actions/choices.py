"""Ask what there is to choose from, and answer, as values."""

from dataclasses import dataclass
from typing import Final

LIMIT: Final = 100
LIMIT_MAX: Final = 1_000


@dataclass(frozen=True, slots=True)
class Question:
    """What is to be chosen, where, and which of it."""

    project: str = ""
    environment: str = ""
    flag_key: str = ""
    search: str = ""
    limit: int = LIMIT
    page_token: str = ""


@dataclass(frozen=True, slots=True)
class Choices:
    """One page of what there is: values with labels."""

    items: tuple[tuple[str, str], ...]
    next_page_token: str = ""
