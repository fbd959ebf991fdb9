"""Several processes serve on the same ports as one server would."""

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest

from protos.flagstaff.v1 import evaluation_pb2 as messages
from protos.flagstaff.v1.evaluation_pb2_grpc import EvaluationServiceStub
from tests.workers.conftest import ROOT, TIMEOUT_S, Group, Start, answered_by, eventually, is_alive

OWN_CONNECTION = (("grpc.use_local_subchannel_pool", 1),)
FLAG = {"type": "boolean", "variants": {"on": True, "off": False}}


def import_flag(tmp_path: Path, default: str) -> None:
    """Run a real `flagstaff import`, in a process of its own."""
    file = tmp_path / "flags.json"
    file.write_text(json.dumps({"flags": {"switch": {**FLAG, "default": default}}}), encoding="utf-8")
    database = f"sqlite:///{tmp_path / 'flags.db'}"
    command = [sys.executable, "-m", "server", "import", str(file), "--database-url", database]
    subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL, timeout=TIMEOUT_S)


def evaluate(group: Group) -> bool:
    """By a fresh connection, so that any worker may answer."""
    with grpc.insecure_channel(f"127.0.0.1:{group.told['grpc_port']}", options=OWN_CONNECTION) as channel:
        request = messages.EvaluateRequest(flag_key="switch")
        answer = EvaluationServiceStub(channel).Evaluate(request, timeout=TIMEOUT_S, wait_for_ready=True)
        return bool(answer.resolution.bool_value)


def test_all_workers_serve_when_it_says_so(start: Start) -> None:
    """Their processes are told; the database was migrated once; SIGTERM ends them all with 0."""
    group = start("--demo", "--workers", "3")
    met = answered_by(group)
    code = group.stop()

    assert (3, set(group.pids), 0) == (len(met), met, code)
    assert [] == [pid for pid in group.pids if is_alive(pid)]
    assert 3 == group.logged().count("serving flag set")


def test_a_new_database_is_migrated_by_one(start: Start) -> None:
    """Though all of them start at once."""
    group = start("--workers", "3", "--environment", "staging")

    assert 1 == group.logged().count("migrated the database")


def test_one_commit_reaches_every_worker(start: Start, tmp_path: Path) -> None:
    """Of another process; each serves the new revision, and the new value."""
    import_flag(tmp_path, "off")
    group = start("--workers", "3")
    before = {evaluate(group) for _ in range(10)}
    import_flag(tmp_path, "on")
    met = answered_by(group, lambda answer: answer["flagSets"]["default/production"]["revision"] == 2)
    after = {evaluate(group) for _ in range(30)}

    assert ({False}, set(group.pids), {True}) == (before, met, after)


@pytest.mark.parametrize("options", [(), ("--workers", "2"), ("--workers", "3")])
def test_a_second_server_on_the_ports_fails(start: Start, options: tuple[str, ...]) -> None:
    """With exit code 1 and the port's name, with workers or without; the first goes on."""
    group = start("--workers", "2")
    for port in group.ports:
        second = start(port, *options, wait=False)
        code = second.process.wait(TIMEOUT_S)

        assert (1, "") == (code, second.process.stdout and second.process.stdout.read())
        assert f"cannot listen on 127.0.0.1:{port.partition('=')[2]}" in second.logged()
        assert "Traceback" not in second.logged()
    assert set(group.pids) == answered_by(group)


def test_a_group_on_a_single_servers_ports_fails(start: Start) -> None:
    """With the same words."""
    single = start()
    second = start(*single.ports, "--workers", "2", wait=False)

    assert 1 == second.process.wait(TIMEOUT_S)
    assert f"cannot listen on 127.0.0.1:{single.told['grpc_port']}" in second.logged()


