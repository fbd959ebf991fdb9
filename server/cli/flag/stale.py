"""The commands `flagstaff flag stale ...`: which flags are of no more use, and what people say of them."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from server.cli.flag.arguments import Key, named_values
from server.cli.flag.looking import KindName
from server.cli.instants import read_instant
from server.cli.options import given, group
from server.cli.output import print_table
from server.cli.remote import Place, Remote, remote_read, remote_write

if TYPE_CHECKING:
    from protos.flagstaff.v1 import staleness_pb2 as messages
    from protos.flagstaff.v1.staleness_pb2_grpc import StalenessServiceStub

HELP: Final = """Find flags that are of no more use, and say what is to become of them.

A temporary flag becomes potentially stale when it is past its lifetime, or serves everybody the same, and nobody has
changed it for a while; after a grace it is stale. A change makes it active again.

\b
  flagstaff flag stale list --owner web
  flagstaff flag stale show new-ui
  flagstaff flag stale snooze new-ui --days 30 --reason "Until the spring sale"
"""

LIST_HELP: Final = """List stale flags, the longest stale first.

\b
  flagstaff flag stale list
  flagstaff flag stale list --state stale --owner web --tag checkout
  flagstaff flag stale list --state snoozed --sort key --json
"""

SHOW_HELP: Final = """Show what a flag is at present, and why.

\b
  flagstaff flag stale show new-ui
  flagstaff flag stale show new-ui --json
"""

SNOOZE_HELP: Final = """Hear nothing of a flag for a while; then it is looked at like any other.

\b
  flagstaff flag stale snooze new-ui --days 30 --reason "Until the spring sale"
  flagstaff flag stale snooze new-ui --until 2027-01-31T12:00Z
"""

MARK_HELP: Final = """Say that a flag is stale now, whatever its terms. Its next change takes that back.

\b
  flagstaff flag stale mark new-ui --reason "Launched in May; see T-12"
  flagstaff flag stale mark new-ui --dry-run
"""

CLEAR_HELP: Final = """Take back a snooze or a mark.

\b
  flagstaff flag stale clear new-ui
  flagstaff flag stale clear new-ui --reason "It is asked for again"
"""

PERMANENT_HELP: Final = """Say that a flag is to stay: the same as `flagstaff flag update KEY --permanent`.

\b
  flagstaff flag stale permanent maintenance-mode --reason "A kill switch"
  flagstaff flag stale permanent maintenance-mode --dry-run
"""

TERMS_HELP: Final = """Show or set the terms by which a project's flags become stale.

\b
  flagstaff flag stale terms
  flagstaff flag stale terms --grace-days 7 --unchanged-days 60
  flagstaff flag stale terms --lifetime release=90 --lifetime experiment=30        and no other kind has an end
"""

_DAY: Final = timedelta(days=1)
app = group(HELP)


class StateName(StrEnum):
    """States, as an option's choices."""

    ACTIVE = "active"
    POTENTIALLY_STALE = "potentially-stale"
    STALE = "stale"
    SNOOZED = "snoozed"


class SortName(StrEnum):
    """Orders, as an option's choices."""

    AGE = "age"
    KEY = "key"


@app.command("list", help=LIST_HELP)
@remote_read(Place.PROJECT)
def list_stale(
    server: Remote,
    *,
    state: Annotated[
        list[StateName] | None, given("--state", "Is in this state; else potentially stale or stale. Repeatable.")
    ] = None,
    owner: Annotated[str, given("--owner", "Is owned by them.")] = "",
    tag: Annotated[list[str] | None, given("--tag", "Has this tag. Repeatable: has all of them.")] = None,
    kind: Annotated[list[KindName] | None, given("--kind", "Is of this kind. Repeatable: of one of them.")] = None,
    sort: Annotated[SortName, given("--sort", "The longest stale first, or by key.")] = SortName.AGE,
    limit: Annotated[int, given("--limit", "Flags to list at most.", min=1)] = 10_000,
) -> None:
    """Ask for page after page."""
    from protos.flagstaff.v1 import flags_pb2
    from protos.flagstaff.v1 import staleness_pb2 as messages

    request = messages.ListStaleFlagsRequest(
        project=server.project,
        states=[messages.StaleState.Value(f"STALE_STATE_{each.name}") for each in state or ()],
        owner=owner,
        tags=tag,
        kinds=[flags_pb2.FlagKind.Value(f"FLAG_KIND_{each.name}") for each in kind or ()],
        order_by=sort.value,
    )
    whole = messages.ListStaleFlagsResponse()
    while True:
        request.page_size = min(500, limit - len(whole.flags))
        page = _stub(server).ListStaleFlags(request)
        whole.flags.extend(page.flags)
        whole.total_size, request.page_token = page.total_size, page.next_page_token
        if not request.page_token or len(whole.flags) >= limit:
            break
    if server.prints(whole):
        return
    rows = [_row(each) for each in whole.flags]
    print_table(("key", "state", "rule", "unchanged", "everybody gets", "owner", "tags"), rows)
    shown = "" if len(rows) == whole.total_size else f"{len(rows)} of "
    typer.echo(f"\n{shown}{whole.total_size} flag{'s' * (whole.total_size != 1)} in {server.project}")


