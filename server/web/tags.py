"""Name the state of a flag set, and an answer that depends on it, by entity tags."""

import json
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Any, Final

from server.core.evaluation.snapshot import Snapshot
from server.operations.states import state

_ANSWER_DIGEST_BYTES: Final = 16


def set_tag(snapshot: Snapshot) -> str:
    """`<revision>-<digest of its state>`, in hexadecimal."""
    return f"{snapshot.revision}-{state(snapshot).hex()}"


def revision_of(tag: str) -> int:
    """The revision that a flag set's tag names; 0 when the text is no such tag."""
    number = tag.strip('"').partition("-")[0]
    return int(number) if number.isascii() and number.isdigit() and len(number) <= 18 else 0


def answer_tag(
    snapshot: Snapshot, echo: tuple[str, str] | None, *, context: Mapping[str, Any], by_clock: Iterable[bytes]
) -> bytes:
    """The entity tag of a bulk answer, as the header has it.

    Shapes: by_clock are the encoded answers of flags that look at the clock, which change without a revision.
    """
    digest = blake2b(digest_size=_ANSWER_DIGEST_BYTES)
    digest.update(json.dumps([set_tag(snapshot), echo, context], sort_keys=True).encode())
    for answer in by_clock:
        digest.update(answer)
    return b'"' + digest.hexdigest().encode() + b'"'


def is_held(tag: bytes, if_none_match: bytes | None) -> bool:
    """Whether If-None-Match has the tag; weakened ones count, as proxies that compress weaken them."""
    if not if_none_match:
        return False
    return any(each.strip().removeprefix(b"W/") == tag for each in if_none_match.split(b","))
