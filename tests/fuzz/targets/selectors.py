"""Feed any text to the parser of flagd's selector: a criterion comes out, or a refusal."""

from server.core.errors import InvalidRequest, NotFound
from server.core.selectors import KEYS, parse_selector
from tests.fakes import holder_of, snapshot_of

HOLDER = holder_of(snapshot_of(), aliases={("source", "flags.yaml"): "default/production"})


def test_one(data: bytes) -> None:
    """The bytes are the selector, in Latin-1 so that every one of them is a character."""
    text = data.decode("latin-1")
    try:
        selector = parse_selector(text)
    except InvalidRequest as refused:
        assert str(refused), "a refusal says why"
        return
    assert (selector is None) == (text == ""), "only an empty selector is none"
    if selector is None:
        return
    assert selector.key in KEYS, f"{selector.key!r} is no criterion"
    try:
        assert HOLDER.select(selector).flag_set == "default/production"
    except NotFound as refused:
        str(refused).encode()
