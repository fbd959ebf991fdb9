"""Who may call what: every role against every method, in its place and in others', with tokens good and bad."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from protos.flagd.sync.v1 import sync_pb2 as sync
from protos.flagstaff.v1 import evaluation_pb2 as ours
from server.core.access import OPEN, Action, Asking, Grant, Role, Scope
from server.core.errors import FlagstaffError, NotFound, PermissionDenied, StoreUnavailable, Unauthenticated
from server.core.methods import ACTIONS
from server.rpc.access import guarded
from server.rpc.table import Handler, server_stream, unary_sync
from tests.fakes import FakeCall
from tests.rpc.access import REACHED, House, as_admin, ask, by, hollow, new_house

EVALUATE: Final = "/flagstaff.v1.EvaluationService/Evaluate"
STREAM: Final = "/flagstaff.v1.EvaluationService/EvaluateStream"
RESOLVE: Final = "/flagd.evaluation.v2.Service/ResolveBoolean"
SYNC: Final = "/flagd.sync.v1.FlagSyncService/SyncFlags"
MANAGED: Final = "/flagstaff.v1.TokenService/CreateToken"
REFLECT: Final = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"

# Written out, and not taken from server/core/access.py: it is what that is held against.
MAY: Final[dict[Action, set[Role]]] = {
    Action.PUBLIC: set(Role),
    Action.IDENTIFY: set(Role),
    Action.EVALUATE: {Role.EVALUATE_CLIENT, Role.EVALUATE, Role.READ, Role.EDIT, Role.APPROVE, Role.ADMIN},
    Action.SYNC: {Role.EVALUATE, Role.READ, Role.EDIT, Role.APPROVE, Role.ADMIN},
    Action.READ: {Role.READ, Role.EDIT, Role.APPROVE, Role.SUBSCRIBE, Role.ADMIN},
    Action.EDIT: {Role.EDIT, Role.ADMIN},
    Action.PROPOSE: {Role.EDIT, Role.APPROVE, Role.ADMIN},
    Action.APPROVE: {Role.APPROVE, Role.ADMIN},
    Action.KILL: {Role.EDIT, Role.OPERATE, Role.ADMIN},
    Action.RECORD: {Role.EVALUATE, Role.EDIT, Role.ADMIN},
    Action.SIGNAL: {Role.EDIT, Role.OPERATE, Role.ADMIN},
    Action.BYPASS: {Role.BYPASS},
    Action.SUBSCRIBE: {Role.SUBSCRIBE, Role.ADMIN},
    Action.ADMINISTER: {Role.ADMIN},
}
PLACED: Final = (Action.EVALUATE, Action.SYNC)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """A database with tokens."""
    yield from new_house(tmp_path)


def about(path: str, flag_set: str) -> tuple[bytes, dict[str, str]]:
    """A message and metadata that name a flag set, as the method wants it."""
    if path.startswith("/flagstaff."):
        return ours.EvaluateRequest(flag_set=flag_set).SerializeToString(), {}
    return b"", {"flagd-selector": f"flagSetId={flag_set}"}


async def outcome(table: Any, path: str, text: str, flag_set: str = "shop/production") -> str:
    """What a call with a token comes to."""
    raw, metadata = about(path, flag_set) if ACTIONS[path] in PLACED else (b"", {})
    if path.endswith("/EvaluateStream"):
        raw = ours.EvaluateStreamRequest(flag_set=flag_set).SerializeToString()
    if path.endswith("/EvaluateBatch"):
        raw = ours.EvaluateBatchRequest(flag_set=flag_set).SerializeToString()
    if path.endswith("EvaluationService/Watch"):
        raw = ours.WatchRequest(flag_set=flag_set).SerializeToString()
    try:
        replies = await ask(table[path], by(text, **metadata), raw)
    except FlagstaffError as error:
        return error.code.value
    return "reached" if replies == [REACHED] else repr(replies)


def test_the_table_of_roles_has_every_action() -> None:
    """A new action needs a row here."""
    assert set(Action) == set(MAY)


@pytest.mark.parametrize("role", Role)
async def test_each_role_against_each_method(house: House, role: Role) -> None:
    """Everywhere, in its project, in its environment: the same. In others: refused."""
    table = house.table()
    reaching = [Grant(role), Grant(role, "shop"), Grant(role, "shop", "production")]
    foreign = [Grant(role, "bank"), Grant(role, "shop", "staging"), Grant(role, "bank", "production")]
    texts = {grant: house.token(grant).text for grant in (*reaching, *foreign)}
    wrong = []
    for path, action in ACTIONS.items():
        allowed = "reached" if role in MAY[action] else "PERMISSION_DENIED"
        # Where something is managed is known to its service only, which decides; see test_management_access.py.
        elsewhere = "PERMISSION_DENIED" if action in PLACED else allowed
        for grant, text in texts.items():
            expected = allowed if grant in reaching else elsewhere
            found = await outcome(table, path, text)
            if found != expected:
                wrong.append((path, grant, expected, found))

    assert [] == wrong


@pytest.mark.parametrize("role", Role)
async def test_a_token_that_is_not_good(house: House, role: Role) -> None:
    """Revoked, expired, of another server, cut short, or none: whatever its role, it opens nothing but health."""
    table = house.table()
    grant = Grant(role)
    bad = [house.revoked(grant).text, house.expired(grant).text, house.unknown(grant), house.token(grant).text[:-1], ""]
    wrong = []
    for path, action in ACTIONS.items():
        expected = "reached" if action is Action.PUBLIC else "UNAUTHENTICATED"
        wrong += [(path, text[:12]) for text in bad if await outcome(table, path, text) != expected]

    assert [] == wrong


async def test_a_method_without_an_action_is_refused(house: House) -> None:
    """Also to an administrator, and where nobody is asked: it was forgotten, and nobody knows what it does."""
    table = {"/flagstaff.v1.NewService/Forgotten": unary_sync(lambda raw, call: REACHED)}
    text = house.token(Grant(Role.ADMIN)).text
    for asking in Asking:
        with pytest.raises(PermissionDenied, match="Forgotten"):
            await ask(guarded(table, house.gate(asking))["/flagstaff.v1.NewService/Forgotten"], by(text))


async def test_nobody_is_asked(house: House) -> None:
    """Evaluation is not even wrapped; credentials for somebody else are none of our business."""
    before = hollow()
    table = guarded(before, house.gate(Asking.NOBODY))
    unwrapped = [path for path, action in ACTIONS.items() if action in (*PLACED, Action.PUBLIC)]

    assert all(table[path] is before[path] for path in unwrapped)
    for path in (EVALUATE, MANAGED):
        assert [REACHED] == await ask(table[path], FakeCall({"authorization": "Basic c29tZWJvZHk="}))


@pytest.mark.parametrize("asking", [Asking.NOBODY, Asking.MANAGERS])
async def test_strangers_evaluate(house: House, asking: Asking) -> None:
    """As long as nobody requires tokens for it."""
    table = house.table(asking)

    assert [[REACHED]] * 3 == [await ask(table[path], FakeCall()) for path in (EVALUATE, SYNC, REFLECT)]


async def test_who_manages_is_asked(house: House) -> None:
    """Where strangers may evaluate: no token is UNAUTHENTICATED, and the message says what helps."""
    managed = house.table(Asking.MANAGERS)[MANAGED]

    with pytest.raises(Unauthenticated, match="asks who may administer"):
        await ask(managed, FakeCall())
    call = by(house.token(Grant(Role.ADMIN)).text)
    assert [REACHED] == await ask(managed, call)
    assert call.principal.actor.startswith("token:")


async def test_an_open_server_knows_who_says_so(house: House) -> None:
    """A token that is presented counts, with its rights; without one, the caller may everything."""
    managed = house.table(Asking.NOBODY)[MANAGED]
    stranger = FakeCall()

    assert [REACHED] == await ask(managed, stranger)
    assert OPEN == stranger.principal
    with pytest.raises(PermissionDenied, match=r"may not administer anywhere; it needs the role `admin`"):
        await ask(managed, by(house.token(Grant(Role.READ)).text))
    with pytest.raises(Unauthenticated, match="was revoked"):
        await ask(managed, by(house.revoked(Grant(Role.ADMIN)).text))


@pytest.mark.parametrize(
    ("path", "sent", "raw"),
    [
        (RESOLVE, {"flagd-selector": "flagSetId=shop/staging"}, b""),
        (RESOLVE, {"flagd-selector": "source=old"}, b""),
        (RESOLVE, {"flagd-selector": "old"}, b""),
        (SYNC, {}, sync.SyncFlagsRequest(selector="flagSetId=shop/staging").SerializeToString()),
        (SYNC, {}, sync.SyncFlagsRequest(selector="source=old").SerializeToString()),
        (EVALUATE, {}, ours.EvaluateRequest(flag_set="shop/staging").SerializeToString()),
    ],
)
async def test_a_flag_set_by_any_of_its_names(house: House, path: str, sent: dict[str, str], raw: bytes) -> None:
    """Is the same place: a role there opens it, a role beside it does not."""
    table = house.table()
    inside, beside = (house.token(Grant(Role.EVALUATE, "shop", name)).text for name in ("staging", "production"))

    assert [REACHED] == await ask(table[path], by(inside, **sent), raw)
    with pytest.raises(PermissionDenied, match=r"in shop/staging; it needs the role `evaluate"):
        await ask(table[path], by(beside, **sent), raw)


async def test_the_header_comes_before_the_message(house: House) -> None:
    """As in the handler of sync: the selector of the header is the one that is served, so it is the one that counts."""
    text = house.token(Grant(Role.EVALUATE, "shop", "staging")).text
    raw = sync.SyncFlagsRequest(selector="flagSetId=shop/staging").SerializeToString()

    with pytest.raises(PermissionDenied):
        await ask(house.table()[SYNC], by(text, **{"flagd-selector": "flagSetId=bank/production"}), raw)


async def test_other_flag_sets_are_not_named(house: House) -> None:
    """Whoever may evaluate in one place learns of no other from a wrong name."""
    table = house.table()
    text = house.token(Grant(Role.EVALUATE_CLIENT, "shop")).text
    for name, error in (("shop/nowhere", NotFound), ("bank/nowhere", PermissionDenied), ("x", PermissionDenied)):
        with pytest.raises(error) as refused:
            await ask(table[EVALUATE], by(text), ours.EvaluateRequest(flag_set=name).SerializeToString())

        assert "bank/production" not in str(refused.value)


async def test_each_message_of_a_stream_is_asked_about(house: House) -> None:
    """What comes before a refused one is answered; the refusal ends the stream."""
    text = house.token(Grant(Role.EVALUATE, "shop")).text
    messages = [
        ours.EvaluateStreamRequest(id=1, flag_set=name).SerializeToString()
        for name in ("shop/staging", "shop/production", "bank/production")
    ]
    replies = []

    async def sent() -> Any:
        for each in messages:
            yield each

    with pytest.raises(PermissionDenied, match="bank/production"):
        async for reply in house.table()[STREAM].function(sent(), by(text)):
            replies.append(reply)

    assert [REACHED, REACHED] == replies


@pytest.mark.parametrize("path", [EVALUATE, STREAM, SYNC, "/flagstaff.v1.EvaluationService/EvaluateBatch"])
async def test_a_message_that_cannot_be_read(house: House, path: str) -> None:
    """Is about the default set, which must not open another one; its handler refuses it."""
    table = house.table()

    with pytest.raises(PermissionDenied, match="default/production"):
        await ask(table[path], by(house.token(Grant(Role.EVALUATE, "shop")).text), b"\xff\xff")
    assert [REACHED] == await ask(table[path], by(house.token(Grant(Role.EVALUATE, "default")).text), b"\xff\xff")


@pytest.mark.parametrize("header", ["bearer {}", "BEARER  {}", "Bearer {} "])
async def test_the_scheme_is_read_as_http_has_it(house: House, header: str) -> None:
    """Without regard to case, and to blanks around the token."""
    text = house.token(Grant(Role.EVALUATE)).text

    assert [REACHED] == await ask(house.table()[EVALUATE], FakeCall({"authorization": header.format(text)}))


@pytest.mark.parametrize("header", ["{}", "Basic {}", "Bearer", "Bearer  ", "Token {}", "Bearer {} {}"])
async def test_a_header_that_is_none(house: House, header: str) -> None:
    """Is refused without repeating what it holds, which may be a token after all."""
    text = house.token(Grant(Role.EVALUATE)).text

    with pytest.raises(Unauthenticated) as refused:
        await ask(house.table()[EVALUATE], FakeCall({"authorization": header.format(text, text)}))
    assert text not in str(refused.value)


async def test_before_tokens_were_loaded(house: House) -> None:
    """Nobody is sent away for good: flagd's providers never come back after UNAUTHENTICATED."""
    table, text = house.table(), house.unknown(Grant(Role.EVALUATE))
    house.callers.loaded = False

    with pytest.raises(StoreUnavailable, match="ask again"):
        await ask(table[EVALUATE], by(text))


