"""`flagstaff backup` and `flagstaff restore`, also under a server and its clients."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc

from protos.flagstaff.v1 import evaluation_pb2 as messages
from protos.flagstaff.v1.evaluation_pb2_grpc import EvaluationServiceStub
from tests.cli.conftest import Run, Write
from tests.cli.servers import TIMEOUT_S, Start, serving, stopped

KILL: dict[str, Any] = {
    "flags": {
        "payments": {
            "kind": "operational",
            "temporary": False,
            "enabled": False,
            "variants": {"on": True, "off": False},
            "default": "on",
            "offVariant": "off",
        }
    }
}


def test_a_restored_database_answers_as_it_did(shop: Run, write: Write, tmp_path: Path) -> None:
    """Backed up, changed, restored: the first answers come again, at a higher revision."""
    path = tmp_path / "shop.backup"
    told = shop("backup", path, "--json").json
    before = shop("export").json
    shop("import", write("kill.json", KILL))
    changed = shop("export").json
    restored = shop("restore", path, "--replace", "--reason", "drill", "--json").json

    assert before != changed
    assert before == shop("export").json
    assert told["rows"] == restored["rows"]
    assert restored["revisions"]["default/production"] > 1_000_000_000


def test_a_database_with_flags_is_kept_unless_told(shop: Run, tmp_path: Path) -> None:
    """A slip does not cost what is there."""
    path = tmp_path / "shop.backup"
    shop("backup", path)
    refused = shop("restore", path)

    assert 1 == refused.code
    assert "say that its content is to be replaced" in refused.err


def test_clients_of_a_running_server_never_go_backwards(shop: Run, start: Start, write: Write, tmp_path: Path) -> None:
    """A subscription that is open across a restore is told the restored values, at a higher revision."""
    path = tmp_path / "shop.backup"
    shop("backup", path)
    shop("import", write("kill.json", KILL))
    process = start("--json")
    port = serving(process)["grpc_port"]
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        request = messages.WatchRequest(flag_keys=["payments"])
        pushes = EvaluationServiceStub(channel).Watch(request, timeout=TIMEOUT_S)
        seen = _values(pushes)
        first = next(seen)
        shop("restore", path, "--replace")
        second = next(seen)
    stopped(process)

    assert [False, True] == [first[1], second[1]]
    assert first[0] < second[0]


def _values(pushes: Any) -> Iterator[tuple[int, bool]]:
    """(revision, value) of each message that has a value."""
    for push in pushes:
        for resolution in push.resolutions:
            yield push.revision, resolution.bool_value
