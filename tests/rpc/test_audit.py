"""AuditService over a real server: pages, streams, exports, heads and what a verification finds."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
from sqlalchemy import Engine

from protos.flagstaff.v1 import audit_pb2 as messages
from server.core.access import Grant, Principal, Role
from server.core.changes import PutFlag, RemoveFlag
from server.core.errors import InvalidRequest, Refused
from server.operations.exports import verify_export
from server.operations.heads import check_head, head_document, read_heads
from server.rpc.audit import head_of
from server.store.engine import writing
from server.store.projects import ensure_server
from server.store.saving import Cause, Record, save_records
from tests.fakes import holder_of, snapshot_of
from tests.rpc.conftest import Serve
from tests.rpc.managing import called, managing, refusal, token
from tests.store.definitions import NOW, behind_our_back, flag, new_shop, put

SERVICE: Final = "/flagstaff.v1.AuditService/"


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Engine]:
    """A shop whose trail has seven entries, two of them of staging."""
    engine = new_shop(tmp_path)
    put(engine, PutFlag(flag()), reason="first try", cause="T-1")
    put(engine, PutFlag(flag(default="on")), actor="bob", request_id="r-1", now=NOW + timedelta(hours=1))
    put(engine, PutFlag(flag("other")), environment="staging", now=NOW + timedelta(hours=2))
    put(engine, RemoveFlag("checkout"), now=NOW + timedelta(hours=3))
    yield engine
    engine.dispose()


def listing(**fields: Any) -> messages.ListAuditEntriesRequest:
    """A request for the shop's entries."""
    return messages.ListAuditEntriesRequest(**{"project": "shop", **fields})


def filtered(**fields: Any) -> messages.AuditFilter:
    """A filter, whose instants are given as Python's."""
    instants = {name: fields.pop(name) for name in ("since", "until") if name in fields}
    wanted = messages.AuditFilter(**fields)
    for name, at in instants.items():
        getattr(wanted, name).FromDatetime(at)
    return wanted


async def listed(serve: Serve, engine: Engine, request: messages.ListAuditEntriesRequest, **how: Any) -> Any:
    """What a list gives."""
    with managing(engine) as (_, table):
        running = await serve(table=table)
        return await called(
            running.channel, f"{SERVICE}ListAuditEntries", request, messages.ListAuditEntriesResponse, **how
        )


async def test_the_newest_entry_stands_first_with_its_changes(serve: Serve, shop: Engine) -> None:
    """As people read them; documents only where they are asked for."""
    few = await listed(serve, shop, listing())
    full = await listed(serve, shop, listing(view=messages.AUDIT_VIEW_FULL))

    assert [7, 6, 5, 4, 3, 2, 1] == [each.sequence for each in few.entries]
    second = few.entries[2]
    assert ("bob", "flag.updated", "checkout", "production", "r-1") == (
        second.actor, second.action, second.subject_key, second.environment, second.request_id
    )  # fmt: skip
    assert (["default off -> on"], False) == ([each.text for each in second.differences], second.HasField("before"))
    (difference,) = full.entries[2].differences
    assert ("/default", '"off"', '"on"') == (difference.path, difference.before, difference.after)
    assert "on" == json.loads(full.entries[2].after)["default"]


@pytest.mark.parametrize(
    ("fields", "sequences"),
    [
        ({"environment": "staging"}, [6, 3]),
        ({"filter": filtered(actor="bob")}, [5]),
        ({"filter": filtered(action="flag.removed")}, [7]),
        ({"filter": filtered(subject_kind="flag", subject_key="checkout")}, [7, 5, 4]),
        ({"filter": filtered(subject_kind="environment")}, [3, 2]),
        ({"filter": filtered(cause="T-1")}, [4]),
        ({"filter": filtered(request_id="r-1")}, [5]),
        ({"filter": filtered(since=NOW + timedelta(hours=1), until=NOW + timedelta(hours=3))}, [6, 5]),
        ({"filter": filtered(until=NOW)}, []),
        ({"filter": filtered(since=NOW + timedelta(days=1))}, []),
        ({"filter": filtered(text="FIRST t")}, [4]),
        ({"filter": filtered(text="50%_")}, []),
        ({"filter": filtered(subject_kind="flag", text="other")}, [6]),
    ],
)
async def test_entries_are_chosen(serve: Serve, shop: Engine, fields: Any, sequences: list[int]) -> None:
    """By who, what, where, when and why."""
    assert sequences == [each.sequence for each in (await listed(serve, shop, listing(**fields))).entries]


