"""HistoryService over a real server: what happened, what was, what it answered, and bringing it back."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
from sqlalchemy import Engine

from protos.flagstaff.v1 import common_pb2 as common
from protos.flagstaff.v1 import evaluation_pb2 as evaluation
from protos.flagstaff.v1 import history_pb2 as messages
from server.core.changes import PutFlag, PutSegment, RemoveFlag, RemoveSegment, UpdateEnvironment
from tests.fakes import struct
from tests.rpc.conftest import Serve
from tests.rpc.managing import called, managing, refusal
from tests.store.definitions import NOW, at, flag, new_shop, put, segment, stored

SERVICE: Final = "/flagstaff.v1.HistoryService/"
HERE: Final[dict[str, Any]] = {"project": "shop", "environment": "production"}
CHECKOUT: Final[dict[str, Any]] = {**HERE, "kind": messages.THING_KIND_FLAG, "key": "checkout"}
WHOLE: Final[dict[str, Any]] = {**HERE, "kind": messages.THING_KIND_ENVIRONMENT}
BORN: Final = messages.AsOf(revision=1)


def rule(percent: int, salt: str = "checkout/beta/share") -> dict[str, Any]:
    """A rule with a share."""
    return {"id": "beta", "serve": "on", "share": {"percent": percent, "salt": salt}}


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Engine]:
    """A flag of four revisions: created, a rule at 10 %, at 25 %, with an owner; segment vip beside it."""
    engine = new_shop(tmp_path)
    put(engine, PutFlag(flag()), PutSegment(segment("vip", {"==": [{"var": "plan"}, "pro"]})), now=NOW)
    steps: list[dict[str, Any]] = [
        {"rules": [rule(10)]},
        {"rules": [rule(25)]},
        {"rules": [rule(25)], "owner": "team-a"},
    ]
    for number, fields in enumerate(steps, start=1):
        put(engine, PutFlag(flag(**fields)), now=NOW + timedelta(hours=number), reason=f"step {number}", cause="T-1")
    yield engine
    engine.dispose()


async def asked(serve: Serve, engine: Engine, method: str, request: Any, *, by: str = "") -> Any:
    """What a method answers."""
    reply = getattr(messages, type(request).__name__.replace("Request", "Response"))
    with managing(engine) as (_, table):
        return await called((await serve(table=table)).channel, f"{SERVICE}{method}", request, reply, by=by)


async def refused(serve: Serve, engine: Engine, method: str, request: Any, *, by: str = "") -> Any:
    """How a method refuses."""
    with managing(engine) as (_, table):
        return await refusal((await serve(table=table)).channel, f"{SERVICE}{method}", request, by=by)


async def test_revisions_are_told_in_words(serve: Serve, shop: Engine) -> None:
    """The newest first, with who, why and what."""
    reply = await asked(serve, shop, "ListRevisions", messages.ListRevisionsRequest(**CHECKOUT))
    told = [(each.revision, each.actor, each.reason, [it.text for it in each.differences]) for each in reply.revisions]

    assert [
        (5, "ann", "step 3", ['owner "" -> "team-a"']),
        (4, "ann", "step 2", ["share of rule beta 10 % -> 25 %"]),
        (3, "ann", "step 1", ["rule beta added at the end: everybody, share 10 %: on"]),
        (2, "ann", "", ["created (boolean, on, default off)"]),
    ] == told
    assert (4, "") == (reply.total_size, reply.next_page_token)


async def test_both_sides_are_given_where_they_are_asked_for(serve: Serve, shop: Engine) -> None:
    """As JSON."""
    request = messages.ListRevisionsRequest(**CHECKOUT, full=True)
    (difference,) = (await asked(serve, shop, "ListRevisions", request)).revisions[1].differences

    assert ("/rules/beta/share/percent", "10", "25") == (difference.path, difference.before, difference.after)


async def test_revisions_come_in_pages(serve: Serve, shop: Engine) -> None:
    """Each begins where the one before it ended."""
    found, request = [], messages.ListRevisionsRequest(**CHECKOUT, page_size=3)
    for _ in range(2):
        page = await asked(serve, shop, "ListRevisions", request)
        found.append([each.revision for each in page.revisions])
        request.page_token = page.next_page_token

    assert ([[5, 4, 3], [2]], "") == (found, request.page_token)


async def test_segments_and_environments_have_histories(serve: Serve, shop: Engine) -> None:
    """Of their own changes."""
    put(shop, PutSegment(segment("vip", True)), UpdateEnvironment(critical=True))
    vip = messages.ListRevisionsRequest(**HERE, kind=messages.THING_KIND_SEGMENT, key="vip")
    of_segment = await asked(serve, shop, "ListRevisions", vip)
    of_environment = await asked(serve, shop, "ListRevisions", messages.ListRevisionsRequest(**WHOLE))

    assert ['condition plan == "pro" -> true', "created (a condition)"] == [
        each.differences[0].text for each in of_segment.revisions
    ]
    assert ["critical no -> yes", "created"] == [each.differences[0].text for each in of_environment.revisions]


async def test_another_environment_has_another_history(serve: Serve, shop: Engine) -> None:
    """Though a shared part is in both."""
    put(shop, PutFlag(flag()), environment="staging")
    put(shop, PutFlag(flag(rules=[rule(25)], owner="team-b")))
    request = messages.ListRevisionsRequest(**{**CHECKOUT, "environment": "staging"})
    reply = await asked(serve, shop, "ListRevisions", request)

    assert [['owner "" -> "team-b"'], ["created (boolean, on, default off)"]] == [
        [it.text for it in each.differences] for each in reply.revisions
    ]


@pytest.mark.parametrize(
    ("as_of", "revision", "rules"),
    [
        (messages.AsOf(revision=3), 3, [10]),
        (messages.AsOf(), 5, [25]),
        (messages.AsOf(revision=2), 2, []),
    ],
)
async def test_a_thing_is_given_as_it_was(
    serve: Serve, shop: Engine, as_of: messages.AsOf, revision: int, rules: list[int]
) -> None:
    """At a revision, or now."""
    reply = await asked(serve, shop, "GetRevision", messages.GetRevisionRequest(**CHECKOUT, as_of=as_of))

    assert (revision, rules) == (
        reply.revision,
        [each["share"]["percent"] for each in json.loads(reply.document).get("rules", [])],
    )


async def test_a_revert_is_a_change(serve: Serve, shop: Engine) -> None:
    """With a revision, an entry and a cause of its own; the past is not touched."""
    request = messages.RevertRequest(**CHECKOUT, revision=3, options=common.WriteOptions(reason="too soon"))
    reply = await asked(serve, shop, "Revert", request)
    newest = (await asked(serve, shop, "ListRevisions", messages.ListRevisionsRequest(**CHECKOUT))).revisions[0]

    assert common.OUTCOME_APPLIED == reply.result.outcome
    assert {
        "flag checkout: share of rule beta 25 % -> 10 %",
        'flag checkout: owner "team-a" -> ""',
    } == set(reply.result.changes)
    assert (6, "too soon", "revert:3") == (newest.revision, newest.reason, newest.cause)
    assert 6 == at(shop).revision


async def test_a_dry_run_reverts_nothing(serve: Serve, shop: Engine) -> None:
    """And says what would come back."""
    request = messages.RevertRequest(**CHECKOUT, revision=4, options=common.WriteOptions(dry_run=True))
    reply = await asked(serve, shop, "Revert", request)

    assert (common.OUTCOME_WOULD_APPLY, ['flag checkout: owner "team-a" -> ""'], 5) == (
        reply.result.outcome,
        list(reply.result.changes),
        at(shop).revision,
    )


async def test_what_environments_share_may_stay(serve: Serve, shop: Engine) -> None:
    """Only this environment's configuration is brought back."""
    await asked(serve, shop, "Revert", messages.RevertRequest(**CHECKOUT, revision=3, keep_shared=True))
    document = stored(shop).flags["checkout"]

    assert document is not None
    assert ("team-a", 10) == (document["owner"], document["rules"][0]["share"]["percent"])


