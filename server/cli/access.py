"""Read how `flagstaff serve` asks who calls, warn where it asks nobody, and make the first token."""

import ipaddress
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import typer

from server.cli.import_ import actor_name

if TYPE_CHECKING:
    from server.core.access import Asking, Grant
    from server.core.claims import IssuerTrust
    from server.settings import Settings


def certificate_roles(given: Sequence[str], *, has_ca: bool) -> dict[str, "tuple[Grant, ...]"]:
    """What each name in a client's certificate may do."""
    from server.core.tokens import read_grant

    if given and not has_ca:
        raise typer.BadParameter("--certificate-role needs --tls-client-ca, by which certificates are verified")
    roles: dict[str, tuple[Grant, ...]] = {}
    for each in given:
        name, equals, role = each.rpartition("=")
        if not equals or not name:
            raise typer.BadParameter(f"{each!r} is not NAME=ROLE, such as billing.example.com=evaluate@shop")
        roles[name] = (*roles.get(name, ()), read_grant(role))
    return roles


def issuer_trust(
    issuer: str | None, *, audiences: Sequence[str], rules: Sequence[str], algorithms: Sequence[str]
) -> "IssuerTrust | None":
    """Whose access tokens are taken, and for what; None where no issuer is named."""
    from server.core.claims import DEFAULT_ALGORITHMS, IssuerTrust, check_trust, read_rule

    if issuer is None:
        if audiences or rules or algorithms:
            raise typer.BadParameter("--oidc-audience, --oidc-role and --oidc-algorithm need --oidc-issuer")
        return None
    found = tuple(read_rule(each) for each in rules)
    trust = IssuerTrust(issuer, tuple(audiences), found, tuple(algorithms) or DEFAULT_ALGORITHMS)
    check_trust(trust)
    return trust


def asking_of(host: str, *, require_token: bool, is_open: bool) -> "Asking":
    """Who is asked for a token: on loopback nobody, elsewhere who manages, unless the operator says otherwise."""
    from server.core.access import Asking

    if require_token and is_open:
        raise typer.BadParameter("--require-token and --open contradict each other")
    if require_token:
        return Asking.EVERYONE
    return Asking.NOBODY if is_open or is_loopback(host) else Asking.MANAGERS


def warn_open(settings: "Settings") -> None:
    """Say it loudly when others than this machine's users can get at flags without a token."""
    from server.core.access import Asking

    if settings.asking is Asking.EVERYONE or (settings.tls_client_ca and settings.asking is Asking.MANAGERS):
        return
    may = "evaluate every flag and read its values"
    if settings.asking is Asking.NOBODY:
        may = "change every flag, and make themselves tokens"
    typer.secho(
        f"WARNING: listening on {settings.host} without asking for tokens: "
        f"everyone who can reach these ports can {may}. Give --require-token, or keep them inside a network "
        "that you trust.",
        err=True,
        bold=True,
    )


def first_token(settings: "Settings") -> str:
    """The text of a first token, where one is needed and there never was any; else ""."""
    from server.core.access import OPEN, Action, Asking, Principal
    from server.core.errors import StoreUnavailable
    from server.keys import secret_key
    from server.operations import databases
    from server.operations.tokens import Tokens
    from server.operations.writes import Write

    if settings.asking is Asking.NOBODY:
        return ""
    write = Write(Principal(actor_name(), OPEN.grants), Action.ADMINISTER, datetime.now(UTC), reason="first start")
    try:
        with databases.open_to_write(settings.database_url) as engine:
            minted = Tokens(engine, lambda: secret_key(engine, make=True) or b"").create_first(write)
    except StoreUnavailable as error:
        # Flags may still be served, from the last good ones.
        typer.echo(f"whether there is a token already cannot be told ({error})", err=True)
        return ""
    return "" if minted is None else minted.text


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
