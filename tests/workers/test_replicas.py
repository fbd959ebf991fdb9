"""Several servers of several workers share one PostgreSQL database."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import grpc
import pytest
from openfeature.contrib.provider.flagd import FlagdProvider
from openfeature.evaluation_context import EvaluationContext
from sqlalchemy import Engine

from protos.flagstaff.v1 import flags_pb2 as messages
from protos.flagstaff.v1.flags_pb2_grpc import FlagServiceStub
from server.core.changes import PutFlag
from server.store.engine import open_engine
from tests.store.definitions import flag, new_url, put
from tests.workers.conftest import TIMEOUT_S, Group, Start, answered_by, eventually

PROVIDERS_EACH = 4


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """An empty database."""
    with new_url(tmp_path, "postgresql") as address:
        yield address


@pytest.fixture
def replicas(start: Start, url: str) -> list[Group]:
    """Two servers of two workers, started at once on an empty database."""
    options = ("--workers=2", f"--database-url={url}")
    groups = [
        start("--demo", *options, "--last-known-good=kept-0"),
        start(*options, "--last-known-good=kept-1"),
    ]
    return groups


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    """A writer beside them."""
    opened = open_engine(url)
    yield opened
    opened.dispose()


def serves(group: Group, revision: int) -> set[int]:
    """Its workers, once all of them are at this revision."""
    return answered_by(group, lambda answer: answer["flagSets"]["default/production"]["revision"] == revision)


def test_a_commit_reaches_every_worker_of_every_server(replicas: list[Group], engine: Engine, tmp_path: Path) -> None:
    """Each keeps its own last good flags, and a password is in no log."""
    for revision in (2, 3):
        put(engine, PutFlag(flag("new", description=str(revision))), project="default", now=datetime.now(UTC))
        assert [set(group.pids) for group in replicas] == [serves(group, revision) for group in replicas]

    kept = [tmp_path / f"kept-{number}" / "default@production.jsonl" for number in range(2)]
    eventually(lambda: all(path.exists() and '"revision":3' in path.read_text() for path in kept))
    password = engine.url.password or "?"
    assert not any(password in group.logged() for group in replicas)
    assert [0, 0] == [group.stop() for group in replicas]


def test_servers_that_start_at_once_migrate_once(start: Start, url: str) -> None:
    """One of four processes does, the others wait for it."""
    options = ("--workers=2", f"--database-url={url}", "--last-known-good=off")
    groups = [start("--environment=staging", *options, wait=False) for _ in range(2)]
    eventually(lambda: all(group.logged().count("starting a worker") == 2 for group in groups))
    eventually(lambda: sum(group.logged().count("migrated the database") for group in groups))
    codes = [group.stop() for group in groups]

    assert [0, 0] == codes
    assert 1 == sum(group.logged().count("migrated the database") for group in groups)


def test_a_change_through_any_is_seen_by_providers_of_each(replicas: list[Group], engine: Engine) -> None:
    """Official providers, several on each server so that they meet both workers; each server takes changes in turn."""
    put(engine, PutFlag(flag("switch")), project="default", now=datetime.now(UTC))
    for group in replicas:
        serves(group, 2)
    ports = [group.told["grpc_port"] for group in replicas]
    providers = [FlagdProvider(host="127.0.0.1", port=port) for port in ports for _ in range(PROVIDERS_EACH)]
    try:
        for provider in providers:
            provider.initialize(EvaluationContext())
        for number, port in enumerate([*ports, *ports]):
            wanted = number % 2 == 0
            with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                request = messages.SetDefaultRuleRequest(project="default", environment="production", key="switch")
                request.serve.variant = "on" if wanted else "off"
                FlagServiceStub(channel).SetDefaultRule(request, timeout=TIMEOUT_S)

            eventually(lambda wanted=wanted: all(ask(provider) is wanted for provider in providers))  # type: ignore[misc]
    finally:
        for provider in providers:
            provider.shutdown()


def ask(provider: FlagdProvider) -> bool:
    """What it answers for the switch; not what a caller would fall back to."""
    answer = provider.resolve_boolean_details("switch", False, EvaluationContext("ann"))
    assert answer.error_code is None, answer
    return answer.value