async def test_pages_follow_each_other(serve: Serve, shop: Engine) -> None:
    """Each begins where the one before it ended; the last has no token."""
    found, request = [], listing(page_size=3)
    while True:
        page = await listed(serve, shop, request)
        found.append([each.sequence for each in page.entries])
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token

    assert [[7, 6, 5], [4, 3, 2], [1]] == found


async def test_the_server_has_a_trail_of_its_own(serve: Serve, shop: Engine) -> None:
    """Of what belongs to no project; whatever kind of subject somebody audits."""
    document = '{"name":"ci","roles":["edit"]}'
    with writing(shop) as connection:
        ensure_server(connection, NOW)
        save_records(
            connection,
            Cause("", "boss", NOW, "", "", ""),
            records=[Record("", 0, "token.created", "token", "k3Jd", None, document)],
            damaged=(),
        )
    reply = await listed(serve, shop, listing(project=""))

    assert [("token", "k3Jd", "created")] == [
        (each.subject_kind, each.subject_key, each.differences[0].text) for each in reply.entries
    ]


@pytest.mark.parametrize(
    ("request_", "by", "code", "message"),
    [
        (listing(project="none"), "", grpc.StatusCode.NOT_FOUND, "project 'none' does not exist, and never did"),
        (listing(page_size=1_001), "", grpc.StatusCode.INVALID_ARGUMENT, "page_size is 1001"),
        (listing(page_token="x"), "", grpc.StatusCode.INVALID_ARGUMENT, "page_token"),
        (listing(), "elsewhere", grpc.StatusCode.PERMISSION_DENIED, "may not read in shop"),
        (listing(environment="production"), "elsewhere", grpc.StatusCode.PERMISSION_DENIED, "shop/production"),
    ],
)
async def test_a_list_is_refused(
    serve: Serve, shop: Engine, request_: Any, by: str, code: grpc.StatusCode, message: str
) -> None:
    """With what helps."""
    with managing(shop) as (_, table):
        running = await serve(table=table)
        found, said = await refusal(running.channel, f"{SERVICE}ListAuditEntries", request_, by=by)

    assert (code, True) == (found, message in said), said


async def test_who_may_read_one_environment_reads_its_entries(serve: Serve, shop: Engine) -> None:
    """And no other's."""
    reply = await listed(serve, shop, listing(environment="staging"), by="elsewhere")

    assert [6, 3] == [each.sequence for each in reply.entries]


async def test_a_watch_has_no_gap(serve: Serve, shop: Engine) -> None:
    """First what is there, then what is committed, each once and in order."""
    with managing(shop) as (_, table):
        running = await serve(table=table)
        stream = watching(running.channel, after_sequence=4)
        there = [await entry(stream) for _ in range(3)]
        for number in range(3):
            put(shop, PutFlag(flag(f"new-{number}")), PutFlag(flag(f"more-{number}")))
        new = [await entry(stream) for _ in range(6)]
        stream.cancel()

    assert [5, 6, 7, *range(8, 14)] == there + new


async def test_a_watch_from_now_on_tells_where_it_begins(serve: Serve, shop: Engine) -> None:
    """So that who loses it before the first entry misses nothing."""
    with managing(shop) as (_, table):
        running = await serve(table=table)
        stream = watching(running.channel, after_sequence=-1)
        begins = (await stream.read()).sequence
        put(shop, PutFlag(flag("new")))
        found = await entry(stream)
        stream.cancel()

    assert (7, 8) == (begins, found)


async def test_a_watch_that_is_ahead_is_refused(serve: Serve, shop: Engine) -> None:
    """A database that was put back must not look like one in which nothing happens."""
    with managing(shop) as (_, table):
        running = await serve(table=table)
        with pytest.raises(grpc.aio.AioRpcError, match="the trail ends with entry 7, and 90 was asked for"):
            await entry(watching(running.channel, after_sequence=90))


