"""Hold `sem_ver` to its table, ours and the reference's."""

from typing import Any

from server.core.evaluation.operators import semantic_version
from tests.oracle.interpreter import versions
from tests.oracle.javascript import to_javascript
from tests.vectors.tables import cases


@cases("versions.json")
def test_semantic_version(row: list[Any]) -> None:
    """Null stands for what is no version or no operator."""
    *operands, expected = row

    assert expected is semantic_version(*operands)
    assert expected is versions(to_javascript(operands))