async def test_a_removed_flag_comes_back(serve: Serve, shop: Engine) -> None:
    """As it was."""
    put(shop, RemoveFlag("checkout"))
    await asked(serve, shop, "Revert", messages.RevertRequest(**CHECKOUT, revision=5))

    assert "checkout" in stored(shop).flags


async def test_an_environment_is_reverted(serve: Serve, shop: Engine) -> None:
    """By who may administer it, and nobody else."""
    put(shop, UpdateEnvironment(name="Live", critical=True))
    request = messages.RevertRequest(**WHOLE, revision=5)
    code, message = await refused(serve, shop, "Revert", request, by="editor")
    reply = await asked(serve, shop, "Revert", request)

    assert (grpc.StatusCode.PERMISSION_DENIED, True) == (code, "may not administer" in message)
    assert ['environment production: name "Live" -> ""', "environment production: critical yes -> no"] == list(
        reply.result.changes
    )


async def test_what_is_so_already_is_unchanged(serve: Serve, shop: Engine) -> None:
    """No revision for nothing."""
    reply = await asked(serve, shop, "Revert", messages.RevertRequest(**CHECKOUT, revision=5))

    assert common.OUTCOME_UNCHANGED == reply.result.outcome


async def test_what_does_not_fit_any_more_is_refused(serve: Serve, shop: Engine) -> None:
    """With everything that stands in the way."""
    needs = flag(rules=[{"id": "vip", "condition": {"$ref": "vip"}, "serve": "on"}])
    put(shop, PutFlag(needs))
    put(shop, PutFlag(flag()))
    put(shop, RemoveSegment("vip"))
    code, message = await refused(serve, shop, "Revert", messages.RevertRequest(**CHECKOUT, revision=6))

    assert (grpc.StatusCode.INVALID_ARGUMENT, True) == (code, "segment 'vip' does not exist" in message), message
    assert 8 == at(shop).revision


