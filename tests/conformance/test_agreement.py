"""Official providers that evaluate in their own process, fed by our sync stream, agree with our answers over gRPC.

What may differ is only how `fractional` hashes, which each provider's version decides and a flag set cannot say:

- Python (openfeature-flagd-core 2) has v3, the CBOR of a value; it is compared with a flag set of that bucketing.
- Node (flagd-core 4) and Go (flagd's core 0.16) have v2, flagd's own.
- Java 0.11.15, the last one in Maven Central, has v1, percentages, which flagd left in spring 2026 and which we do not
  speak. It agrees on flags without `fractional`, and must not on those with one: a newer version would.

DIFFERENT names each flag that a client evaluates in another way, with the reason.
"""

import random
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
from google.protobuf.json_format import MessageToDict

from protos.flagstaff.v1 import evaluation_pb2 as messages
from protos.flagstaff.v1.evaluation_pb2_grpc import EvaluationServiceStub
from server.core.definitions.text import parse_text
from server.operations.samples import NAME, sample_text
from tests.conformance.cases import same
from tests.conformance.installations import IN_PROCESS_CLIENTS
from tests.conformance.processes import HOST, Driver, DriverOf, FlagSetFile, Server, ServerOf, import_flags
from tests.conformance.testbed import read

FLAGS: Final = Path(__file__).with_name("agreement_flags.json")
SEED: Final = 20_261_123
CONTEXTS: Final = 1_000
SEEN_TIMEOUT_S: Final = 60.0

BUCKETING: Final = {"python": "v3", "node": "v2", "java": "v2", "go": "v2"}
"""The flag set that a client is compared with; each project has the same flags."""

HASHED: Final = (
    "button-colour", "checkout-layout", "eighth", "new-checkout", "raw-explicit", "raw-shorthand", "split-by-company",
)  # fmt: skip
"""Flags that `fractional` decides."""

DIFFERENT: Final[Mapping[str, Mapping[str, str]]] = {
    "java": {
        **dict.fromkeys(HASHED, "bucketing v1"),
        "disabled": "an error in this version, FLAG_NOT_FOUND; the application gets its own default either way",
        "no-default": "an error in this version, GENERAL; the application gets its own default either way",
        "raw-nested": "an absent number is not below 18 for its JsonLogic; for all others it counts as 0",
    },
}
"""By client, the flags that it evaluates otherwise for reasons of its own. Not one flag more, and not one less."""

TYPES: Final = {bool: "Boolean", str: "String", int: "Integer", float: "Float", dict: "Object"}
DEFAULTS: Final = {"Boolean": False, "String": "mine", "Integer": -1, "Float": -0.5, "Object": {}}

CHOICES: Final[Mapping[str, tuple[Any, ...]]] = {
    "country": ("FR", "BE", "DE", "AT", "GB", ""),
    "company": ("acme", "globex", "initech", "umbrella", "d\u00fcsseldorf \U0001f511", ""),
    "email": ("ann@shop.example", "qa.bob@example.com", "qa.", "carol@example.com", "@shop.example"),
    "premium": (True, False),
    "age": (0, 17, 18, 20, 20.5, 29.99, 30, 64, 65, 107),
    "client": (
        {"kind": "app", "version": "2.4.0"},
        {"kind": "app", "version": "2.3.9"},
        {"kind": "web", "version": "v10.0.1"},
        {"kind": "app", "version": "1.2.7-beta.1"},
        {"kind": "app", "version": "nonsense"},
        {"kind": "app"},
    ),
    "tags": (["beta"], ["alpha", "beta"], [], ["alphabeta"], "beta", "nobetahere"),
}
"""What a context may have for an attribute; it may also lack it."""


def flags() -> dict[str, Any]:
    """The shop's sample flags and ours beside them."""
    shop = parse_text(sample_text(), name=NAME)
    assert isinstance(shop, dict)
    return {**shop, "flags": {**shop["flags"], **read(FLAGS)["flags"]}}


def draw_contexts() -> list[dict[str, Any]]:
    """The same ones at every run."""
    dice = random.Random(SEED)
    return [_context(dice, number) for number in range(CONTEXTS)]


def _context(dice: random.Random, number: int) -> dict[str, Any]:
    unit = dice.choice(("alice", "carol", "dave", "") if number % 10 == 0 else (f"user-{number}",))
    context: dict[str, Any] = {name: dice.choice(values) for name, values in CHOICES.items() if dice.random() < 0.8}
    return context if number % 25 == 7 else {"targetingKey": unit, **context}


@pytest.fixture
def server(server_of: ServerOf) -> Server:
    """One server with the same flags under both bucketings."""
    return server_of("agreement", [FlagSetFile(flags(), name, bucketing=name) for name in ("v2", "v3")])


@pytest.fixture(params=IN_PROCESS_CLIENTS)
def client(request: pytest.FixtureRequest) -> str:
    """Every provider in turn."""
    return str(request.param)


