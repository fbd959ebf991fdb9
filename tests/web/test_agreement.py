"""A context is the same values, however it came."""

import json
from typing import Any, Final

from hypothesis import given
from hypothesis import strategies as st

from server.rpc.context import decode
from server.web.context import read_context
from tests.fakes import struct_bytes

VALUES: Final = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), VALUES, max_size=4))
def test_http_and_grpc_read_a_context_alike(context: dict[str, Any]) -> None:
    """JSON over HTTP and google.protobuf.Struct over gRPC become the same Python values, of the same types."""
    over_http = read_context(json.dumps({"context": context}).encode())

    over_grpc = decode(struct_bytes(context), None)
    assert canonical(over_grpc) == canonical(over_http)


def canonical(value: Any) -> str:
    """A text that tells 1 from 1.0 and true, whatever the order of an object."""
    return json.dumps(value, sort_keys=True)
