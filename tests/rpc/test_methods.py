"""Hold the list of what each method does against the services that there are."""

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from server.core.methods import ACTIONS

ROOT: Final = Path(__file__).resolve().parents[2]
OTHERS: Final = (
    "grpc_health.v1.health_pb2",
    "grpc_reflection.v1alpha.reflection_pb2",
)
"""Services of the library; version v1 of reflection has the same method under its own name."""


def _modules() -> Iterator[str]:
    for path in sorted((ROOT / "protos").rglob("*_pb2.py")):
        yield ".".join(path.relative_to(ROOT).with_suffix("").parts)
    yield from OTHERS


def _methods() -> set[str]:
    found: set[str] = {"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"}
    for name in _modules():
        file: Any = importlib.import_module(name).DESCRIPTOR
        for service in file.services_by_name.values():
            found.update(f"/{service.full_name}/{method.name}" for method in service.methods)
    return found


def test_every_method_says_what_it_does() -> None:
    """A new method without an entry fails here, and is refused by the server; an entry without a method is a slip."""
    assert _methods() == ACTIONS.keys()
