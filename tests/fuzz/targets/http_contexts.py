"""Feed any bytes to the reader of HTTP bodies: a context comes out, whose texts have a form in UTF-8, or a refusal."""

from server.core.errors import InvalidRequest, TooLarge
from server.web.context import read_context
from tests.fuzz.checks import check_json


def test_one(data: bytes) -> None:
    """The bytes are a body."""
    try:
        context = read_context(data)
    except (InvalidRequest, TooLarge) as refused:
        assert str(refused), "a refusal says why"
        str(refused).encode()
        return
    check_json(context)
    repr(context).encode()