async def test_a_certificate_stands_for_somebody(house: House) -> None:
    """By any of its names; who has a token besides is who the token says."""
    certificates = {"billing.example.com": (Grant(Role.EVALUATE, "shop"),)}
    table = house.table(certificates=certificates)
    raw, _ = about(EVALUATE, "shop/staging")
    call = FakeCall(certificate=["other", "billing.example.com"])

    assert [REACHED] == await ask(table[EVALUATE], call, raw)
    assert "certificate:billing.example.com" == call.principal.actor
    for refused in (FakeCall(certificate=["other"]), FakeCall()):
        with pytest.raises(Unauthenticated):
            await ask(table[EVALUATE], refused, raw)
    call = by(house.token(Grant(Role.READ)).text)
    call.certificate = ["billing.example.com"]
    await ask(table[EVALUATE], call, raw)
    assert call.principal.actor.startswith("token:")


async def test_the_streams_of_a_revoked_token_end(house: House) -> None:
    """At once, with UNAUTHENTICATED and the reason, while they wait; those of others go on."""
    waiting = asyncio.Event()
    table = guarded({SYNC: server_stream(_silent(waiting))}, house.gate())
    minted, other = (house.token(Grant(Role.EVALUATE)) for _ in range(2))
    streams = [asyncio.ensure_future(_first(table[SYNC], each.text)) for each in (minted, other)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    house.tokens.revoke(minted.token.id, Scope(), as_admin())
    house.callers.look()

    with pytest.raises(Unauthenticated, match=f"token:{minted.token.id} was revoked; the stream ends"):
        await streams[0]
    assert 1 == house.sessions.count
    waiting.set()
    assert REACHED == await streams[1]
    assert 0 == house.sessions.count


async def test_a_stream_that_is_writing_says_nothing_further(house: House) -> None:
    """It ends before its next message, also when that is ready already."""
    table = guarded({SYNC: server_stream(_endless)}, house.gate())
    minted = house.token(Grant(Role.EVALUATE))
    stream = table[SYNC].function(b"", by(minted.text))
    await anext(stream)
    house.tokens.revoke(minted.token.id, Scope(), as_admin())
    house.callers.look()

    with pytest.raises(Unauthenticated, match="was revoked"):
        await anext(stream)


async def test_a_stream_ends_when_its_token_expires(house: House) -> None:
    """At the next look."""
    waiting = asyncio.Event()
    table = guarded({SYNC: server_stream(_silent(waiting))}, house.gate())
    minted = house.token(Grant(Role.EVALUATE))
    stream = asyncio.ensure_future(_first(table[SYNC], minted.text))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    (caller,) = house.callers.book.by_digest.values()
    caller.expires_at = 0
    house.sessions.check()

    with pytest.raises(Unauthenticated, match="has expired; the stream ends"):
        await stream


async def test_a_timeout_of_a_handler_stays_its_own(house: House) -> None:
    """It is not taken for the end of the credentials."""

    async def late(raw: bytes, call: Any) -> Any:
        raise TimeoutError("mine")
        yield b""

    table = guarded({SYNC: server_stream(late)}, house.gate())
    with pytest.raises(TimeoutError, match="mine"):
        await _first(table[SYNC], house.token(Grant(Role.EVALUATE)).text)


def _silent(until: asyncio.Event) -> Any:
    async def stream(raw: bytes, call: Any) -> Any:
        await until.wait()
        yield REACHED

    return stream


async def _endless(raw: bytes, call: Any) -> Any:
    while True:
        yield REACHED


async def _first(handler: Handler, text: str) -> bytes:
    stream = handler.function(b"", by(text))
    try:
        reply: bytes = await anext(stream)
        return reply
    finally:
        await stream.aclose()