async def test_salts_stay_unless_they_are_to_come_back(serve: Serve, shop: Engine) -> None:
    """Reverting moves nobody from the variant they have, unless it is asked for."""
    put(shop, PutFlag(flag(rules=[rule(25, "another")]), rerandomise=True))
    kept = await asked(serve, shop, "Revert", messages.RevertRequest(**CHECKOUT, revision=4))
    put(shop, PutFlag(flag(rules=[rule(25, "third")]), rerandomise=True))
    back = await asked(serve, shop, "Revert", messages.RevertRequest(**CHECKOUT, revision=6, rerandomise=True))

    assert common.OUTCOME_UNCHANGED == kept.result.outcome
    assert any("units are dealt anew" in each for each in back.result.changes)


async def test_a_stale_revert_is_refused(serve: Serve, shop: Engine) -> None:
    """When the thing changed since it was looked at."""
    request = messages.RevertRequest(**CHECKOUT, revision=3, options=common.WriteOptions(expected_version=4))
    code, message = await refused(serve, shop, "Revert", request)

    assert (grpc.StatusCode.ABORTED, True) == (code, "has version 5, expected version 4" in message)


@pytest.mark.parametrize(
    ("method", "request_", "by", "code", "message"),
    [
        ("ListRevisions", messages.ListRevisionsRequest(**{**CHECKOUT, "key": "none"}), "", "NOT_FOUND", "never was"),
        ("ListRevisions", messages.ListRevisionsRequest(**HERE), "", "INVALID_ARGUMENT", "needs kind"),
        ("ListRevisions", messages.ListRevisionsRequest(project="shop"), "", "INVALID_ARGUMENT", "needs environment"),
        (
            "ListRevisions",
            messages.ListRevisionsRequest(**CHECKOUT, page_token="-"),
            "",
            "INVALID_ARGUMENT",
            "page_tok",
        ),
        ("ListRevisions", messages.ListRevisionsRequest(**CHECKOUT), "elsewhere", "PERMISSION_DENIED", "may not read"),
        ("ListRevisions", messages.ListRevisionsRequest(**WHOLE, key="x"), "", "INVALID_ARGUMENT", "leave key out"),
        (
            "GetRevision",
            messages.GetRevisionRequest(**CHECKOUT, as_of=messages.AsOf(revision=1)),
            "",
            "NOT_FOUND",
            "is",
        ),
        (
            "GetRevision",
            messages.GetRevisionRequest(**CHECKOUT, as_of=messages.AsOf(revision=-1)),
            "",
            "INVALID_ARGUMENT",
            "begin with 1",
        ),
        ("Revert", messages.RevertRequest(**CHECKOUT), "", "INVALID_ARGUMENT", "needs revision"),
        ("Revert", messages.RevertRequest(**CHECKOUT, revision=99), "", "NOT_FOUND", "revisions 1 to 5"),
        ("Revert", messages.RevertRequest(**CHECKOUT, revision=3), "reader", "PERMISSION_DENIED", "may not edit"),
        ("EvaluateAsOf", messages.EvaluateAsOfRequest(**HERE), "", "INVALID_ARGUMENT", "needs flag_key"),
        ("DiffEvaluations", messages.DiffEvaluationsRequest(**HERE), "", "INVALID_ARGUMENT", "needs first"),
        (
            "DiffEvaluations",
            messages.DiffEvaluationsRequest(**HERE, first=messages.AsOf(revision=4), second=messages.AsOf(revision=2)),
            "",
            "INVALID_ARGUMENT",
            "exchange them",
        ),
    ],
)
async def test_a_wrong_request_is_refused(
    serve: Serve, shop: Engine, method: str, request_: Any, by: str, code: str, message: str
) -> None:
    """With what helps."""
    found, said = await refused(serve, shop, method, request_, by=by)

    assert (code, True) == (found.name, message in said), said