@app.command("show", help=SHOW_HELP)
@remote_read(Place.PROJECT)
def show(server: Remote, key: Key) -> None:
    """Ask for one flag and tell why it is what it is."""
    from protos.flagstaff.v1 import staleness_pb2 as messages

    reply = _stub(server).GetStaleness(messages.GetStalenessRequest(project=server.project, key=key))
    if server.prints(reply):
        return
    flag = reply.flag
    typer.echo(f"{flag.key}: {_state(flag)}")
    for line in flag.evidence:
        typer.echo(f"  {line}")
    if flag.exempt:
        held = f": {', '.join(flag.holders)}" if flag.holders else ""
        typer.echo(f"  it is not looked at: {_EXEMPT.get(flag.exempt, flag.exempt)}{held}")
    if flag.HasField("stale_at"):
        typer.echo(f"  its grace ends {_instant(flag.stale_at)}")
    if flag.HasField("snoozed_until"):
        typer.echo(f"  until {_instant(flag.snoozed_until)}")
    if flag.said_by:
        typer.echo(f"  said by {flag.said_by}{f': {flag.said}' if flag.said else ''}")
    if flag.suggested_action:
        typer.echo(f"  to end it: {flag.suggested_action}")


@app.command("snooze", help=SNOOZE_HELP)
@remote_write(Place.PROJECT, versioned=False)
def snooze(
    server: Remote,
    key: Key,
    *,
    until: Annotated[str | None, given("--until", "An instant, such as 2027-01-31T12:00Z.")] = None,
    days: Annotated[int | None, given("--days", "From now.", min=1)] = None,
) -> None:
    """Snooze it."""
    from protos.flagstaff.v1 import staleness_pb2 as messages

    if (until is None) == (days is None):
        raise typer.BadParameter("give --until or --days")
    request = messages.SnoozeStaleRequest(project=server.project, key=key, days=days or 0, options=server.options())
    if until is not None:
        request.until.FromDatetime(read_instant(until, "--until").astimezone(UTC))
    reply = _stub(server).SnoozeStale(request)
    server.done(reply, f"flag {key} is snoozed until {_instant(reply.flag.snoozed_until)}")


@app.command("mark", help=MARK_HELP)
@remote_write(Place.PROJECT, versioned=False)
def mark(server: Remote, key: Key) -> None:
    """Mark it."""
    from protos.flagstaff.v1 import staleness_pb2 as messages

    request = messages.MarkStaleRequest(project=server.project, key=key, options=server.options())
    server.done(_stub(server).MarkStale(request), f"flag {key} is stale")


@app.command("clear", help=CLEAR_HELP)
@remote_write(Place.PROJECT, versioned=False)
def clear(server: Remote, key: Key) -> None:
    """Take back what was said of it."""
    from protos.flagstaff.v1 import staleness_pb2 as messages

    request = messages.ClearStaleRequest(project=server.project, key=key, options=server.options())
    server.done(_stub(server).ClearStale(request), f"flag {key} is looked at like any other")


@app.command("permanent", help=PERMANENT_HELP)
@remote_write(Place.PROJECT)
def permanent(server: Remote, key: Key) -> None:
    """Let it stay."""
    from protos.flagstaff.v1 import staleness_pb2 as messages

    request = messages.MarkPermanentRequest(project=server.project, key=key, options=server.options())
    server.done(_stub(server).MarkPermanent(request), f"flag {key} is permanent")


