"""Read the blocks of a Markdown page that a reader is told to run, with what they are said to print."""

import re
from dataclasses import dataclass
from typing import Final

RUN: Final = "sh run"
SERVE: Final = "sh serve"
"""Started, and left running."""

REFUSED: Final = "sh refused"
"""Ends with exit code 1."""

_FENCE: Final = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Block:
    """Shell commands, and the text block that stands right after them."""

    kind: str
    commands: str
    printed: str | None


def read_blocks(page: str) -> list[Block]:
    """The blocks to run, in order."""
    blocks: list[Block] = []
    end = 0
    for fence in _FENCE.finditer(page):
        kind, content = fence.group(1), fence.group(2)
        if kind == "text" and blocks and not page[end : fence.start()].strip():
            blocks[-1] = Block(blocks[-1].kind, blocks[-1].commands, content)
        elif kind in (RUN, SERVE, REFUSED):
            blocks.append(Block(kind, content, None))
            end = fence.end()
    return blocks
