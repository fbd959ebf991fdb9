"""The commands `flagstaff history ...`: what happened, what was, what flags answered then, and bringing it back."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from server.cli.audit import one_line, read_past
from server.cli.evaluate import read_context
from server.cli.options import given, group
from server.cli.output import in_short, print_table
from server.cli.remote import ABOUT_SERVERS, Remote, remote_read, remote_write
from server.core.errors import InvalidRequest

if TYPE_CHECKING:
    from protos.flagstaff.v1 import evaluation_pb2, history_pb2

HELP: Final = f"""Look back at flags, segments and environments, and bring back what was.

A thing is written flag/KEY, segment/KEY or environment; KEY alone is a flag. A moment is a revision (12), an instant
(2026-11-24T12:00:00Z) or how long ago (2h, 7d). {ABOUT_SERVERS}

\b
  flagstaff history list new-checkout
  flagstaff history evaluate new-checkout --as-of 2026-11-24T09:30:00Z -k alice --explain
  flagstaff history compare 2d -k alice                    what answers alice otherwise than two days ago, and why
  flagstaff history revert new-checkout 12 --reason "too soon"
"""

LIST_HELP: Final = """List what happened to a thing, the newest first.

\b
  flagstaff history list new-checkout
  flagstaff history list segment/beta --environment staging
  flagstaff history list environment --limit 5
"""

SHOW_HELP: Final = """Print a thing as it was, as an exported document has it.

\b
  flagstaff history show new-checkout 12
  flagstaff history show segment/beta 7d
"""

REVERT_HELP: Final = """Make a thing again what it was at a revision, as a new change.

Refused with what stands in the way where it does not fit any more.

\b
  flagstaff history revert new-checkout 12 --dry-run       what would that change?
  flagstaff history revert new-checkout 12 --reason "too soon"
"""

EVALUATE_HELP: Final = """Evaluate a flag as it was evaluated at a moment.

\b
  flagstaff history evaluate new-checkout --as-of 12 -k alice
  flagstaff history evaluate new-checkout --as-of 2d -k alice --explain
"""

COMPARE_HELP: Final = """Tell which flags answer a context otherwise at a second moment, and which change moved each.

\b
  flagstaff history compare 2026-11-24T09:00:00Z -k alice             since then
  flagstaff history compare 12 20 -k alice --flag new-checkout        between two revisions