@app.command("terms", help=TERMS_HELP)
@remote_write(Place.PROJECT)
def terms(
    server: Remote,
    *,
    lifetime: Annotated[
        list[str] | None, given("--lifetime", "KIND=DAYS; kinds that are not named have no end. Repeatable.")
    ] = None,
    quiet_days: Annotated[int | None, given("--quiet-days", "Without a change, past the lifetime.", min=0)] = None,
    unchanged_days: Annotated[
        int | None, given("--unchanged-days", "Without a change, with one variant for everybody.", min=1)
    ] = None,
    grace_days: Annotated[int | None, given("--grace-days", "From the first notice until it is stale.", min=0)] = None,
) -> None:
    """Set what is given; with nothing given, show them."""
    from protos.flagstaff.v1 import staleness_pb2 as messages

    values = {
        "lifetimes": lifetime,
        "quiet_days": quiet_days,
        "unchanged_days": unchanged_days,
        "grace_days": grace_days,
    }
    paths = [name for name, value in values.items() if value is not None]
    if not paths:
        reply = _stub(server).GetStalenessPolicy(messages.GetStalenessPolicyRequest(project=server.project))
        if not server.prints(reply):
            _print_terms(reply.policy)
        return
    policy = messages.StalenessPolicy(
        lifetimes=_lifetimes(lifetime or ()),
        quiet_days=quiet_days or 0,
        unchanged_days=unchanged_days or 0,
        grace_days=grace_days or 0,
    )
    request = messages.UpdateStalenessPolicyRequest(project=server.project, policy=policy, options=server.options())
    request.update_mask.paths.extend(paths)
    server.done(_stub(server).UpdateStalenessPolicy(request), "the terms are set")


def _lifetimes(texts: Sequence[str]) -> "list[messages.KindLifetime]":
    from protos.flagstaff.v1 import flags_pb2
    from protos.flagstaff.v1 import staleness_pb2 as messages

    found = []
    for kind, days in named_values(texts, "KIND=DAYS, such as release=90").items():
        if kind not in {each.value for each in KindName} or not days.isdigit():
            kinds = ", ".join(KindName)
            raise typer.BadParameter(f"--lifetime {kind}={days} is not KIND=DAYS with a kind of: {kinds}")
        number = flags_pb2.FlagKind.Value(f"FLAG_KIND_{kind.upper()}")
        found.append(messages.KindLifetime(kind=number, days=int(days)))
    return found


_EXEMPT: Final = {
    "permanent": "it is permanent",
    "archived": "it is archived",
    "kind": "flags of its kind have no lifetime, and it has none of its own",
    "held": "something is still to change it",
}


def _print_terms(policy: "messages.StalenessPolicy") -> None:
    from protos.flagstaff.v1 import flags_pb2
    from server.cli.documents import enum_name

    for each in policy.lifetimes:
        typer.echo(
            f"a temporary {enum_name(flags_pb2.FlagKind.DESCRIPTOR, each.kind)} flag is to live {each.days} days"
        )
    typer.echo(f"past that it counts when nobody has changed it for {policy.quiet_days} days")
    typer.echo(f"one variant for everybody counts when nobody has changed it for {policy.unchanged_days} days")
    typer.echo(f"it is stale {policy.grace_days} days after the first notice")
    typer.echo(f"version {policy.version}")


def _row(flag: "messages.StaleFlag") -> list[str]:
    unchanged = (datetime.now(UTC) - flag.changed_at.ToDatetime(tzinfo=UTC)) // _DAY
    served = (flag.served_variant if flag.HasField("served_variant") else "its default") if flag.one_variant else "-"
    return [
        flag.key,
        _state(flag),
        flag.rules[0].replace("_", " ") if flag.rules else "-",
        f"{max(0, unchanged)} d",
        served,
        flag.owner or "-",
        ", ".join(flag.tags) or "-",
    ]


def _state(flag: "messages.StaleFlag") -> str:
    from protos.flagstaff.v1 import staleness_pb2 as messages
    from server.cli.documents import enum_name

    return enum_name(messages.StaleState.DESCRIPTOR, flag.state).replace("-", " ")


def _instant(message: Any) -> str:
    return f"{message.ToDatetime(tzinfo=UTC):%Y-%m-%d %H:%M} UTC"


def _stub(server: Remote) -> "StalenessServiceStub":
    from protos.flagstaff.v1.staleness_pb2_grpc import StalenessServiceStub

    return StalenessServiceStub(server.channel)
