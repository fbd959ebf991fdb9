"""The commands `flagstaff environment ...`: manage a project's environments on a server."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from server.cli.documents import enum_name
from server.cli.environment_text import print_environment, row_of
from server.cli.instants import read_instant
from server.cli.options import given, group
from server.cli.output import print_table
from server.cli.remote import ABOUT_SERVERS, Place, Remote, remote_read, remote_write
from server.core.counting import counted

if TYPE_CHECKING:
    from protos.flagstaff.v1 import environments_pb2

HELP: Final = f"""Create, show, change, clone and delete environments.

An environment is where a project's flags have their own configuration: to OpenFeature clients, the flag set
PROJECT/ENVIRONMENT. {ABOUT_SERVERS}

\b
  flagstaff environment list --project shop
  flagstaff environment clone production canary
  flagstaff environment approvals production --need 2 --by approve
  flagstaff environment freeze production --from 2026-12-20T00:00Z --until 2027-01-02T06:00Z --because Holidays
"""

CREATE_HELP: Final = """Create an environment without flags.

\b
  flagstaff environment create canary --project shop --critical
"""

LIST_HELP: Final = """List a project's environments.

\b
  flagstaff environment list --project shop --json
"""

SHOW_HELP: Final = """Show one environment with its settings.

\b
  flagstaff environment show production
"""

UPDATE_HELP: Final = """Set what is given of an environment's settings.

Another bucketing deals units anew: the answer says how many of 1,000 sample users get another variant.

\b
  flagstaff environment update production --critical
  flagstaff environment update production --bucketing v3 --dry-run
"""

CLONE_HELP: Final = """Create an environment with the flags, segments and settings of another one.

Shares and splits keep their salts, so everybody gets there what they get here. Freeze windows are not copied.

\b
  flagstaff environment clone production canary
"""

DELETE_HELP: Final = """Delete an environment with its flags and segments. It does not come back.

Its revisions and the audit trail stay. Refused while it is critical or frozen, and while tokens are bound to it.

\b
  flagstaff environment delete canary --confirm canary
"""

APPROVALS_HELP: Final = """Say how many people must agree to a change, and who.

Whoever asks for a change is never one of them, and a kill needs nobody. `--need 0` asks nobody any more.

\b
  flagstaff environment approvals production --need 2
  flagstaff environment approvals production --need 1 --by approve --person oidc:ann --of flag
"""

FREEZE_HELP: Final = """Let nothing change for a time, but by a kill.

\b
  flagstaff environment freeze production --from 2026-12-20T00:00Z --until 2027-01-02T06:00Z --because Holidays
  flagstaff environment freeze production --until 2026-12-01T18:00+01:00 --because "Audit" --except admin
"""

THAW_HELP: Final = """Take freeze windows away: all of them, or only those that are over.

While the environment is frozen this needs --bypass-approval, the permission for it, and --reason.

\b
  flagstaff environment thaw production --past
  flagstaff environment thaw production --bypass-approval --reason "The shop is down"
