"""Say a word that is close to one that nobody knows."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final

CHARS_COMPARED: Final = 100
"""Comparing costs the square of it, and the word is somebody's."""


def suggestion(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` when a known word is close, else nothing."""
    close = get_close_matches(word[:CHARS_COMPARED], list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
