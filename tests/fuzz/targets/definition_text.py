"""Feed any text to the parser of definitions: a value that JSON can hold comes out, or a refusal."""

import json

from server.core.definitions.text import parse_text
from server.core.errors import InvalidDefinition
from tests.fuzz.checks import check_refusal

NAMES = ("", "flags.json", "flags.yaml")


def test_one(data: bytes) -> None:
    """The first byte says by which name the rest is read, as bytes or as text."""
    kind, text = data[:1] or b"\0", data[1:]
    name = NAMES[kind[0] % len(NAMES)]
    source: bytes | str = text.decode("utf-8", "surrogateescape") if kind[0] & 0x80 else text
    try:
        value = parse_text(source, name=name)
    except InvalidDefinition as refused:
        check_refusal(refused)
        return
    written = json.dumps(value, ensure_ascii=False, allow_nan=False)
    written.encode()
    assert value == json.loads(written), "what was read is not what JSON holds"