"""

PAGE_SIZE: Final = 1_000

app = group(HELP)

Key = Annotated[str, typer.Argument(metavar="ENVIRONMENT", help="The environment's key.")]
Name = Annotated[str | None, given("--name", "How people call it.")]
Critical = Annotated[bool | None, given("--critical/--not-critical", "Whether it stands out and cannot be deleted.")]
Sync = Annotated[bool | None, given("--sync/--no-sync", "Whether in-process clients are sent its flags.")]
Scheme = Annotated[str | None, given("--bucketing", "v2, as flagd has it, or v3.")]
Entries = Annotated[
    list[str] | None, given("--metadata", "NAME=VALUE, told along with every evaluation. Repeatable; replaces all.")
]
People = Annotated[list[str] | None, given("--person", "Somebody by name, such as oidc:ann. Repeatable.")]


@app.command("create", help=CREATE_HELP)
@remote_write(Place.PROJECT, versioned=False)
def create(
    server: Remote,
    key: Key,
    name: Name = None,
    critical: Critical = None,
    sync: Sync = None,
    bucketing: Scheme = None,
    metadata: Entries = None,
) -> None:
    """Create one."""
    from protos.flagstaff.v1 import environments_pb2 as messages

    settings, _ = _settings(name, critical, sync, bucketing, metadata)
    request = messages.CreateEnvironmentRequest(
        project=server.project, environment=key, settings=settings, options=server.options()
    )
    server.done(_stub(server).CreateEnvironment(request), f"environment {server.project}/{key} created")


@app.command("list", help=LIST_HELP)
@remote_read(Place.PROJECT)
def list_environments(server: Remote) -> None:
    """List all pages."""
    from protos.flagstaff.v1 import environments_pb2 as messages

    found = messages.ListEnvironmentsResponse()
    request = messages.ListEnvironmentsRequest(project=server.project, page_size=PAGE_SIZE)
    while True:
        page = _stub(server).ListEnvironments(request)
        found.environments.extend(page.environments)
        request.page_token = page.next_page_token
        if not page.next_page_token:
            break
    found.total_size = len(found.environments)
    if not server.prints(found):
        columns = ("key", "name", "flags", "segments", "revision", "protection")
        print_table(columns, [row_of(each) for each in found.environments])
        typer.echo(f"\n{counted(len(found.environments), 'environment')} in {server.project}")


@app.command("show", help=SHOW_HELP)
@remote_read(Place.PROJECT)
def show(server: Remote, key: Key) -> None:
    """Show one."""
    reply = _read(server, key)
    if not server.prints(reply):
        print_environment(reply.environment)


@app.command("update", help=UPDATE_HELP)
@remote_write(Place.PROJECT)
def update(
    server: Remote,
    key: Key,
    name: Name = None,
    critical: Critical = None,
    sync: Sync = None,
    bucketing: Scheme = None,
    metadata: Entries = None,
) -> None:
    """Set what is given."""
    settings, chosen = _settings(name, critical, sync, bucketing, metadata)
    if not chosen:
        raise typer.BadParameter("nothing is to be set; see --help for what can be")
    _update(server, key, settings, chosen)


@app.command("clone", help=CLONE_HELP)
@remote_write(Place.PROJECT, versioned=False)
def clone(
    server: Remote,
    source: Annotated[str, typer.Argument(metavar="FROM", help="The key of the one to copy.")],
    key: Annotated[str, typer.Argument(metavar="TO", help="The key of the new one.")],
    name: Name = None,
) -> None:
    """Copy one."""
    from protos.flagstaff.v1 import environments_pb2 as messages

    request = messages.CloneEnvironmentRequest(
        project=server.project,
        environment=key,
        source_environment=source,
        name=name or "",
        options=server.options(),
    )
    server.done(_stub(server).CloneEnvironment(request), f"environment {server.project}/{key} is a copy of {source}")


@app.command("delete", help=DELETE_HELP)
@remote_write(Place.PROJECT)
def delete(server: Remote, key: Key, confirm: Annotated[str, given("--confirm", "The key once more.")]) -> None:
    """Delete one."""
    from protos.flagstaff.v1 import environments_pb2 as messages

    request = messages.DeleteEnvironmentRequest(
        project=server.project, environment=key, confirm=confirm, options=server.options()
    )
    server.done(_stub(server).DeleteEnvironment(request), f"environment {server.project}/{key} deleted")


@app.command("approvals", help=APPROVALS_HELP)
@remote_write(Place.PROJECT)
def approvals(
    server: Remote,
    key: Key,
    need: Annotated[int, given("--need", "How many people must agree; 0 for nobody.", min=0)],
    by: Annotated[list[str] | None, given("--by", "A role that counts: approve or admin. Repeatable.")] = None,
    person: People = None,
    of: Annotated[list[str] | None, given("--of", "What it is about: flag, segment, environment. Repeatable.")] = None,
) -> None:
    """Set the policy."""
    from protos.flagstaff.v1 import environments_pb2 as messages

    policy = messages.ApprovalPolicy(approvals=need, roles=_roles(by), actors=person or (), covers=of or ())
    _update(server, key, messages.EnvironmentSettings(approval_policy=policy), ["approval_policy"])


@app.command("freeze", help=FREEZE_HELP)
@remote_write(Place.PROJECT)
def freeze(
    server: Remote,
    key: Key,
    until: Annotated[str, given("--until", "The instant that is free again, with its time zone.")],
    because: Annotated[str, given("--because", "Told to those who are stopped.")],
    starts: Annotated[str | None, given("--from", "When it begins; else now.")] = None,
    exempt: Annotated[
        list[str] | None, given("--except", "A role that may change things: edit or admin. Repeatable.")
    ] = None,
    person: People = None,
) -> None:
    """Add a window."""
    from protos.flagstaff.v1 import environments_pb2 as messages

    window = messages.FreezeWindow(reason=because, roles=_roles(exempt), actors=person or ())
    window.starts_at.FromDatetime(datetime.now(UTC) if starts is None else read_instant(starts, "--from"))
    window.ends_at.FromDatetime(read_instant(until, "--until"))
    current = _read(server, key).environment
    _set_windows(server, current, [*current.settings.freeze_windows, window])


@app.command("thaw", help=THAW_HELP)
@remote_write(Place.PROJECT)
def thaw(
    server: Remote,
    key: Key,
    is_past: Annotated[bool, given("--past", "Only windows that are over.")] = False,
) -> None:
    """Take windows away."""
    current = _read(server, key).environment
    now = datetime.now(UTC)
    kept = [window for window in current.settings.freeze_windows if is_past and window.ends_at.ToDatetime(UTC) > now]
    _set_windows(server, current, kept)


def _set_windows(server: Remote, current: Any, windows: list[Any]) -> None:
    from protos.flagstaff.v1 import environments_pb2 as messages

    settings = messages.EnvironmentSettings(freeze_windows=windows)
    # Nobody else's window may be lost: what was read must still be what is there.
    version = server.asked.expected_version or current.version
    _update(server, current.key, settings, ["freeze_windows"], expected_version=version)


def _update(server: Remote, key: str, settings: Any, chosen: list[str], *, expected_version: int | None = None) -> None:
    from protos.flagstaff.v1 import environments_pb2 as messages

    request = messages.UpdateEnvironmentRequest(
        project=server.project, environment=key, settings=settings, options=server.options(expected_version)
    )
    request.update_mask.paths.extend(chosen)
    reply = _stub(server).UpdateEnvironment(request)
    server.done(reply)
    if reply.sample_users and not server.as_json:
        print_table(
            ("flag", f"moved of {reply.sample_users} sample users"),
            [[flag, str(count)] for flag, count in sorted(reply.moved.items())],
        )


def _settings(
    name: str | None,
    critical: bool | None,
    sync: bool | None,
    bucketing: str | None,
    metadata: list[str] | None,
) -> tuple["environments_pb2.EnvironmentSettings", list[str]]:
    """Settings, and the names of those that were given."""
    from protos.flagstaff.v1 import environments_pb2 as messages

    settings = messages.EnvironmentSettings(
        name=name or "", critical=bool(critical), without_sync=sync is False, bucketing=_scheme(bucketing)
    )
    settings.metadata.update(dict(map(_entry, metadata or ())))
    chosen = {
        "name": name,
        "critical": critical,
        "without_sync": sync,
        "bucketing": bucketing,
        "metadata": metadata,
    }
    return settings, [field for field, value in chosen.items() if value is not None]


def _entry(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise typer.BadParameter(f"{text!r} is not NAME=VALUE")
    return name, value


def _scheme(bucketing: str | None) -> Any:
    from protos.flagstaff.v1 import environments_pb2 as messages

    known = {None: messages.BUCKETING_UNSPECIFIED, "v2": messages.BUCKETING_V2, "v3": messages.BUCKETING_V3}
    if bucketing not in known:
        raise typer.BadParameter(f"bucketing {bucketing!r} is neither v2 nor v3")
    return known[bucketing]


def _roles(names: list[str] | None) -> list[Any]:
    from protos.flagstaff.v1 import tokens_pb2 as tokens

    known = {enum_name(tokens.Role.DESCRIPTOR, number): number for number in tokens.Role.values()}
    unknown = [name for name in names or () if name not in known]
    if unknown:
        raise typer.BadParameter(f"{', '.join(unknown)}: no such role")
    return [known[name] for name in names or ()]


def _read(server: Remote, key: str) -> "environments_pb2.GetEnvironmentResponse":
    from protos.flagstaff.v1 import environments_pb2 as messages

    request = messages.GetEnvironmentRequest(project=server.project, environment=key)
    reply: messages.GetEnvironmentResponse = _stub(server).GetEnvironment(request)
    return reply


def _stub(server: Remote) -> Any:
    from protos.flagstaff.v1.environments_pb2_grpc import EnvironmentServiceStub

    return EnvironmentServiceStub(server.channel)
