"""The commands `flagstaff token ...`: who may use a server, on the server itself or on its database."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from server.cli.import_ import actor_name
from server.cli.options import given, group
from server.cli.output import print_table
from server.cli.remote import ABOUT_SERVERS, Place, Remote, remote_read, remote_write
from server.core.errors import InvalidRequest

if TYPE_CHECKING:
    from protos.flagstaff.v1 import tokens_pb2

HELP: Final = f"""Make, list, revoke and rotate API tokens.

A role is written ROLE, ROLE@PROJECT or ROLE@PROJECT/ENVIRONMENT. The roles: evaluate-client (values only, for pages
and apps), evaluate (and whole flag sets for in-process clients), read, edit, approve, operate (the kill switch, and
signals), subscribe (to read, and have webhooks sent), bypass (without approvals, in an emergency), admin. A token is
shown once, when it is made; the server keeps only what it takes to recognise it.

With --database-url these commands work on the database itself, without a server and without a token: for the first one,
or when the last administrator's is lost. {ABOUT_SERVERS}

\b
  flagstaff token create boss --role admin --database-url sqlite:///flagstaff.db
  flagstaff token create ci --role edit@shop --expires-in 90d
  flagstaff token revoke k3Jd92Lq
"""

CREATE_HELP: Final = """Make a token. It alone is printed on standard output.

With --project and --environment the token is managed there, and its roles reach no further.

\b
  flagstaff token create ci --role edit@shop --expires-in 90d
  flagstaff token create web --role evaluate-client@shop/production
  flagstaff token create boss --role admin --database-url sqlite:///flagstaff.db
"""

LIST_HELP: Final = """List tokens, without their secrets.

\b
  flagstaff token list
  flagstaff token list --project shop --all --json
"""

REVOKE_HELP: Final = """End tokens: calls are refused at once, streams end within seconds.

\b
  flagstaff token revoke k3Jd92Lq --reason "found in a log"
"""

ROTATE_HELP: Final = """Make another token with the same roles; the old one ends after an overlap.

The new one alone is printed on standard output.

\b
  flagstaff token rotate k3Jd92Lq --overlap 2h
"""

WHOAMI_HELP: Final = """Tell who the server takes you for, and what you may do.

\b
  flagstaff token whoami