async def test_a_watch_of_a_trail_with_a_hole_ends(serve: Serve, shop: Engine) -> None:
    """Rather than going on as if there were none."""
    with behind_our_back(shop) as connection:
        connection.execute("DROP TRIGGER audit_entry_refuses_delete")
        connection.execute("DELETE FROM audit_entry WHERE sequence = 5")
    with managing(shop) as (_, table):
        running = await serve(table=table)
        with pytest.raises(grpc.aio.AioRpcError, match="entry 5 of the audit trail is missing, entry 6 follows"):
            await entry(watching(running.channel))


async def test_a_watch_is_for_who_may_read(serve: Serve, shop: Engine) -> None:
    """As a list is."""
    with managing(shop) as (_, table):
        running = await serve(table=table)
        with pytest.raises(grpc.aio.AioRpcError, match="may not read in shop"):
            await entry(watching(running.channel, by="elsewhere"))


async def test_a_watch_ends_when_the_server_stops(serve: Serve, shop: Engine) -> None:
    """With a status that brings its client back."""
    with managing(shop) as (_, table):
        running = await serve(holder=holder_of(snapshot_of()), management=table)
        stream = watching(running.channel, after_sequence=-1)
        await stream.read()
        running.services.drain.end_streams()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await asyncio.wait_for(entry(stream), 30)

    assert grpc.StatusCode.UNAVAILABLE is caught.value.code()


async def test_an_export_verifies_by_itself(serve: Serve, shop: Engine) -> None:
    """Entries as lines, and the signed head as the last one."""
    lines, head = await exported(serve, shop)
    verified, found = verify_export(lines, signer=head.public_key)

    assert (8, True, 7) == (len(lines), verified.whole, verified.last_sequence)
    assert (7, head.signature) == (found.sequence, found.signature)
    assert [found] == read_heads("\n".join(lines))


@pytest.mark.parametrize(
    ("edit", "text"),
    [
        (lambda lines: [lines[0].replace("ann", "eve"), *lines[1:]], "entry 1 was changed after it was written"),
        (lambda lines: [*lines[:3], *lines[4:]], "entry 4 is missing, entry 5 follows"),
        (lambda lines: [*lines[:5], lines[-1]], "entries 6 to 7 are missing at the end"),
    ],
)
async def test_a_changed_export_is_told(serve: Serve, shop: Engine, edit: Any, text: str) -> None:
    """As a changed database is."""
    lines, _ = await exported(serve, shop)

    assert [True] == [text in str(each) for each in verify_export(edit(lines))[0].breaks]


async def test_a_cut_export_is_none(serve: Serve, shop: Engine) -> None:
    """Its last line is the head."""
    lines, _ = await exported(serve, shop)
    with pytest.raises(InvalidRequest, match="without its signed head"):
        verify_export(lines[:-1])


async def test_a_head_finds_what_the_chain_cannot(serve: Serve, shop: Engine) -> None:
    """The end was cut off, and everything that told of it."""
    with managing(shop) as (_, table):
        running = await serve(table=table)
        head = await the_head(running.channel)
        whole = await verified(running.channel, heads=[head])
        put_back(shop)
        alone = await verified(running.channel)
        found = await verified(running.channel, heads=[head])

    assert ([], []) == (list(whole.trails[0].breaks), list(alone.trails[0].breaks))
    (broken,) = found.trails[0].breaks
    assert (7, messages.AuditBreak.KIND_TRUNCATED) == (broken.sequence, broken.kind)


async def test_every_trail_is_verified(serve: Serve, shop: Engine) -> None:
    """The server's too, and rows of none."""
    with managing(shop) as (_, table):
        running = await serve(table=table)
        reply = await verified(running.channel, project="", every_trail=True)

    assert ([("", 0), ("shop", 7)], 0) == (
        [(each.project, each.entry_count) for each in reply.trails],
        reply.stray_count,
    )


@pytest.mark.parametrize("field", ["project", "sequence", "hash", "at", "signature"])
async def test_a_changed_head_is_refused(serve: Serve, shop: Engine, field: str) -> None:
    """Whatever of it was changed."""
    with managing(shop) as (_, table):
        head = head_of(await the_head((await serve(table=table)).channel))
    old: Any = getattr(head, field)
    new = old + 1 if field == "sequence" else old + timedelta(1) if field == "at" else old[:-1] + old[:1]
    check_head(head, signer=head.public_key)

    with pytest.raises(Refused, match="was changed after it was signed"):
        check_head(replace(head, **{field: new}), signer=head.public_key)


