"""TokenService: tokens are made, listed, revoked and rotated by those who may."""

from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from protos.flagstaff.v1 import common_pb2 as common
from protos.flagstaff.v1 import tokens_pb2 as messages
from server.core.access import Asking, Grant, Role, Scope
from server.core.errors import Conflict, InvalidRequest, NotFound, PermissionDenied, Refused, Stale
from server.operations.writes import Writer
from server.rpc.access import guarded
from server.rpc.managed import management_table
from server.rpc.management import Management
from tests.fakes import FakeCall
from tests.rpc.access import House, ask, asked_at, by, new_house

READ = messages.RoleGrant(role=messages.ROLE_READ)


class Service:
    """The service behind access, as one caller sees it."""

    def __init__(self, table: Any, text: str) -> None:
        self._table, self._text = table, text

    def by(self, text: str) -> "Service":
        """As another caller sees it."""
        return Service(self._table, text)

    async def __call__(self, request: Any, call: FakeCall | None = None) -> Any:
        """Call the method of a request."""
        name = type(request).__name__.removesuffix("Request")
        handler = self._table[f"/flagstaff.v1.TokenService/{name}"]
        (reply,) = await ask(handler, call or by(self._text), request.SerializeToString())
        return getattr(messages, f"{name}Response").FromString(reply)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """A database with project shop."""
    yield from new_house(tmp_path, with_shop=True)


@pytest.fixture
async def admin(house: House) -> AsyncIterator[Service]:
    """The service for who may do everything."""
    engine = house.tokens.engine
    with ThreadPoolExecutor(2) as threads:
        management = Management(lambda: datetime.now(UTC), threads)
        table = management_table(management, engine, Writer(engine), tokens=house.tokens)
        yield Service(guarded(table, house.gate(Asking.EVERYONE)), house.token(Grant(Role.ADMIN)).text)


def new(name: str = "ci", *, project: str = "", role: Any = READ, **options: Any) -> messages.CreateTokenRequest:
    """A request for a token."""
    return messages.CreateTokenRequest(name=name, project=project, roles=[role], options=common.WriteOptions(**options))


async def test_a_token_is_made_and_works(house: House, admin: Service) -> None:
    """Its text is shown in that answer and in no other."""
    reply = await admin(new("ci", reason="for the pipeline"))
    house.callers.look()
    me = await admin.by(reply.text)(messages.WhoAmIRequest())
    found = await admin(messages.GetTokenRequest(id=reply.token.id))

    assert reply.text.startswith(f"ffa_{reply.token.id}_")
    assert (f"token:{reply.token.id}", [READ]) == (me.actor, list(me.roles))
    assert (common.OUTCOME_APPLIED, "ci", messages.TOKEN_STATE_ACTIVE) == (
        reply.result.outcome,
        found.token.name,
        found.token.state,
    )
    assert reply.text[13:] not in str(found)


async def test_a_dry_run_makes_nothing(admin: Service) -> None:
    """And shows no text."""
    before = (await admin(messages.ListTokensRequest())).total_size
    reply = await admin(new(dry_run=True))

    assert (common.OUTCOME_WOULD_APPLY, "") == (reply.result.outcome, reply.text)
    assert before == (await admin(messages.ListTokensRequest())).total_size


async def test_a_repeated_request_is_refused(admin: Service) -> None:
    """It names the token that was made: what cannot be shown again can be rotated."""
    reply = await admin(new(request_id="r1"))

    with pytest.raises(Conflict, match=rf"token {reply.token.id} before; .* rotate"):
        await admin(new(request_id="r1"))


async def test_tokens_are_listed_by_pages(admin: Service) -> None:
    """By id, each once; only good ones where that is asked for."""
    made = {(await admin(new(f"t{place}"))).token.id for place in range(5)}
    await admin(messages.RevokeTokenRequest(id=min(made)))
    seen: list[str] = []
    token = ""
    while True:
        page = await admin(messages.ListTokensRequest(page_size=2, page_token=token))
        seen += [each.id for each in page.tokens]
        token = page.next_page_token
        if not token:
            break
    good = await admin(messages.ListTokensRequest(active_only=True))

    assert (sorted(seen), 6, 6) == (seen, len(seen), page.total_size)
    assert made - {min(made)} < {each.id for each in good.tokens}
    assert (5, min(made) in {each.id for each in good.tokens}) == (good.total_size, False)


async def test_a_revoked_token_is_refused(house: House, admin: Service) -> None:
    """Revoking it again changes nothing."""
    made = await admin(new())
    house.callers.look()
    replies = [await admin(messages.RevokeTokenRequest(id=made.token.id)) for _ in range(2)]

    assert [common.OUTCOME_APPLIED, common.OUTCOME_UNCHANGED] == [each.result.outcome for each in replies]
    assert messages.TOKEN_STATE_REVOKED == replies[1].token.state
    house.callers.look()
    with pytest.raises(Exception, match="was revoked"):
        await admin.by(made.text)(messages.WhoAmIRequest())


