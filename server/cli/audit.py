"""The commands `flagstaff audit ...`: who changed what, and whether anybody touched what says so."""

import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from server.cli.files import STANDARD, read_file
from server.cli.options import given, group
from server.cli.output import EXIT_REFUSED, print_json, print_table
from server.cli.remote import ABOUT_SERVERS, Place, Remote, remote_read
from server.core.counting import counted
from server.core.errors import InvalidRequest

if TYPE_CHECKING:
    from protos.flagstaff.v1 import audit_pb2
    from server.core.trails import Verified
    from server.operations.heads import SignedHead

HELP: Final = f"""Read the audit trail, and prove that it was not touched.

Each project has a trail, and the server has one for what belongs to no project, such as tokens (--server-trail). With
--database-url, `list`, `head` and `verify` read the database itself, without a server. {ABOUT_SERVERS}

\b
  flagstaff audit list --since 7d --subject flag/new-checkout
  flagstaff audit watch
  flagstaff audit head --all > heads.jsonl                 keep it where the database is not
  flagstaff audit verify --all --heads heads.jsonl
"""

LIST_HELP: Final = """List entries, the newest first.

\b
  flagstaff audit list --actor token:k3Jd92Lq --since 2026-11-01T00:00:00Z
  flagstaff audit list --environment production --action flag.updated --limit 20
  flagstaff audit list --server-trail                      tokens and settings of the server
"""

WATCH_HELP: Final = """Print entries as they are committed, until Ctrl-C.

\b
  flagstaff audit watch                                    from now on
  flagstaff audit watch --after 0 --json                   all there are, then new ones; a JSON line each
"""

EXPORT_HELP: Final = """Write a trail as JSON lines, the oldest entry first, with its signed head as the last line.

A whole export can be verified without the database: `flagstaff audit verify --export FILE`.

\b
  flagstaff audit export --output audit.jsonl
  flagstaff audit export --since 30d --output -            a part, which cannot be verified by itself
"""

HEAD_HELP: Final = """Print the signed head of a trail: the number and the hash of its last entry.

Kept elsewhere, it proves later that no entry up to it was changed or cut off. A line of JSON for each trail.

\b
  flagstaff audit head > head.json
  flagstaff audit head --all > heads.jsonl
"""

VERIFY_HELP: Final = """Verify audit trails: names each entry that was edited, removed, reordered or cut off.

The exit code is 0 when all is whole and 1 when something is wrong. Entries that were cut off at the end, or a trail
that was written anew, are only sure to be found by heads that were kept elsewhere.

\b
  flagstaff audit verify --all --heads heads.jsonl
  flagstaff audit verify --all --database-url sqlite:///flagstaff.db
  flagstaff audit verify --export audit.jsonl --public-key 5f0c...
"""

app = group(HELP)

ServerTrail = Annotated[bool, given("--server-trail", "The server's own trail, not a project's.")]
All = Annotated[bool, given("--all", "Every trail there is.")]
Database = Annotated[
    str | None, given("--database-url", "Read this database itself, without a server: sqlite:///PATH and so on.")
]
Environment = Annotated[str, given("--environment", "Only of this environment.")]
Actor = Annotated[str, given("--actor", "Who did it, as the trail names them.")]
ActionName = Annotated[str, given("--action", "What was done, such as flag.updated.")]
Subject = Annotated[str, given("--subject", "What it was done to: KIND/KEY, such as flag/new-checkout, or KIND.")]
Reference = Annotated[str, given("--cause", "What it belonged to.")]
RequestId = Annotated[str, given("--request-id", "The request that did it.")]
Since = Annotated[str, given("--since", "From an instant on (2026-11-24T12:00:00Z), or for a time (7d, 2h).")]
Until = Annotated[str, given("--until", "Before an instant, or longer ago than a time.")]
Text = Annotated[str, given("--text", "Part of a key, an actor, a reason, a cause or a document.")]
PublicKey = Annotated[str, given("--public-key", "Who signed, in hexadecimal; else the server or database asked.")]


@app.command("list", help=LIST_HELP)
@remote_read(Place.PROJECT)
def list_entries(
    server: Remote,
    *,
    limit: Annotated[int, given("--limit", "Print at most so many.", min=1)] = 50,
    environment: Environment = "",
    actor: Actor = "",
    action: ActionName = "",
    subject: Subject = "",
    cause: Reference = "",
    request_id: RequestId = "",
    since: Since = "",
    until: Until = "",
    text: Text = "",
    server_trail: ServerTrail = False,
    database_url: Database = None,
) -> None:
    """Read pages until there are enough."""
    from protos.flagstaff.v1 import audit_pb2 as messages

    whole = messages.ListAuditEntriesResponse()
    request = messages.ListAuditEntriesRequest(
        project="" if server_trail else server.project,
        environment=environment,
        filter=_filter(actor, action, subject, cause, request_id, since, until, text),
        view=messages.AUDIT_VIEW_FULL if server.as_json else messages.AUDIT_VIEW_CHANGES,
    )
    while True:
        request.page_size = min(1_000, limit - len(whole.entries))
        page = _reply(server, database_url, "ListAuditEntries", request)
        whole.entries.extend(page.entries)
        whole.next_page_token = request.page_token = page.next_page_token
        if not page.next_page_token or len(whole.entries) >= limit:
            break
    if server.prints(whole):
        return
    print_table(("entry", "at", "who", "what", "where", "changes"), [_row(each) for each in whole.entries])
    more = "; there are more: see --limit" if whole.next_page_token else ""
    typer.echo(f"\n{counted(len(whole.entries), 'entry', 'entries')}{more}")