async def test_a_head_of_another_server_is_refused(serve: Serve, shop: Engine) -> None:
    """Unless its key is named."""
    with managing(shop) as (_, table):
        running = await serve(table=table)
        head = await the_head(running.channel)
        head.public_key = bytes(32)
        request = messages.VerifyAuditTrailRequest(project="shop", heads=[head])
        code, message = await refusal(running.channel, f"{SERVICE}VerifyAuditTrail", request)

    assert (grpc.StatusCode.FAILED_PRECONDITION, True) == (code, "was signed by key 0000000000000000" in message)


async def test_who_may_read_a_project_verifies_no_other(serve: Serve, shop: Engine) -> None:
    """Nor all of them."""
    with managing(shop) as (manager, table):
        manager.people["local"] = Principal("token:local", (Grant(Role.READ, "shop"),))
        running = await serve(table=table)
        own = await verified(running.channel, by="local")
        request = messages.VerifyAuditTrailRequest(every_trail=True)
        code, _ = await refusal(running.channel, f"{SERVICE}VerifyAuditTrail", request, by="local")

    assert (7, grpc.StatusCode.PERMISSION_DENIED) == (own.trails[0].entry_count, code)


@pytest.mark.parametrize("text", ["{}", "[]", '{"format": "flagstaff-audit-head/2"}', "x", '{"format": 1}'])
def test_what_is_no_head_is_refused(text: str) -> None:
    """With what would be one."""
    with pytest.raises(InvalidRequest, match=r"head"):
        read_heads(text)


def test_heads_are_read_back() -> None:
    """As they were written."""
    from server.core.trails import Mark
    from server.operations.heads import sign_head

    head = sign_head("shop", Mark(3, "ab"), secret=b"x" * 32, now=NOW)

    assert [head] == read_heads(json.dumps(head_document(head)))


def watching(channel: Any, *, by: str = "", **fields: Any) -> Any:
    """A watch of the shop's trail."""
    method = channel.unary_stream(
        f"{SERVICE}WatchAuditEntries",
        request_serializer=messages.WatchAuditEntriesRequest.SerializeToString,
        response_deserializer=messages.WatchAuditEntriesResponse.FromString,
    )
    return method(messages.WatchAuditEntriesRequest(**{"project": "shop", **fields}), metadata=token(by))


async def entry(stream: Any) -> int:
    """The next entry's sequence number."""
    while True:
        news = await asyncio.wait_for(stream.read(), 30)
        if news.HasField("entry"):
            return int(news.entry.sequence)


async def exported(serve: Serve, engine: Engine) -> tuple[list[str], messages.SignedAuditHead]:
    """The lines of an export, and the head that its last message has."""
    with managing(engine) as (_, table):
        running = await serve(table=table)
        method = running.channel.unary_stream(
            f"{SERVICE}ExportAuditEntries",
            request_serializer=messages.ExportAuditEntriesRequest.SerializeToString,
            response_deserializer=messages.ExportAuditEntriesResponse.FromString,
        )
        portions = [each async for each in method(messages.ExportAuditEntriesRequest(project="shop"))]
    return b"".join(each.lines for each in portions).decode().splitlines(), portions[-1].head


async def the_head(channel: Any) -> messages.SignedAuditHead:
    """The head of the shop's trail."""
    request = messages.GetAuditHeadRequest(project="shop")
    reply = await called(channel, f"{SERVICE}GetAuditHead", request, messages.GetAuditHeadResponse)
    head: messages.SignedAuditHead = reply.head
    return head


async def verified(channel: Any, *, by: str = "", **fields: Any) -> Any:
    """What a verification of the shop's trail finds."""
    request = messages.VerifyAuditTrailRequest(**{"project": "shop", **fields})
    return await called(channel, f"{SERVICE}VerifyAuditTrail", request, messages.VerifyAuditTrailResponse, by=by)


def put_back(engine: Engine) -> None:
    """Cut the last entry off, with everything in the database that tells of it."""
    with behind_our_back(engine) as connection:
        connection.execute("DROP TRIGGER audit_entry_refuses_delete")
        connection.execute("DELETE FROM audit_entry WHERE sequence = 7")
        connection.execute("UPDATE environment SET revision = 3 WHERE key = 'production'")