def in_process(client: str, server: Server, driver_of: DriverOf) -> Driver:
    """The provider, with the flag set of its bucketing."""
    selector = f"flagSetId={BUCKETING[client]}/production"
    driver = driver_of(client, server, {"resolver": "in-process", "selector": selector})
    assert (True, None) == (driver.hello["ready"], driver.hello["error"])
    return driver


def ask_by_rpc(server: Server, flag_set: str, contexts: list[dict[str, Any]]) -> dict[str, list[messages.Resolution]]:
    """By flag, our answers for all contexts."""
    request = messages.EvaluateBatchRequest(flag_set=flag_set)
    for context in contexts:
        request.contexts.add().update(context)
    with grpc.insecure_channel(f"{HOST}:{server.port}") as channel:
        response = EvaluationServiceStub(channel).EvaluateBatch(request, timeout=60)
    width = len(response.flag_keys)
    return {
        key: [response.resolutions[response.indices[row * width + column]] for row in range(len(contexts))]
        for column, key in enumerate(response.flag_keys)
    }


def type_of(key: str) -> str:
    """The type under which an application asks for a flag."""
    return TYPES[type(next(iter(flags()["flags"][key]["variants"].values())))]


def as_application(resolution: messages.Resolution, default: Any) -> list[Any]:
    """Value, variant, reason and error code as an application sees our answer: an absent value is its own default."""
    name = resolution.WhichOneof("value")
    value = default if name is None else getattr(resolution, name)
    return [
        MessageToDict(value) if name == "object_value" else value,
        resolution.variant if resolution.HasField("variant") else None,
        messages.Reason.Name(resolution.reason).removeprefix("REASON_"),
        messages.ErrorCode.Name(resolution.error_code).removeprefix("ERROR_CODE_") if resolution.error_code else None,
    ]


def differences(client: str, server: Server, driver_of: DriverOf) -> dict[str, list[Any]]:
    """By flag, what the client sees otherwise than by gRPC; flags without a difference are left out."""
    contexts = draw_contexts()
    driver = in_process(client, server, driver_of)
    found: dict[str, list[Any]] = {}
    for key, resolutions in ask_by_rpc(server, f"{BUCKETING[client]}/production", contexts).items():
        kind = type_of(key)
        fixed = {"type": kind, "key": key, "default": DEFAULTS[kind]}
        answers = driver.ask("evaluateMany", questions=[{**fixed, "context": context} for context in contexts])
        for context, resolution, answer in zip(contexts, resolutions, answers["answers"], strict=True):
            ours = as_application(resolution, DEFAULTS[kind])
            theirs = [answer["value"], answer["variant"] or None, answer["reason"], answer["errorCode"] or None]
            if not same(ours, theirs):
                found.setdefault(key, []).append((context, ours, theirs))
    return found


def test_agrees_with_rpc(client: str, server: Server, driver_of: DriverOf) -> None:
    """Value, variant and reason of every flag, on 1,000 contexts; what is listed as different is so."""
    found = differences(client, server, driver_of)
    unexpected = {key: (len(each), each[:2]) for key, each in found.items() if key not in DIFFERENT.get(client, {})}

    assert {} == unexpected
    assert set(DIFFERENT.get(client, {})) == set(found)


def test_contexts_reach_every_variant(server: Server) -> None:
    """The comparison is of something: each flag that has rules gives several answers to them."""
    answers = ask_by_rpc(server, "v2/production", draw_contexts())
    variants = {key: {each.variant for each in resolutions} for key, resolutions in answers.items()}

    assert {"payments", "disabled", "static", "over"} == {key for key, chosen in variants.items() if len(chosen) == 1}


def test_a_commit_is_seen_without_a_restart(
    client: str, server_of: ServerOf, driver_of: DriverOf, tmp_path: Path
) -> None:
    """The stream brings the new flags, and the provider evaluates by them from then on."""
    server = server_of(f"change-{client}", [FlagSetFile(flags(), BUCKETING[client], bucketing=BUCKETING[client])])
    driver = in_process(client, server, driver_of)
    context = {"targetingKey": "bob"}
    before = driver.evaluate("Integer", "static", default=-1, context=context)["value"]
    changed = {"flags": {"static": {"variants": {"only": 7, "more": 8}, "default": "more"}}}
    database = f"sqlite:///{server.log.parent / 'flags.db'}"
    import_flags(
        tmp_path / "changed.json",
        FlagSetFile(changed, BUCKETING[client], bucketing=BUCKETING[client]),
        database=database,
    )
    deadline = time.monotonic() + SEEN_TIMEOUT_S
    after = before
    while after == before and time.monotonic() < deadline:
        time.sleep(0.05)
        after = driver.evaluate("Integer", "static", default=-1, context=context)["value"]

    assert (7, 8) == (before, after)