"""

app = group(HELP)

Thing = Annotated[str, typer.Argument(metavar="THING", help="flag/KEY, segment/KEY or environment; KEY is a flag.")]
Context = Annotated[str, given("--context", "The evaluation context: a JSON object, @FILE, or -.", "-c")]
TargetingKey = Annotated[str | None, given("--targeting-key", "The unit of evaluation; joins the context.", "-k")]


@app.command("list", help=LIST_HELP)
@remote_read()
def list_revisions(
    server: Remote, thing: Thing, *, limit: Annotated[int, given("--limit", "Print at most so many.", min=1)] = 50
) -> None:
    """Read pages until there are enough."""
    from protos.flagstaff.v1 import history_pb2 as messages
    from protos.flagstaff.v1.history_pb2_grpc import HistoryServiceStub

    kind, key = _thing(thing)
    request = messages.ListRevisionsRequest(
        project=server.project, environment=server.environment, kind=kind, key=key, full=server.as_json
    )
    whole = messages.ListRevisionsResponse()
    while True:
        request.page_size = min(1_000, limit - len(whole.revisions))
        page = HistoryServiceStub(server.channel).ListRevisions(request)
        whole.revisions.extend(page.revisions)
        whole.total_size = page.total_size
        whole.next_page_token = request.page_token = page.next_page_token
        if not page.next_page_token or len(whole.revisions) >= limit:
            break
    if server.prints(whole):
        return
    print_table(("revision", "at", "who", "changes", "why"), [_row(each) for each in whole.revisions])
    typer.echo(f"\n{len(whole.revisions)} of {whole.total_size} changes in {server.project}/{server.environment}")


@app.command("show", help=SHOW_HELP)
@remote_read()
def show(
    server: Remote,
    thing: Thing,
    moment: Annotated[str, typer.Argument(metavar="[MOMENT]", help="A revision, an instant or how long ago.")] = "",
) -> None:
    """Print its document."""
    import json

    from protos.flagstaff.v1 import history_pb2 as messages
    from protos.flagstaff.v1.history_pb2_grpc import HistoryServiceStub

    kind, key = _thing(thing)
    request = messages.GetRevisionRequest(
        project=server.project, environment=server.environment, kind=kind, key=key, as_of=_as_of(moment)
    )
    reply = HistoryServiceStub(server.channel).GetRevision(request)
    if server.prints(reply):
        return
    typer.echo(json.dumps(json.loads(reply.document), indent=2))
    typer.echo(f"{thing} at revision {reply.revision}, committed at {_instant(reply.at)}", err=True)


@app.command("revert", help=REVERT_HELP)
@remote_write()
def revert(
    server: Remote,
    thing: Thing,
    revision: Annotated[int, typer.Argument(metavar="REVISION", help="What to bring back.", min=1)],
    *,
    keep_shared: Annotated[
        bool, given("--keep-shared", "Of a flag only this environment's configuration; not variants, owner and so on.")
    ] = False,
    rerandomise: Annotated[bool, given("--rerandomise", "Salts, too: units get the variants they had then.")] = False,
    replace_variants: Annotated[
        bool, given("--replace-variants", "Also values of variants that other environments serve too.")
    ] = False,
) -> None:
    """Ask for the change."""
    from protos.flagstaff.v1 import history_pb2 as messages
    from protos.flagstaff.v1.history_pb2_grpc import HistoryServiceStub

    kind, key = _thing(thing)
    request = messages.RevertRequest(
        project=server.project,
        environment=server.environment,
        kind=kind,
        key=key,
        revision=revision,
        keep_shared=keep_shared,
        rerandomise=rerandomise,
        replace_variants=replace_variants,
        options=server.options(),
    )
    server.done(HistoryServiceStub(server.channel).Revert(request), f"{thing} is what it was at revision {revision}")


@app.command("evaluate", help=EVALUATE_HELP)
@remote_read()
def evaluate(
    server: Remote,
    key: Annotated[str, typer.Argument(metavar="KEY", help="The flag's key.")],
    *,
    as_of: Annotated[str, given("--as-of", "The moment: a revision, an instant or how long ago; else now.")] = "",
    attributes: Context = "{}",
    targeting_key: TargetingKey = None,
    explain: Annotated[bool, given("--explain", "Tell each step of the evaluation.")] = False,
) -> None:
    """Print the answer of then."""
    from protos.flagstaff.v1 import history_pb2 as messages
    from protos.flagstaff.v1.history_pb2_grpc import HistoryServiceStub

    request = messages.EvaluateAsOfRequest(
        project=server.project,
        environment=server.environment,
        flag_key=key,
        as_of=_as_of(as_of),
        explain=explain,
    )
    request.context.update(_context(attributes, targeting_key))
    reply = HistoryServiceStub(server.channel).EvaluateAsOf(request)
    if server.prints(reply):
        return
    for number, step in enumerate(reply.steps, start=1):
        typer.echo(f"{number}. {step.what}: {step.outcome}")
        if step.detail:
            typer.echo(f"   {step.detail}")
    if reply.steps:
        typer.echo()
    typer.echo(_answer(reply.resolution))
    place = f"{server.project}/{server.environment}"
    typer.echo(f"from {place}, revision {reply.revision}, committed at {_instant(reply.at)}")


@app.command("compare", help=COMPARE_HELP)
@remote_read()
def compare(
    server: Remote,
    first: Annotated[str, typer.Argument(metavar="FIRST", help="A revision, an instant or how long ago.")],
    second: Annotated[str, typer.Argument(metavar="[SECOND]", help="A later moment; else now.")] = "",
    *,
    flag: Annotated[list[str] | None, given("--flag", "Only these flags, by key. Repeatable.")] = None,
    attributes: Context = "{}",
    targeting_key: TargetingKey = None,
) -> None:
    """Print each flag that moved, and each change that moved it."""
    from protos.flagstaff.v1 import history_pb2 as messages
    from protos.flagstaff.v1.history_pb2_grpc import HistoryServiceStub

    request = messages.DiffEvaluationsRequest(
        project=server.project,
        environment=server.environment,
        first=_as_of(first),
        second=_as_of(second),
        flag_keys=flag or [],
    )
    request.context.update(_context(attributes, targeting_key))
    reply = HistoryServiceStub(server.channel).DiffEvaluations(request)
    if server.prints(reply):
        return
    for moved in reply.flags:
        typer.echo(f"{moved.flag_key}: {_answer(moved.before)} -> {_answer(moved.after)}")
        for move in moved.moves:
            for change in move.changes:
                _, at, who, changes, why = _row(change)
                subject = f"{change.action} {change.key}"
                reason = f" ({why})" if why else ""
                typer.echo(f"  revision {move.revision}, {at}, {who}: {subject}: {changes}{reason}")
        if moved.moved_by_clock:
            typer.echo("  no change did it: a rule looks at the clock")
        if moved.incomplete:
            typer.echo("  there may be further changes that moved it: too many to try them all")
    count = len(reply.flags)
    typer.echo(
        f"{count} flag{'s' * (count != 1)} answer{'s' * (count == 1)} otherwise in revision {reply.second_revision} "
        f"than in {reply.first_revision}"
    )


def _thing(text: str) -> tuple[Any, str]:
    from protos.flagstaff.v1 import history_pb2 as messages

    kind, separator, key = text.partition("/")
    if text == "environment":
        return messages.THING_KIND_ENVIRONMENT, ""
    kinds = {"flag": messages.THING_KIND_FLAG, "segment": messages.THING_KIND_SEGMENT}
    if separator and kind in kinds:
        return kinds[kind], key
    return messages.THING_KIND_FLAG, text


def _as_of(text: str) -> "history_pb2.AsOf":
    from protos.flagstaff.v1 import history_pb2 as messages

    as_of = messages.AsOf()
    if text.isdigit():
        as_of.revision = int(text)
    elif text:
        try:
            as_of.at.FromDatetime(read_past("the moment", text))
        except InvalidRequest:
            raise InvalidRequest(
                f"{text!r} is no moment; write a revision (12), an instant with its time zone "
                "(2026-11-24T12:00:00Z) or how long ago (2h, 7d)"
            ) from None
    return as_of


def _context(text: str, targeting_key: str | None) -> dict[str, Any]:
    attributes = read_context(text)
    return attributes if targeting_key is None else {**attributes, "targetingKey": targeting_key}


def _answer(resolution: "evaluation_pb2.Resolution") -> str:
    from server.cli.documents import as_document

    document: dict[str, Any] = as_document(resolution)
    reason = str(document["reason"]).upper().replace("-", "_")
    if document.get("errorMessage"):
        return f"error: {document['errorMessage']}"
    member = resolution.WhichOneof("value")
    if member is None:
        return f"the caller's default ({reason})"
    name = "".join(part.capitalize() if place else part for place, part in enumerate(member.split("_")))
    variant = f"{resolution.variant} = " if resolution.HasField("variant") else ""
    return f"{variant}{in_short(document[name])} ({reason})"


def _row(revision: "history_pb2.ThingRevision") -> list[str]:
    changes = "; ".join(each.text for each in revision.differences) or revision.action
    why = "; ".join(part for part in (revision.reason, revision.cause) if part)
    return [str(revision.revision), _instant(revision.at), one_line(revision.actor), one_line(changes), one_line(why)]


def _instant(at: Any) -> str:
    found: datetime = at.ToDatetime(tzinfo=UTC)
    return found.strftime("%Y-%m-%d %H:%M:%S")
