"""Feed any bytes to the decoder of contexts: attributes come out, or a refusal."""

from server.core.errors import InvalidRequest, TooLarge
from server.rpc.context import decode
from tests.fuzz.checks import check_json

READS = (None, frozenset({"tier"}), frozenset({"a", "b", "targetingKey", ""}), frozenset[str]())


def test_one(data: bytes) -> None:
    """The first byte chooses which attributes are read; the rest is the context."""
    reads = READS[(data[:1] or b"\0")[0] % len(READS)]
    try:
        context = decode(data[1:], reads)
    except (InvalidRequest, TooLarge) as refused:
        assert str(refused), "a refusal says why"
        str(refused).encode()
        return
    assert reads is None or context.keys() <= reads, "an attribute was given that nobody asked for"
    check_json(context)
