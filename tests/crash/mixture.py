"""Ask a server everything that it answers, in turn and by every protocol: questions for `Asking`."""

import http.client
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from itertools import count
from typing import Any, Final

import grpc
from sqlalchemy import Engine

from protos.flagd.evaluation.v1 import evaluation_pb2 as flagd
from protos.flagd.evaluation.v1.evaluation_pb2_grpc import ServiceStub
from protos.flagstaff.v1 import evaluation_pb2 as ours
from protos.flagstaff.v1.evaluation_pb2_grpc import EvaluationServiceStub
from server.core.changes import Change, PutFlag, RemoveFlag
from server.core.definitions.flags import read_flag
from server.core.definitions.problems import Problems
from server.core.flags import FlagDefinition
from server.store.commit import commit
from tests.conformance.processes import HOST
from tests.crash.surroundings import ASK_TIMEOUT_S, Question

FLAGS: Final = 50
CHANGING: Final = "changing"
PASSING: Final = 20
"""Keys of flags that come and go; each is there for a while, many times."""

CONTEXTS: Final = 20
CONTEXT_VALUES: Final = 997
PLAN_KINDS: Final = 3


def document() -> dict[str, Any]:
    """The flags that are there throughout, in our own form."""
    return {"flags": {**{f"flag-{number}": _split(number) for number in range(FLAGS)}, CHANGING: flag(0)}}


def flag(number: int) -> dict[str, Any]:
    """A flag whose default depends on a number."""
    return {"variants": {"yes": True, "no": False}, "default": "yes" if number % 2 else "no"}


def _split(number: int) -> dict[str, Any]:
    condition = {"==": [{"var": "plan"}, f"plan-{number % PLAN_KINDS}"]}
    rule = {"id": "half", "condition": condition, "serve": {"weights": {"yes": 1, "no": 1}}}
    return {**flag(number), "rules": [rule]}


def questions(port: int, http_port: int, *, engine: Engine) -> Mapping[str, Question]:
    """Every kind of call by its name. Each question keeps to its own thread."""
    return {
        "single evaluations": single(),
        "batches": batch(),
        "flagd evaluations": resolve_all,
        "OFREP evaluations": ofrep(http_port, "/flag-1"),
        "OFREP bulk evaluations": ofrep(http_port, ""),
        "OFREP event streams": lambda _: ofrep_events(http_port),
        "streams on one connection": churn,
        "connections with streams": lambda _: churn_connection(port),
        "commits": committer(engine),
    }


def _context(number: int) -> dict[str, Any]:
    # A server that kept anything for a key of a context would be found to grow.
    return {"targetingKey": f"user-{number}", "plan": f"plan-{number % PLAN_KINDS}", "age": number % CONTEXT_VALUES}


def single() -> Question:
    """Evaluate one flag for a context that was never there before."""
    numbers = count()

    def ask(channel: grpc.Channel) -> str:
        number = next(numbers)
        request = ours.EvaluateRequest(flag_key=f"flag-{number % FLAGS}")
        request.context.update(_context(number))
        answer = EvaluationServiceStub(channel).Evaluate(request, timeout=ASK_TIMEOUT_S).resolution
        return "" if answer.WhichOneof("value") == "bool_value" else f"answered {answer}"

    return ask


def batch() -> Question:
    """Evaluate all flags for a few contexts."""
    numbers = count()

    def ask(channel: grpc.Channel) -> str:
        request = ours.EvaluateBatchRequest()
        for _ in range(CONTEXTS):
            request.contexts.add().update(_context(next(numbers)))
        answer = EvaluationServiceStub(channel).EvaluateBatch(request, timeout=ASK_TIMEOUT_S)
        wanted = len(answer.flag_keys) * CONTEXTS
        return "" if len(answer.indices) == wanted > FLAGS else f"{len(answer.indices)} answers instead of {wanted}"

    return ask


def resolve_all(channel: grpc.Channel) -> str:
    """Evaluate all flags as flagd's clients do."""
    answer = ServiceStub(channel).ResolveAll(flagd.ResolveAllRequest(), timeout=ASK_TIMEOUT_S)
    return "" if len(answer.flags) > FLAGS else f"{len(answer.flags)} flags"


def ofrep(port: int, path: str) -> Question:
    """Evaluate over HTTP, on a connection that stays."""
    connection = http.client.HTTPConnection(HOST, port, timeout=ASK_TIMEOUT_S)
    numbers = count()

    def ask(_: grpc.Channel) -> str:
        body = json.dumps({"context": _context(next(numbers))})
        try:
            return _post(connection, path, body)
        except ConnectionError:
            # A server may close a connection that was silent for a while; clients then open another.
            connection.close()
        try:
            return _post(connection, path, body)
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            return repr(error)

    return ask


def _post(connection: http.client.HTTPConnection, path: str, body: str) -> str:
    connection.request("POST", f"/ofrep/v1/evaluate/flags{path}", body, {"content-type": "application/json"})
    reply = connection.getresponse()
    raw = reply.read()
    return "" if reply.status == http.HTTPStatus.OK else f"{reply.status} {raw[:200]!r}"


def ofrep_events(port: int) -> str:
    """Open an event stream over HTTP and leave it."""
    connection = http.client.HTTPConnection(HOST, port, timeout=ASK_TIMEOUT_S)
    try:
        connection.request("GET", "/ofrep/v1/events?flagSetId=default/production")
        reply = connection.getresponse()
        return "" if reply.status == http.HTTPStatus.OK else f"{reply.status} {reply.read()[:200]!r}"
    except (OSError, http.client.HTTPException) as error:
        return repr(error)
    finally:
        connection.close()


def churn(channel: grpc.Channel) -> str:
    """Open a stream of each kind, hear its first message, and leave."""
    own, theirs = EvaluationServiceStub(channel), ServiceStub(channel)
    evaluation = iter([ours.EvaluateStreamRequest(id=1, flag_key=CHANGING)])
    calls: list[Callable[[], Any]] = [
        lambda: own.Watch(ours.WatchRequest(), timeout=ASK_TIMEOUT_S),
        lambda: own.EvaluateStream(evaluation, timeout=ASK_TIMEOUT_S),
        lambda: theirs.EventStream(flagd.EventStreamRequest(), timeout=ASK_TIMEOUT_S),
    ]
    for call in calls:
        stream = call()
        next(stream)
        stream.cancel()
    return ""


def churn_connection(port: int) -> str:
    """The same on a connection of its own, which is closed."""
    with grpc.insecure_channel(f"{HOST}:{port}", options=(("grpc.use_local_subchannel_pool", 1),)) as channel:
        return churn(channel)


def committer(engine: Engine) -> Question:
    """Change one flag, and let others come and go."""
    numbers = count(1)

    def ask(_: grpc.Channel) -> str:
        number = next(numbers)
        passing = f"passing-{number // 2 % PASSING}"
        other: Change = RemoveFlag(passing) if number % 2 else PutFlag(_definition(passing, 1))
        changes = [PutFlag(_definition(CHANGING, number)), *([other] if number > 1 else [])]
        commit(
            engine, project="default", environment="production", changes=changes, actor="proof", now=datetime.now(UTC)
        )
        return ""

    return ask


def _definition(key: str, number: int) -> FlagDefinition:
    definition = read_flag(key, flag(number), problems=Problems(), path="")
    assert isinstance(definition, FlagDefinition)
    return definition
