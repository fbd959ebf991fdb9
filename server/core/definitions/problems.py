"""Collect everything that is wrong with a definition, each problem with its path."""

from collections.abc import Collection, Iterable
from difflib import get_close_matches
from typing import Final, TypeAlias

from server.core.errors import InvalidDefinition, Problem
from server.core.json import Json
from server.core.limits import KEY_CHARS_MAX

Path: TypeAlias = "str | tuple[Path, str | int]"
"""An RFC 6901 pointer, or a shorter path and the next key: written out only when there is a problem to report."""

PROBLEMS_MAX: Final = 10_000
"""Problems that are kept; a hostile file could hold one for each of its bytes."""

SUGGESTED_FROM_MAX: Final = 20_000
"""Names that all suggestions together are chosen from; a hostile file could misspell every name of a large set."""

_SHOWN_CHARS_MAX: Final = 80
_NAMES_SHOWN_MAX: Final = 12


class Problems:
    """What a reader found: errors, and warnings where the definition is read leniently.

    A lenient reader keeps what flagd itself only warns about.
    """

    def __init__(self, *, lenient: bool = False) -> None:
        self.lenient = lenient
        self.errors: list[Problem] = []
        self.warnings: list[Problem] = []
        self.kept = 0
        """Warnings about something that stays in the definition; what was dropped does not count."""

        self._unshown = 0
        self._suggested_from = 0

    def error(self, path: Path, message: str) -> None:
        """Report what makes the definition unusable."""
        self._keep(self.errors, Problem(pointer_of(path), message))

    def warn(self, path: Path, message: str, *, lenient: bool = False, dropped: bool = False) -> None:
        """Report what flagd only warns about: a warning when read leniently, else an error."""
        if self.lenient or lenient:
            self.kept += not dropped
            self._keep(self.warnings, Problem(pointer_of(path), message, warning=True))
        else:
            self.error(path, message)

    def add(self, problems: Iterable[Problem]) -> None:
        """Take over problems that were found elsewhere."""
        for problem in problems:
            self._keep(self.warnings if problem.warning else self.errors, problem)

    def raise_if_any(self) -> None:
        """Errors: InvalidDefinition with all errors, sorted by path."""
        if self.errors:
            unshown = [Problem("", f"{self._unshown} further problems are not shown")] if self._unshown else []
            raise InvalidDefinition([*in_order(self.errors), *unshown])

    def suggestion(self, word: str, known: Collection[str]) -> str:
        """As the function below, until SUGGESTED_FROM_MAX names have been looked through."""
        self._suggested_from += len(known)
        return suggestion(word, known) if self._suggested_from <= SUGGESTED_FROM_MAX else ""

    def _keep(self, kept: list[Problem], problem: Problem) -> None:
        if len(kept) < PROBLEMS_MAX:
            kept.append(problem)
        else:
            self._unshown += 1


def pointer(path: str, key: str | int) -> str:
    """Extend an RFC 6901 pointer by one key; a key that is too long to be one of ours is cut."""
    text = str(key)
    if len(text) > KEY_CHARS_MAX:
        text = text[: KEY_CHARS_MAX - 3] + "..."
    return f"{path}/{text.replace('~', '~0').replace('/', '~1')}"


def pointer_of(path: Path) -> str:
    """Write a path out."""
    keys: list[str | int] = []
    while not isinstance(path, str):
        path, key = path
        keys.append(key)
    for key in reversed(keys):
        path = pointer(path, key)
    return path


def in_order(problems: Iterable[Problem]) -> list[Problem]:
    """Sort by path, list indexes as numbers: rule 2 stands before rule 10."""
    return sorted(problems, key=lambda problem: ([_sort_key(key) for key in problem.path.split("/")], problem.message))


def _sort_key(key: str) -> tuple[int, int, str]:
    is_index = key.isascii() and key.isdigit() and len(key) < 10
    return (0, int(key), "") if is_index else (1, 0, key)


def shown(value: Json) -> str:
    """A value as it stands in a message: quoted, and cut to a readable length."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    text = repr(value[:_SHOWN_CHARS_MAX] if isinstance(value, str) else value)
    return text if len(text) <= _SHOWN_CHARS_MAX else text[: _SHOWN_CHARS_MAX - 3] + "..."


def names(values: Iterable[str]) -> str:
    """A few names, joined by commas."""
    listed = [value if len(value) <= _SHOWN_CHARS_MAX else shown(value) for value in values]
    more = f" and {len(listed) - _NAMES_SHOWN_MAX} more" if len(listed) > _NAMES_SHOWN_MAX else ""
    return (", ".join(listed[:_NAMES_SHOWN_MAX]) or "none") + more


def suggestion(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` when a known word is close, else nothing."""
    close = get_close_matches(word[:KEY_CHARS_MAX], list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
