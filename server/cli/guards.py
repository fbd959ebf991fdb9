"""The commands `flagstaff guard ...`: what is watched while flags change, and what was said of it."""

from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from server.cli.guard_watch import follow, said, verdict_word
from server.cli.options import given, group
from server.cli.output import print_table
from server.cli.remote import ABOUT_SERVERS, Place, Remote, remote_read, remote_write

if TYPE_CHECKING:
    from protos.flagstaff.v1 import guards_pb2

HELP: Final = f"""Watch what is measured while flags change. Roll-back policies act on it: see `flagstaff rollback`.

{ABOUT_SERVERS}

\b
  flagstaff guard create errors --metric errors --flag new-checkout --variant on --high 0.05
  flagstaff guard list
  flagstaff guard watch
  flagstaff guard evaluations --guard errors
  flagstaff guard signal budget-burnt --text "Error budget of the checkout"
"""

CREATE_HELP: Final = """Watch a metric, or what a provider answers.

\b
  flagstaff guard create errors --metric errors --flag new-checkout --variant on --high 0.05
  flagstaff guard create slower --metric latency --flag new-checkout --variant on --control-variant off --high 1.2
  flagstaff guard create orders --metric orders --flag banner --variant sale --control-variant control --low 0.95 \
    --sample-ratio 1                                     a canary's slices should be as large as each other
  flagstaff guard create 5xx --provider prometheus --query 'sum(rate(errors_total[1m]))' --high 3
"""

LIST_HELP: Final = """List guards, with what was said of each last.

\b
  flagstaff guard list
  flagstaff guard list --json
"""

SHOW_HELP: Final = """Show a guard, and what was said of it last.

\b
  flagstaff guard show errors
  flagstaff guard show errors --json
"""

UPDATE_HELP: Final = """Change a guard's limits or times; it begins anew.

\b
  flagstaff guard update errors --high 0.1
  flagstaff guard update errors --window 60 --interval 5
"""

DELETE_HELP: Final = """Watch no more.

\b
  flagstaff guard delete errors
  flagstaff guard delete errors --dry-run
"""

EVALUATIONS_HELP: Final = """Show what was said of guards and happened to policies, the newest first.

\b
  flagstaff guard evaluations --guard errors
  flagstaff guard evaluations --policy checkout --limit 20
"""

WATCH_HELP: Final = """Show guards and roll-back policies as they go on: verdicts, states, and what comes of them.

On a terminal it is a table that is kept up to date; elsewhere a line for each thing that happens.

\b
  flagstaff guard watch
  flagstaff guard watch errors slower --environment production
  flagstaff guard watch errors --limit 1               until something happens
"""

SIGNAL_HELP: Final = """Say that something goes wrong outside, or that it is over; policies that listen act at once.

\b
  flagstaff guard signal budget-burnt --text "Error budget of the checkout"
  flagstaff guard signal budget-burnt --resolved
"""

HEARTBEAT_HELP: Final = """Say that all is well; policies that listen act when it is not said for too long.

\b
  flagstaff guard heartbeat probe
  flagstaff guard heartbeat probe --environment staging
"""

app = group(HELP)

