"""The committed stubs are what their protos make."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.sources import ROOT

pytest.importorskip("grpc_tools", reason="grpcio-tools is not installed, so no stub can be generated to compare with")

from scripts import _generate_protos as generator


def test_stubs_are_current() -> None:
    """A .proto and its stubs change in one commit."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, str(ROOT / "scripts/_generate_protos.py"), "--check"]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)

    assert (0, "") == (result.returncode, result.stderr)


def test_every_kind_of_drift_is_found(tmp_path: Path) -> None:
    """A stub may be missing, old, or left behind by a .proto that is gone."""
    (tmp_path / "old_pb2.py").write_text("before")
    (tmp_path / "orphan_pb2.pyi").write_text("")
    (tmp_path / "current_pb2.py").write_text("same")
    problems = generator.drift(tmp_path, {"old_pb2.py": "after", "missing_pb2.py": "", "current_pb2.py": "same"})

    assert ["missing_pb2.py", "old_pb2.py", "orphan_pb2.pyi"] == [line.split("/")[1].split(":")[0] for line in problems]


def test_generating_mends_drift(tmp_path: Path) -> None:
    """What is written is what the check expects."""
    (tmp_path / "orphan_pb2.py").write_text("")
    (tmp_path / "shop.proto").write_text('syntax = "proto3";\npackage shop;\nmessage Cart { string id = 1; }\n')
    generator.write(tmp_path, generator.generate(tmp_path))

    assert ["shop_pb2.py", "shop_pb2.pyi"] == generator.stub_names(tmp_path)
    assert [] == generator.drift(tmp_path, generator.generate(tmp_path))


def test_imports_of_our_messages_name_our_package() -> None:
    """Only our own packages move below `protos`."""
    text = "from shop.v1 import cart_pb2\nfrom google.protobuf import struct_pb2\nimport shopping\n"

    assert text.replace("shop.v1", "protos.shop.v1") == generator.in_our_package(text, {"shop"})


def test_flagd_messages_live_beside_the_official_ones() -> None:
    """A process may hold the official provider's copy of flagd's messages and ours."""
    from openfeature.schemas.protobuf.flagd.evaluation.v1 import evaluation_pb2 as official

    from protos.flagd.evaluation.v1 import evaluation_pb2 as ours

    reply = ours.ResolveObjectResponse(variant="large")
    reply.value.update({"size": 3})

    received = official.ResolveObjectResponse.FromString(reply.SerializeToString())

    assert ("large", {"size": 3}) == (received.variant, dict(received.value))
