"""Read a context's plain attributes by the bytes around their names, without protobuf.

A client sends the same few attributes again and again, and the bytes from an attribute's beginning to its value say
everything but the value: every tag and every length. Such a head is taken apart once and remembered; whoever has the
same bytes has the same name, kind and size.

    0a EL  0a KL name  12 VL  1a SL text        a text: the head ends before it
    0a EL  0a KL name  12 09  11 double         a number: the head ends with its first byte
    0a EL  0a KL name  12 02  20 00|01          a boolean: nothing follows
    0a EL  0a KL name  12 02  08 00             a null: nothing follows

Lengths take one byte. What is written in any other way has no head and is left to protobuf.
"""

from typing import Final, TypeAlias

from server.core.json import Json

HEADS_MAX: Final = 4_096
"""Heads that are remembered, at most some 2 MB; beyond, all are learned anew. Ten attributes have a few hundred."""

AROUND_NAME_BYTES: Final = 8
"""A head without its name."""

NAME_LENGTH_AT: Final = 3
"""Where in a head its name's length stands."""

_NAME_AT: Final = 4
_ENTRY: Final = 0x0A
_NAME: Final = 0x0A
_VALUE: Final = 0x12
_TEXT: Final = 0x1A
_NUMBER: Final = 0x11
_BOOLEAN: Final = 0x20
_NULL: Final = 0x08
_NUMBER_BYTES: Final = 9
_CONSTANT_BYTES: Final = 2
_SEVEN_BITS: Final = 0x7F


Head: TypeAlias = tuple[str, int, int, Json]
"""(name, skip_bytes, text_bytes, constant): what the bytes around a name say.

Units: skip_bytes is from the attribute's beginning to its text, or to the attribute's end when it is no text;
text_bytes is the length of a text that is not empty, -1 for a number, which takes the last 8 bytes, 0 for a constant.
"""

HEADS: Final[dict[bytes, Head]] = {}
"""The heads that were seen, by their bytes."""


def learn_head(raw: bytes, at: int) -> Head | None:
    """Take the head at a place of a context apart, and remember it; None when the attribute is not a plain one.

    Errors: IndexError when the bytes end too soon, UnicodeDecodeError when the name is not UTF-8.
    """
    head = _head(raw, at)
    if head is not None:
        if len(HEADS) >= HEADS_MAX:
            HEADS.clear()
        HEADS[raw[at : at + raw[at + NAME_LENGTH_AT] + AROUND_NAME_BYTES]] = head
    return head


def _head(raw: bytes, at: int) -> Head | None:
    entry_bytes, name_bytes = raw[at + 1], raw[at + NAME_LENGTH_AT]
    value_at = at + _NAME_AT + name_bytes
    value_bytes = raw[value_at + 1]
    tags = (raw[at], raw[at + 2], raw[value_at])
    if tags != (_ENTRY, _NAME, _VALUE) or entry_bytes != _NAME_AT + name_bytes + value_bytes:
        return None
    if entry_bytes > _SEVEN_BITS:
        # Then the others fit into one byte, too.
        return None
    name = raw[at + _NAME_AT : value_at].decode()
    kind, first = raw[value_at + 2], raw[value_at + 3]
    skip_bytes = name_bytes + AROUND_NAME_BYTES
    if kind == _TEXT and first == value_bytes - 2:
        return name, skip_bytes, first, None if first else ""
    if kind == _NUMBER and value_bytes == _NUMBER_BYTES:
        return name, skip_bytes + _NUMBER_BYTES - 2, -1, None
    if value_bytes != _CONSTANT_BYTES:
        return None
    if kind == _BOOLEAN and first <= 1:
        return name, skip_bytes, 0, first == 1
    return (name, skip_bytes, 0, None) if kind == _NULL and not first else None