Key = Annotated[str, typer.Argument(metavar="KEY", help="The guard's key.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="As policies name it.")]
Low = Annotated[float | None, given("--low", "What is less fails; with a control, in multiples of it.")]
High = Annotated[float | None, given("--high", "What is more fails; with a control, in multiples of it.")]
SampleMin = Annotated[int | None, given("--sample-min", "Fewer observations never pass.", min=0)]
SampleRatio = Annotated[
    float | None,
    given("--sample-ratio", "Observations that should be to each of the control's: 1 for a canary.", min=0),
]
Window = Annotated[float | None, given("--window", "Seconds whose observations are judged.")]
Interval = Annotated[float | None, given("--interval", "Seconds between two judgements.")]


@app.command("create", help=CREATE_HELP)
@remote_write(Place.ENVIRONMENT, versioned=False)
def create(
    server: Remote,
    key: Key,
    *,
    metric: Annotated[str, given("--metric", "One of `flagstaff metric list`.")] = "",
    flag: Annotated[str, given("--flag", "Only what was observed of those who had it.")] = "",
    variant: Annotated[str, given("--variant", "Only of this variant.")] = "",
    control_variant: Annotated[str, given("--control-variant", "What it is compared with.")] = "",
    provider: Annotated[str, given("--provider", "Whom to ask, as the server's settings name it.")] = "",
    query: Annotated[str, given("--query", "What to ask.")] = "",
    control_query: Annotated[str, given("--control-query", "What it is compared with.")] = "",
    low: Low = None,
    high: High = None,
    margin: Annotated[float, given("--margin", "How far beyond the control's multiple still passes.")] = 0.0,
    sample_min: SampleMin = None,
    sample_ratio: SampleRatio = None,
    window: Window = None,
    interval: Interval = None,
    stale_after: Annotated[float, given("--stale-after", "Seconds after which an observation is too old.")] = 0.0,
    initial_delay: Annotated[float, given("--initial-delay", "Seconds before the first judgement.")] = 0.0,
    description: Annotated[str, given("--description", "What it is for.")] = "",
) -> None:
    """Make it: a comparison where there is something to compare with."""
    from protos.flagstaff.v1 import guards_pb2 as messages

    method = messages.Guard.METHOD_RATIO_TO_CONTROL if control_variant or control_query else 0
    guard = messages.Guard(
        key=key,
        environment=server.environment,
        metric=metric,
        flag=flag,
        variant=variant,
        control_variant=control_variant,
        provider=provider,
        query=query,
        control_query=control_query,
        method=method,  # type: ignore[arg-type]  # A number names an enum's value.
        low=low,
        high=high,
        margin=margin,
        sample_min=sample_min or 0,
        sample_ratio=sample_ratio or 0.0,
        window_s=window or 0.0,
        interval_s=interval or 0.0,
        stale_after_s=stale_after,
        initial_delay_s=initial_delay,
        description=description,
    )
    request = messages.CreateGuardRequest(project=server.project, guard=guard, options=server.options())
    server.done(_stub(server).CreateGuard(request), f"guard {key} watches")


@app.command("list", help=LIST_HELP)
@remote_read(Place.PROJECT)
def list_guards(server: Remote) -> None:
    """Read as many pages as it takes and list them."""
    from protos.flagstaff.v1 import guards_pb2 as messages

    whole = messages.ListGuardsResponse()
    request = messages.ListGuardsRequest(project=server.project, page_size=1_000)
    while True:
        page = _stub(server).ListGuards(request)
        whole.guards.extend(page.guards)
        whole.total_size = page.total_size
        request.page_token = page.next_page_token
        if not page.next_page_token:
            break
    if not server.prints(whole):
        print_table(("key", "environment", "watches", "said last"), [_row(each) for each in whole.guards])
        typer.echo(f"\n{len(whole.guards)} guard{'s' * (len(whole.guards) != 1)}")


@app.command("show", help=SHOW_HELP)
@remote_read(Place.PROJECT)
def show(server: Remote, key: Key) -> None:
    """Read one and print it."""
    from protos.flagstaff.v1 import guards_pb2 as messages

    reply = _stub(server).GetGuard(messages.GetGuardRequest(project=server.project, key=key))
    if server.prints(reply):
        return
    guard = reply.guard
    key, environment, watches, last = _row(guard)
    limits = [f"{name} {getattr(guard, name):g}" for name in ("low", "high") if guard.HasField(name)]
    typer.echo(f"{key} watches {watches} in {environment}: {', '.join(limits)}")
    typer.echo(f"every {guard.interval_s:g} s, the last {guard.window_s:g} s; version {guard.version}")
    typer.echo(f"said last: {last}")


@app.command("update", help=UPDATE_HELP)
@remote_write(Place.PROJECT)
def update(
    server: Remote,
    key: Key,
    *,
    low: Low = None,
    high: High = None,
    sample_min: SampleMin = None,
    sample_ratio: SampleRatio = None,
    window: Window = None,
    interval: Interval = None,
    description: Annotated[str | None, given("--description", "What it is for.")] = None,
) -> None:
    """Set what was given."""
    from protos.flagstaff.v1 import guards_pb2 as messages

    values = {
        "low": low,
        "high": high,
        "sample_min": sample_min,
        "sample_ratio": sample_ratio,
        "window_s": window,
        "interval_s": interval,
        "description": description,
    }
    chosen: dict[str, Any] = {name: value for name, value in values.items() if value is not None}
    request = messages.UpdateGuardRequest(
        project=server.project, guard=messages.Guard(key=key, **chosen), options=server.options()
    )
    request.update_mask.paths.extend(chosen)
    server.done(_stub(server).UpdateGuard(request), f"guard {key} is changed")


@app.command("delete", help=DELETE_HELP)
@remote_write(Place.PROJECT)
def delete(server: Remote, key: Key) -> None:
    """Take it away."""
    from protos.flagstaff.v1 import guards_pb2 as messages

    request = messages.DeleteGuardRequest(project=server.project, key=key, options=server.options())
    server.done(_stub(server).DeleteGuard(request), f"guard {key} is gone")


@app.command("evaluations", help=EVALUATIONS_HELP)
@remote_read(Place.PROJECT)
def evaluations(
    server: Remote,
    *,
    guard: Annotated[str, given("--guard", "Only of this guard.")] = "",
    policy: Annotated[str, given("--policy", "Only of this policy.")] = "",
    limit: Annotated[int, given("--limit", "How many at most.", min=1, max=1_000)] = 50,
) -> None:
    """Read the newest and print a table."""
    from protos.flagstaff.v1 import guards_pb2 as messages

    request = messages.ListEvaluationsRequest(project=server.project, guard=guard, policy=policy, page_size=limit)
    reply = _stub(server).ListEvaluations(request)
    if not server.prints(reply):
        columns = ("at", "guard", "policy", "happened", "verdict", "outcome", "why")
        print_table(columns, [_evaluation_row(each) for each in reply.evaluations])


@app.command("watch", help=WATCH_HELP)
@remote_read(Place.PROJECT)
def watch(
    server: Remote,
    keys: Annotated[list[str] | None, typer.Argument(metavar="[KEY...]", help="Only these guards.")] = None,
    *,
    environment: Annotated[str, given("--environment", "Only there.")] = "",
    limit: Annotated[int, given("--limit", "End after so many things have happened; 0 for never.", min=0)] = 0,
) -> None:
    """Follow them."""
    from protos.flagstaff.v1 import guards_pb2 as messages

    request = messages.WatchGuardsRequest(project=server.project, environment=environment, guards=keys or ())
    follow(server, _stub(server).WatchGuards(request), limit=limit)


@app.command("signal", help=SIGNAL_HELP)
@remote_read(Place.ENVIRONMENT)
def signal(
    server: Remote,
    name: Name,
    *,
    text: Annotated[str, given("--text", "Why, for people.")] = "",
    resolved: Annotated[bool, given("--resolved", "It is over.")] = False,
) -> None:
    """Say it, and tell what came of it."""
    from protos.flagstaff.v1 import guards_pb2 as messages

    request = messages.SignalRequest(
        project=server.project, environment=server.environment, name=name, text=text, resolved=resolved
    )
    reply = _stub(server).Signal(request)
    if not server.prints(reply):
        for each in reply.reactions:
            typer.echo(f"{each.policy}: {each.outcome.replace('_', ' ') or 'nothing to do'}; {each.text}")


@app.command("heartbeat", help=HEARTBEAT_HELP)
@remote_read(Place.ENVIRONMENT)
def heartbeat(server: Remote, name: Name) -> None:
    """Say it."""
    from protos.flagstaff.v1 import guards_pb2 as messages

    request = messages.HeartbeatRequest(project=server.project, environment=server.environment, name=name)
    reply = _stub(server).Heartbeat(request)
    if not server.prints(reply):
        typer.echo(f"{reply.listening} polic{'y listens' if reply.listening == 1 else 'ies listen'}")


def _stub(server: Remote) -> Any:
    from protos.flagstaff.v1.guards_pb2_grpc import GuardServiceStub

    return GuardServiceStub(server.channel)


def _row(guard: "guards_pb2.Guard") -> list[str]:
    where = "/".join(each for each in (guard.flag, guard.variant) if each)
    watches = f"{guard.provider}: {guard.query}" if guard.provider else guard.metric + (f" of {where}" if where else "")
    return [guard.key, guard.environment, watches, said(guard)]


def _evaluation_row(each: "guards_pb2.GuardEvaluation") -> list[str]:
    verdict = verdict_word(each.judgement) if each.HasField("judgement") else "-"
    return [
        f"{each.at.ToDatetime():%Y-%m-%d %H:%M:%S}",
        each.guard or "-",
        each.policy or "-",
        each.happening,
        verdict,
        each.outcome.replace("_", " ") or "-",
        each.text,
    ]