@app.command("watch", help=WATCH_HELP)
@remote_read(Place.PROJECT)
def watch(
    server: Remote,
    *,
    after: Annotated[int, given("--after", "Begin behind this entry; 0: with the first one.", min=-1)] = -1,
    environment: Environment = "",
    actor: Actor = "",
    action: ActionName = "",
    subject: Subject = "",
    text: Text = "",
    server_trail: ServerTrail = False,
) -> None:
    """Print each as it comes."""
    from protos.flagstaff.v1 import audit_pb2 as messages
    from protos.flagstaff.v1.audit_pb2_grpc import AuditServiceStub
    from server.cli.documents import as_document

    request = messages.WatchAuditEntriesRequest(
        project="" if server_trail else server.project,
        environment=environment,
        after_sequence=after,
        filter=_filter(actor, action, subject, "", "", "", "", text),
        view=messages.AUDIT_VIEW_FULL if server.as_json else messages.AUDIT_VIEW_CHANGES,
    )
    for news in AuditServiceStub(server.channel).WatchAuditEntries(request):
        if not news.HasField("entry"):
            continue
        if server.as_json:
            print_json(as_document(news.entry), indent=None)
        else:
            sequence, at, who, what, where, changes = _row(news.entry)
            typer.echo(f"{sequence}  {at}  {who}  {what}  {where}  {changes}")
        sys.stdout.flush()


@app.command("export", help=EXPORT_HELP)
@remote_read(Place.PROJECT)
def export(
    server: Remote,
    *,
    output: Annotated[str, given("--output", "The file to write; - for standard output.", "-o")] = STANDARD,
    environment: Environment = "",
    actor: Actor = "",
    action: ActionName = "",
    subject: Subject = "",
    cause: Reference = "",
    request_id: RequestId = "",
    since: Since = "",
    until: Until = "",
    text: Text = "",
    server_trail: ServerTrail = False,
) -> None:
    """Write line by line; nothing is held."""
    from protos.flagstaff.v1 import audit_pb2 as messages
    from protos.flagstaff.v1.audit_pb2_grpc import AuditServiceStub

    request = messages.ExportAuditEntriesRequest(
        project="" if server_trail else server.project,
        environment=environment,
        filter=_filter(actor, action, subject, cause, request_id, since, until, text),
    )
    portions = AuditServiceStub(server.channel).ExportAuditEntries(request)
    if output == STANDARD:
        for portion in portions:
            sys.stdout.buffer.write(portion.lines)
        sys.stdout.buffer.flush()
        return
    count = 0
    with Path(output).open("wb") as file:
        for portion in portions:
            file.write(portion.lines)
            count += portion.lines.count(b"\n")
    typer.echo(f"{output}: {count - 1} {'entry' if count == 2 else 'entries'} and the signed head", err=True)


@app.command("head", help=HEAD_HELP)
@remote_read(Place.PROJECT)
def head(
    server: Remote, *, is_all: All = False, server_trail: ServerTrail = False, database_url: Database = None
) -> None:
    """Print a line for each trail."""
    from protos.flagstaff.v1 import audit_pb2 as messages
    from server.operations.exports import head_line
    from server.rpc.audit import head_of

    project = "" if server_trail else server.project
    for each in _trails(server, database_url) if is_all else [project]:
        reply = _reply(server, database_url, "GetAuditHead", messages.GetAuditHeadRequest(project=each))
        typer.echo(head_line(head_of(reply.head)).decode(), nl=False)


@app.command("verify", help=VERIFY_HELP)
@remote_read(Place.PROJECT)
def verify(
    server: Remote,
    *,
    is_all: All = False,
    server_trail: ServerTrail = False,
    heads: Annotated[
        list[str] | None, given("--heads", "A file of `flagstaff audit head` or an export to compare with. Repeatable.")
    ] = None,
    public_key: PublicKey = "",
    export: Annotated[str | None, given("--export", "Verify this file of `flagstaff audit export` by itself.")] = None,
    database_url: Database = None,
) -> None:
    """Name what is wrong; the exit code says whether anything is."""
    from protos.flagstaff.v1 import audit_pb2 as messages
    from server.rpc.audit import head_message, trail_message

    signer = _key(public_key)
    if export is not None:
        trail, _ = _verified_export(export, signer)
        reply = messages.VerifyAuditTrailResponse(trails=[trail_message(trail)])
    else:
        given_heads = [head for name in heads or () for head in _heads(name)]
        request = messages.VerifyAuditTrailRequest(
            project="" if server_trail or is_all else server.project,
            every_trail=is_all,
            heads=[head_message(each) for each in given_heads],
            public_key=signer,
        )
        reply = _reply(server, database_url, "VerifyAuditTrail", request, timeout_s=_VERIFY_S)
    if not server.prints(reply):
        _print_checked(reply, is_signed=bool(heads) or export is not None)
    if reply.stray_count or any(trail.breaks for trail in reply.trails):
        raise typer.Exit(EXIT_REFUSED)