def test_a_dead_worker_is_replaced(start: Start) -> None:
    """The others serve on meanwhile, the ports stay reserved even when all are dead, and the new ones serve."""
    group = start("--workers", "2")
    os.kill(group.pids[0], signal.SIGKILL)
    eventually(lambda: not is_alive(group.pids[0]))
    survivors: set[int] = set()

    def met_survivor() -> set[int]:
        # A connection that the kernel had given to the dead one is reset; the next one is not.
        with contextlib.suppress(OSError):
            survivors.add(group.readiness()["pid"])
        return survivors

    eventually(met_survivor)
    for pid in group.pids[1:]:
        os.kill(pid, signal.SIGKILL)
    intruder = start(*group.ports, wait=False)
    code = intruder.process.wait(TIMEOUT_S)

    def met() -> set[int]:
        try:
            return {group.readiness()["pid"] for _ in range(8)}
        except OSError:
            return set()

    eventually(lambda: len(met() - set(group.pids)) == 2)
    assert (False, 1) == (group.pids[0] in survivors, code)
    assert 2 == group.logged().count("a worker ended; another one is started")


def test_workers_end_with_their_master(start: Start) -> None:
    """Kill -9 gives it no time to tell them; they would hold the ports for ever."""
    group = start("--workers", "2")
    group.process.kill()

    eventually(lambda: not any(is_alive(pid) for pid in group.pids))
    assert 2 == group.logged().count("the master process is gone; stopping")


def test_a_worker_that_hangs_is_killed(start: Start) -> None:
    """After the drain's time and some more; the group still ends."""
    group = start("--workers", "2", "--drain-grace=0")
    os.kill(group.pids[0], signal.SIGSTOP)
    code = group.stop()

    assert (0, [False, False]) == (code, [is_alive(pid) for pid in group.pids])
    assert "a worker did not end in time and is killed" in group.logged()


def test_sighup_reaches_every_worker(start: Start, tmp_path: Path) -> None:
    """Each reads everything anew, also what was changed without a commit of ours."""
    import_flag(tmp_path, "off")
    group = start("--workers", "2")
    with sqlite3.connect(tmp_path / "flags.db") as connection:
        connection.execute("UPDATE flag_config SET document = replace(document, '\"off\"', '\"on\"')")
    connection.close()
    group.process.send_signal(signal.SIGHUP)

    eventually(lambda: group.logged().count("serving flag set") == 4)
    assert {True} == {evaluate(group) for _ in range(12)}


def test_ctrl_c_ends_it_without_a_traceback(start: Start) -> None:
    """As it does for one process."""
    group = start("--workers", "2")
    group.process.send_signal(signal.SIGINT)

    assert 0 == group.process.wait(TIMEOUT_S)
    assert "Traceback" not in group.logged()


def test_a_stop_during_the_start_is_heard(start: Start) -> None:
    """No worker is left behind."""
    group = start("--workers", "2", wait=False)
    eventually(lambda: group.logged().count("starting a worker") == 2)
    code = group.stop()
    pids = [int(part.split()[0]) for part in group.logged().split("worker=")[1:]]

    assert (0, [False, False]) == (code, [is_alive(pid) for pid in pids])


def test_workers_that_cannot_start_end_the_group(start: Start) -> None:
    """What is wrong is told once."""
    wrong = ("--database-url=mysql://localhost/flags", "--last-known-good=off")
    group = start("--workers", "3", *wrong, wait=False)

    assert 1 == group.process.wait(TIMEOUT_S)
    assert 1 == group.logged().count('"error":')
    assert "expected sqlite:///" in group.logged()


def test_the_directory_of_a_group_is_not_searched_for_modules(start: Start, tmp_path: Path) -> None:
    """A package called server beside the database is somebody else's."""
    (tmp_path / "server").mkdir()
    (tmp_path / "server" / "__init__.py").write_text("raise RuntimeError('not ours')", encoding="utf-8")
    group = start_from_elsewhere(tmp_path)

    assert group.returncode == 0, group.stderr


def start_from_elsewhere(tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """Run a group as an installed command would, whose path has no current directory, and end it at once."""
    database = f"sqlite:///{tmp_path}/x.db"
    code = (
        "import os, signal; from server.settings import Settings; "
        "from server.workers.group import Job, run_group; "
        f"settings = Settings({database!r}, grpc_port=0, sync_port=0, http_port=0, drain_delay_s=0); "
        "run_group(Job(settings), count=2, started=lambda told: os.kill(os.getpid(), signal.SIGTERM))"
    )
    environment: dict[str, Any] = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-P", "-c", code]
    return subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