"""

UNITS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)([smhd]?)")

app = group(HELP)

Home = Annotated[str, given("--project", "The project where the token is managed; else the server.")]
HomeEnvironment = Annotated[str, given("--environment", "The project's environment where it is managed.")]
Database = Annotated[
    str | None, given("--database-url", "Work on this database, without a server: sqlite:///PATH and so on.")
]
Id = Annotated[str, typer.Argument(metavar="ID", help="The token's id: its second part, ffa_ID_...")]
ExpiresIn = Annotated[str | None, given("--expires-in", "How long it is good: 90d, 12h, 30m.")]


@app.command("create", help=CREATE_HELP)
@remote_write(Place.SERVER, versioned=False)
def create(
    server: Remote,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Who or what will use it.")],
    role: Annotated[list[str], given("--role", "ROLE, ROLE@PROJECT or ROLE@PROJECT/ENVIRONMENT. Repeatable.")],
    project: Home = "",
    environment: HomeEnvironment = "",
    expires_in: ExpiresIn = None,
    database_url: Database = None,
) -> None:
    """Make one and print it."""
    from protos.flagstaff.v1 import tokens_pb2 as messages

    request = messages.CreateTokenRequest(
        project=project,
        environment=environment,
        name=name,
        roles=[_role(each, project, environment) for each in role],
        options=server.options(),
    )
    if expires_in is not None:
        request.expires_at.FromDatetime(datetime.now(UTC) + duration(expires_in))
    _print_minted(server, _reply(server, database_url, "CreateToken", request))


@app.command("list", help=LIST_HELP)
@remote_read(Place.SERVER)
def list_tokens(
    server: Remote,
    project: Home = "",
    environment: HomeEnvironment = "",
    is_all: Annotated[bool, given("--all", "Also those that were revoked or have expired.")] = False,
    database_url: Database = None,
) -> None:
    """Read all pages and list them."""
    from protos.flagstaff.v1 import tokens_pb2 as messages

    whole = messages.ListTokensResponse()
    request = messages.ListTokensRequest(
        project=project, environment=environment, page_size=1_000, active_only=not is_all
    )
    while True:
        page = _reply(server, database_url, "ListTokens", request)
        whole.tokens.extend(page.tokens)
        whole.total_size = page.total_size
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    if server.prints(whole):
        return
    columns = ("id", "name", "roles", "managed in", "state", "expires", "last used")
    print_table(columns, [_row(each) for each in whole.tokens])
    typer.echo(f"\n{len(whole.tokens)} token{'s' * (len(whole.tokens) != 1)}")


@app.command("revoke", help=REVOKE_HELP)
@remote_write(Place.SERVER)
def revoke(
    server: Remote,
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="The tokens' ids.")],
    project: Home = "",
    environment: HomeEnvironment = "",
    database_url: Database = None,
) -> None:
    """End each."""
    from protos.flagstaff.v1 import tokens_pb2 as messages

    for identifier in ids:
        request = messages.RevokeTokenRequest(
            project=project, environment=environment, id=identifier, options=server.options()
        )
        server.done(_reply(server, database_url, "RevokeToken", request))


@app.command("rotate", help=ROTATE_HELP)
@remote_write(Place.SERVER)
def rotate(
    server: Remote,
    identifier: Id,
    overlap: Annotated[str, given("--overlap", "How long the old one stays good: 2h, 0s; up to 90d.")] = "1d",
    expires_in: ExpiresIn = None,
    project: Home = "",
    environment: HomeEnvironment = "",
    database_url: Database = None,
) -> None:
    """Make another one and print it."""
    from protos.flagstaff.v1 import tokens_pb2 as messages

    request = messages.RotateTokenRequest(
        project=project, environment=environment, id=identifier, options=server.options()
    )
    request.overlap.FromTimedelta(duration(overlap))
    if expires_in is not None:
        request.expires_at.FromDatetime(datetime.now(UTC) + duration(expires_in))
    _print_minted(server, _reply(server, database_url, "RotateToken", request))


@app.command("whoami", help=WHOAMI_HELP)
@remote_read(Place.SERVER)
def whoami(server: Remote) -> None:
    """Ask the server."""
    from protos.flagstaff.v1 import tokens_pb2 as messages

    reply = _reply(server, None, "WhoAmI", messages.WhoAmIRequest())
    if not server.prints(reply):
        typer.echo(f"{reply.actor}: {_roles(reply.roles) or 'nothing'}")


def duration(text: str) -> timedelta:
    """A time such as 90d, 12h, 30m or 45s. Errors: InvalidRequest."""
    found = _DURATION.fullmatch(text)
    try:
        if found is not None:
            return timedelta(seconds=float(found[1]) * UNITS[found[2] or "s"])
    except OverflowError:
        pass
    raise InvalidRequest(f"{text!r} is no duration; write 90d, 12h, 30m or 45s")


def _reply(server: Remote, database_url: str | None, method: str, request: Any) -> Any:
    """The answer of the server, or of the same service over the database itself."""
    if database_url is not None:
        return _local_reply(database_url, method, request)
    from protos.flagstaff.v1.tokens_pb2_grpc import TokenServiceStub

    return getattr(TokenServiceStub(server.channel), method)(request)


def _local_reply(database_url: str, method: str, request: Any) -> Any:
    """Who has the database may everything; the audit trail has the user of this machine."""
    from server.core.access import OPEN, Action, Principal
    from server.keys import secret_key
    from server.operations import databases
    from server.operations.tokens import Tokens
    from server.rpc.management import write_of
    from server.rpc.tokens import TokenService

    principal = Principal(actor_name(), OPEN.grants)
    # The first token may come before the first start.
    opened = databases.open_to_write if method == "CreateToken" else databases.open_to_read
    with opened(database_url) as engine:
        service = TokenService(lambda: datetime.now(UTC), Tokens(engine, lambda: secret_key(engine, make=True) or b""))
        if method == "ListTokens":
            return service.list(request, principal)
        function = {"CreateToken": service.create, "RevokeToken": service.revoke, "RotateToken": service.rotate}[method]
        return function(request, write_of(request.options, principal, action=Action.ADMINISTER, now=datetime.now(UTC)))


def _role(text: str, project: str, environment: str) -> "tokens_pb2.RoleGrant":
    """A role as it is written; one without a place is for the place where the token is managed."""
    from protos.flagstaff.v1 import tokens_pb2 as messages
    from server.core.tokens import read_grant

    grant = read_grant(text)
    role = messages.Role.Value(f"ROLE_{grant.role.name}")
    if grant.project is None:
        return messages.RoleGrant(role=role, project=project or None, environment=environment or None)
    return messages.RoleGrant(role=role, project=grant.project, environment=grant.environment)


def _print_minted(server: Remote, reply: Any) -> None:
    if server.prints(reply):
        return
    if not reply.text:
        server.done(reply)
        return
    typer.echo(reply.text)
    until = _instant(reply.token, "expires_at")
    typer.echo(
        f"token {reply.token.id} ({reply.token.name}) may {_roles(reply.token.roles)}"
        f"{f' until {until}' if until != '-' else ''}; it is shown this once",
        err=True,
    )


def _row(token: Any) -> list[str]:
    from protos.flagstaff.v1 import tokens_pb2 as messages

    state = messages.TokenState.Name(token.state).removeprefix("TOKEN_STATE_").lower()
    home = "/".join(part for part in (token.project, token.environment) if part) or "the server"
    last = _instant(token, "last_used_at")
    return [token.id, token.name, _roles(token.roles), home, state, _instant(token, "expires_at"), last]


def _roles(roles: Sequence[Any]) -> str:
    from protos.flagstaff.v1 import tokens_pb2 as messages

    def shown(each: Any) -> str:
        role = messages.Role.Name(each.role).removeprefix("ROLE_").lower().replace("_", "-")
        place = "/".join(part for part in (each.project, each.environment) if part)
        return f"{role}@{place}" if place else role

    return ", ".join(map(shown, roles))


def _instant(token: Any, name: str) -> str:
    if not token.HasField(name):
        return "-"
    at: datetime = getattr(token, name).ToDatetime(UTC)
    return at.isoformat(timespec="seconds")