async def test_a_rotated_token_overlaps(house: House, admin: Service) -> None:
    """Both are good until the overlap is over; the new one has the same roles and the same term."""
    term = timedelta(days=30)
    request = new()
    request.expires_at.FromDatetime(asked_at(30))
    made = await admin(request)
    turned = messages.RotateTokenRequest(id=made.token.id)
    turned.overlap.FromSeconds(3600)
    reply = await admin(turned)
    old = (await admin(messages.GetTokenRequest(id=made.token.id))).token
    house.callers.look()

    for text in (made.text, reply.text):
        assert [READ] == list((await admin.by(text)(messages.WhoAmIRequest())).roles)
    assert reply.token.id == old.replaced_by
    left = old.expires_at.ToDatetime(UTC) - datetime.now(UTC)
    assert timedelta(minutes=59) < left <= timedelta(hours=1)
    fresh = reply.token.expires_at.ToDatetime(UTC) - reply.token.created_at.ToDatetime(UTC)
    assert abs(term - fresh) < timedelta(minutes=1)
    with pytest.raises(Refused, match="was rotated already"):
        await admin(turned)


async def test_an_overlap_never_lengthens_a_life(admin: Service) -> None:
    """A token that would expire sooner still does."""
    request = new()
    request.expires_at.FromDatetime(asked_at(1 / 24))
    made = await admin(request)
    turned = messages.RotateTokenRequest(id=made.token.id)
    turned.overlap.FromSeconds(7 * 24 * 3600)
    await admin(turned)
    old = (await admin(messages.GetTokenRequest(id=made.token.id))).token

    assert made.token.expires_at == old.expires_at


async def test_versions_are_held_to(admin: Service) -> None:
    """Who read an older state of a token does not revoke it by mistake."""
    made = await admin(new())
    version = (await admin(messages.GetTokenRequest(id=made.token.id))).token.version
    stale = messages.RevokeTokenRequest(id=made.token.id, options=common.WriteOptions(expected_version=version + 1))

    with pytest.raises(Stale, match="read it again"):
        await admin(stale)
    stale.options.expected_version = version
    assert common.OUTCOME_APPLIED == (await admin(stale)).result.outcome


async def test_who_administers_a_project_manages_its_tokens(house: House, admin: Service) -> None:
    """And no others: those of the server and of other projects do not exist for them."""
    other = await admin(new("server's"))
    boss = admin.by(house.token(Grant(Role.ADMIN, "shop"), home=Scope("shop")).text)
    role = messages.RoleGrant(role=messages.ROLE_EDIT, project="shop")
    made = await boss(new("shop's", project="shop", role=role))
    listed = await boss(messages.ListTokensRequest(project="shop"))

    assert made.token.id in {each.id for each in listed.tokens}
    assert other.token.id not in {each.id for each in listed.tokens}
    for request in (messages.ListTokensRequest(), messages.RevokeTokenRequest(id=other.token.id)):
        with pytest.raises(PermissionDenied):
            await boss(request)
    with pytest.raises(NotFound):
        await boss(messages.RevokeTokenRequest(project="shop", id=other.token.id))
    with pytest.raises(InvalidRequest, match="reaches beyond shop"):
        await boss(new("too much", project="shop", role=READ))


async def test_nobody_gives_what_they_do_not_have(house: House, admin: Service) -> None:
    """An administrator may not bypass approvals, and cannot make themselves a token that may."""
    with pytest.raises(PermissionDenied, match="nobody gives a role"):
        await admin(new(role=messages.RoleGrant(role=messages.ROLE_BYPASS)))

    both = admin.by(house.token(Grant(Role.ADMIN), Grant(Role.BYPASS)).text)
    assert (await both(new(role=messages.RoleGrant(role=messages.ROLE_BYPASS)))).text


@pytest.mark.parametrize(
    "request_",
    [
        messages.CreateTokenRequest(roles=[READ]),
        messages.CreateTokenRequest(name="x"),
        messages.CreateTokenRequest(name="x", roles=[messages.RoleGrant()]),
        messages.CreateTokenRequest(name="x", roles=[messages.RoleGrant(role=messages.ROLE_READ, project="")]),
        messages.CreateTokenRequest(name="x", roles=[READ], environment="production"),
        messages.CreateTokenRequest(
            name="x", project="nowhere", roles=[messages.RoleGrant(role=messages.ROLE_READ, project="nowhere")]
        ),
        messages.GetTokenRequest(),
        messages.ListTokensRequest(page_size=1_001),
        messages.ListTokensRequest(page_size=-1),
    ],
)
async def test_requests_that_say_too_little(admin: Service, request_: Any) -> None:
    """Are refused; an empty project is never taken for every project."""
    with pytest.raises(InvalidRequest):
        await admin(request_)


async def test_an_instant_in_the_past(admin: Service) -> None:
    """A token that has expired already is of no use; neither is one that is no instant."""
    request = new()
    request.expires_at.FromDatetime(asked_at(-1))
    with pytest.raises(InvalidRequest, match="expired already"):
        await admin(request)
    request.expires_at.seconds = 2**62
    with pytest.raises(InvalidRequest, match="no instant"):
        await admin(request)