async def test_a_flag_is_evaluated_as_of_an_instant(serve: Serve, shop: Engine) -> None:
    """With its steps."""
    as_of = messages.AsOf()
    as_of.at.FromDatetime(NOW + timedelta(minutes=90))
    request = messages.EvaluateAsOfRequest(
        **HERE, flag_key="checkout", context=struct({"targetingKey": "u"}), as_of=as_of, explain=True
    )
    reply = await asked(serve, shop, "EvaluateAsOf", request)

    assert (3, "checkout") == (reply.revision, reply.resolution.flag_key)
    assert evaluation.REASON_UNSPECIFIED != reply.resolution.reason
    assert ["state", "rule beta", "answer"] == [each.what for each in reply.steps]


async def test_two_moments_are_compared(serve: Serve, shop: Engine) -> None:
    """Which flag, which revision, who and why."""
    units = [f"user-{number}" for number in range(40)]
    moved: list[Any] = []
    with managing(shop) as (_, table):
        channel = (await serve(table=table)).channel
        for unit in units:
            request = messages.DiffEvaluationsRequest(
                **HERE, context=struct({"targetingKey": unit}), first=messages.AsOf(revision=2)
            )
            reply = await called(channel, f"{SERVICE}DiffEvaluations", request, messages.DiffEvaluationsResponse)
            moved += reply.flags

    assert {("checkout", "off", "on")} == {(each.flag_key, each.before.variant, each.after.variant) for each in moved}
    moves = {(each.moves[0].revision, each.moves[0].changes[0].reason, len(each.moves)) for each in moved}
    assert {(3, "step 1", 1), (4, "step 2", 1)} == moves
