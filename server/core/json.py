"""Name JSON's values as Python types, the only place where `Any` stands for data."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

Json: TypeAlias = Any
"""None, bool, int, float, str, list[Json] or dict[str, Json], as `json.loads` gives them."""

JsonObject: TypeAlias = Mapping[str, Any]
JsonArray: TypeAlias = Sequence[Any]
Scalar: TypeAlias = str | int | float | bool