_VERIFY_S: Final = 3_600.0
"""Millions of entries take their time."""


def _print_checked(reply: Any, *, is_signed: bool) -> None:
    for trail in reply.trails:
        name = f"project {trail.project}" if trail.project else "the server's trail"
        for each in trail.breaks:
            typer.echo(f"{name}: {each.text}", err=True)
        if trail.unnamed_count:
            typer.echo(f"{name}: {trail.unnamed_count} further breaks", err=True)
        count = counted(trail.entry_count, "entry", "entries")
        typer.echo(f"{name}: {count}, {'NOT whole' if trail.breaks else 'whole'}")
    if reply.stray_count:
        typer.echo(f"{reply.stray_count} rows are in no trail's order", err=True)
    if not is_signed:
        typer.echo("hint: only heads that were kept elsewhere (--heads) prove that nothing was cut off", err=True)


def _verified_export(name: str, signer: bytes) -> "tuple[Verified, SignedHead]":
    from server.operations.exports import verify_export

    found, head = verify_export(read_file(name).decode("utf-8", "replace").splitlines(), signer=signer)
    if not signer:
        key = head.public_key.hex()
        typer.echo(f"signed by key {key}; compare it with one that you trust, or give --public-key", err=True)
    return found, head


def _heads(name: str) -> "list[SignedHead]":
    from server.operations.heads import read_heads

    found = read_heads(read_file(name).decode("utf-8", "replace"))
    if not found:
        raise InvalidRequest(f"{name} has no signed head; `flagstaff audit head` writes one")
    return found


def _key(text: str) -> bytes:
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b"?"
    if len(key) not in (0, 32):
        raise InvalidRequest("--public-key is not 64 hexadecimal digits; a head has it as publicKey")
    return key


def _trails(server: Remote, database_url: str | None) -> Iterator[str]:
    """Every trail's project, which a verification of all would name too; without reading their entries."""
    from protos.flagstaff.v1 import audit_pb2 as messages

    reply = _reply(server, database_url, "ListAuditTrails", messages.ListAuditTrailsRequest())
    return iter(reply.projects)


def _reply(
    server: Remote, database_url: str | None, method: str, request: Any, *, timeout_s: float | None = None
) -> Any:
    """The answer of the server, or of the same service over the database itself."""
    if database_url is None:
        from protos.flagstaff.v1.audit_pb2_grpc import AuditServiceStub

        return getattr(AuditServiceStub(server.channel), method)(request, timeout=timeout_s)
    from server.core.access import OPEN
    from server.keys import secret_key
    from server.operations import databases
    from server.operations.audit import Audit
    from server.rpc.audit import AuditService

    with databases.open_to_read(database_url) as engine:
        audit = Audit(engine, lambda: secret_key(engine, make=True) or b"", pause_s=0.0)
        service = AuditService(lambda: datetime.now(UTC), audit)
        return service.methods()[method][1](request, OPEN)


def _filter(
    actor: str, action: str, subject: str, cause: str, request_id: str, since: str, until: str, text: str
) -> "audit_pb2.AuditFilter":
    from protos.flagstaff.v1 import audit_pb2 as messages

    kind, _, key = subject.partition("/")
    wanted = messages.AuditFilter(
        actor=actor,
        action=action,
        subject_kind=kind,
        subject_key=key,
        cause=cause,
        request_id=request_id,
        text=text,
    )
    if since:
        wanted.since.FromDatetime(read_past("--since", since))
    if until:
        wanted.until.FromDatetime(read_past("--until", until))
    return wanted


def read_past(name: str, text: str) -> datetime:
    """An instant, or how long ago it was. Errors: InvalidRequest, naming the option."""
    from server.cli.token import duration

    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is not None and at.tzinfo is not None:
        return at.astimezone(UTC)
    try:
        ago: timedelta = duration(text)
        return datetime.now(UTC) - ago
    except (InvalidRequest, OverflowError):
        raise InvalidRequest(
            f"{name} {text!r} is neither an instant with its time zone, such as 2026-11-24T12:00:00Z, nor a time "
            "such as 7d or 2h"
        ) from None


def _row(entry: "audit_pb2.AuditEntry") -> list[str]:
    place = "/".join(part for part in (entry.project, entry.environment) if part) or "server"
    at = entry.at.ToDatetime().isoformat(sep=" ", timespec="seconds")
    changes = "; ".join(each.text for each in entry.differences)
    reason = f" ({entry.reason})" if entry.reason else ""
    subject = f"{entry.action} {entry.subject_key}"
    return [str(entry.sequence), at, one_line(entry.actor), subject, place, one_line(f"{changes}{reason}")]


def one_line(text: str) -> str:
    """A text in which nothing breaks a line, or reaches the terminal as anything but letters."""
    return "".join(character if character.isprintable() else " " for character in text)
