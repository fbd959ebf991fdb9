"""Draw releases up: along a curve, as a canary, as a blue-green switch, or from a file."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from server.cli.files import read_file
from server.cli.flag import arguments as flag_arguments
from server.cli.instants import read_instant
from server.cli.options import given
from server.cli.release import arguments
from server.cli.release.arguments import (
    Approvals,
    Asks,
    AskTimeout,
    DryGuards,
    Every,
    Guards,
    Key,
    Manual,
    NoGo,
    OnNoGo,
    OnSilence,
    Sample,
    Silence,
    state_name,
    stub,
)
from server.cli.remote import Remote, remote_write

if TYPE_CHECKING:
    from protos.flagstaff.v1 import releases_pb2 as messages

CREATE_HELP: Final = """Draw up a release of one rule's share, along a curve.

\b
  flagstaff release create new-checkout everybody --every 1h               1, 2, 5, 10, 25, 50, 100 %
  flagstaff release create new-checkout everybody --shares 5%,20%,100% --every 1d --start
  flagstaff release create new-checkout everybody --from 10% --by 10% --every 6h --guard checkout-errors
  flagstaff release create new-checkout everybody --template careful --approvals 1
  flagstaff release create new-checkout everybody --ask ci --ask-timeout 30m --on-silence roll-back
  flagstaff release create new-checkout beta --serve on --every 1h         adds the rule where it is not there
  flagstaff release create --file release.json                             a whole plan, several flags and environments
"""

CANARY_HELP: Final = """Draw up a canary: a treatment beside an equal control, both growing; at the end all have it.

\b
  flagstaff release canary new-checkout --treatment on --baseline off --every 1h --guard checkout-errors
  flagstaff release canary banner --rule everybody --treatment sale --baseline welcome --shares 1%,10%,50%
"""

BLUE_GREEN_HELP: Final = """Draw up a blue-green release: a preview for some, then one switch of all flags at once.

\b
  flagstaff release blue-green search=new ranking=new --audience '{"$ref": "staff"}' --standby 30m
  flagstaff release advance rel_0123456789                                 switches
  flagstaff release roll-back rel_0123456789                               and back, while the old side is kept warm
"""

Name = Annotated[str, given("--name", "What it is called; else after its flag.")]
Description = Annotated[str, given("--description", "What it is about.")]
StartApprovals = Annotated[int, given("--start-approvals", "Approvals before it starts.", min=0)]
StartsAt = Annotated[str, given("--starts-at", "When it starts itself: 2026-12-01T09:00:00Z.")]
CutoffAt = Annotated[str, given("--cutoff-at", "When its flags are turned off, unless it has ended.")]
Deadline = Annotated[str, given("--deadline", "By when it is to be completed.")]
Lock = Annotated[bool, given("--lock", "Keep others from changing its flags while it runs.")]
ByClock = Annotated[
    bool,
    given("--by-clock", "Write steps into the flag beforehand: they come at their second, server or none."),
]
Start = Annotated[bool, given("--start", "Start it, too.")]


class OnDeadline(StrEnum):
    """What happens when a release is not completed in time."""

    WARN = "warn"
    HOLD = "hold"
    ROLL_BACK = "roll-back"


Late = Annotated[OnDeadline, given("--on-deadline", "What happens when it is not.")]


class BackTo(StrEnum):
    """Where a roll-back goes."""

    ANCHOR = "anchor"
    OFF = "off"
    FREEZE = "freeze"


Back = Annotated[BackTo, given("--back-to", "Where a roll-back goes that says nothing else.")]


@remote_write(versioned=False)
def create(
    server: Remote,
    flag: Annotated[str, typer.Argument(metavar="[FLAG]", help="The flag's key.")] = "",
    rule: Annotated[str, typer.Argument(metavar="[RULE]", help="The rule's id.")] = "",
    *,
    shares: Annotated[str, given("--shares", "The shares, such as 1%,10%,100%.")] = "",
    first: Annotated[str, given("--from", "The first share of a line; shares below are left out of the usual.")] = "",
    last: Annotated[str, given("--to", "The last share.")] = "100%",
    by: Annotated[str, given("--by", "How much a line rises at each step.")] = "",
    template: Annotated[str, given("--template", "A template of the project, with gates of its own.")] = "",
    serve: Annotated[str | None, given("--serve", "What the rule serves; adds it where it is not there.")] = None,
    file: Annotated[str, given("--file", "A whole plan as JSON, or - for standard input.")] = "",
    every: Every = "1h",
    guard: Guards = None,
    dry_run_guard: DryGuards = None,
    sample: Sample = 0,
    ask: Asks = None,
    ask_timeout: AskTimeout = "1h",
    on_silence: OnSilence = Silence.HOLD,
    on_no_go: OnNoGo = NoGo.HOLD,
    approvals: Approvals = 0,
    manual: Manual = False,
    name: Name = "",
    description: Description = "",
    start_approvals: StartApprovals = 0,
    starts_at: StartsAt = "",
    cutoff_at: CutoffAt = "",
    deadline: Deadline = "",
    on_deadline: Late = OnDeadline.WARN,
    back_to: Back = BackTo.ANCHOR,
    lock: Lock = False,
    by_clock: ByClock = False,
    start: Start = False,
) -> None:
    """Draw it up."""
    from protos.flagstaff.v1 import releases_pb2 as messages

    if file:
        _create(server, messages.CreateReleaseRequest(plan=_plan_of(file)), start=start)
        return
    if not flag or not rule:
        raise typer.BadParameter("name the flag and its rule, or give a --file")
    externals = arguments.asked(ask, ask_timeout, on_silence, on_no_go)
    gates = arguments.gates(every, guard, dry_run_guard, sample, externals, approvals, manual)
    recipe = messages.ProgressiveRecipe(environment=server.environment, flag_key=flag, rule_id=rule, gates=gates)
    if template:
        recipe.template = template
    elif shares:
        recipe.custom.parts.extend(arguments.parts(each) for each in shares.split(","))
    elif by:
        recipe.linear.by_parts = arguments.parts(by)
        recipe.linear.first_parts = arguments.parts(first or by)
        recipe.linear.last_parts = arguments.parts(last)
    else:
        recipe.geometric.first_parts = arguments.parts(first or "0%")
        recipe.geometric.last_parts = arguments.parts(last)
    if serve is not None:
        recipe.first.add_rule.id = rule
        recipe.first.add_rule.serve.variant = serve
        recipe.first.add_rule.share.parts = 0
    plan = _plan(name or flag, description, start_approvals, starts_at, cutoff_at, deadline, on_deadline, back_to, lock)
    plan.by_clock = by_clock
    _create(server, messages.CreateReleaseRequest(plan=plan, progressive=recipe), start=start)


@remote_write(versioned=False)
def canary(
    server: Remote,
    flag: Key,
    *,
    treatment: Annotated[str, given("--treatment", "The variant that is tried.")],
    baseline: Annotated[str, given("--baseline", "The variant that everybody got so far.")],
    rule: Annotated[str, given("--rule", "The rule that serves them; else what is served when no rule matches.")] = "",
    control: Annotated[str, given("--control", "The variant of the control's units.")] = "control",
    shares: Annotated[str, given("--shares", "The slices' sizes, up to 50%.")] = "1%,5%,10%,25%,50%",
    every: Every = "1h",
    guard: Guards = None,
    dry_run_guard: DryGuards = None,
    sample: Sample = 0,
    ask: Asks = None,
    ask_timeout: AskTimeout = "1h",
    on_silence: OnSilence = Silence.HOLD,
    on_no_go: OnNoGo = NoGo.HOLD,
    approvals: Approvals = 0,
    manual: Manual = False,
    name: Name = "",
    description: Description = "",
    start_approvals: StartApprovals = 0,
    starts_at: StartsAt = "",
    cutoff_at: CutoffAt = "",
    deadline: Deadline = "",
    on_deadline: Late = OnDeadline.WARN,
    back_to: Back = BackTo.ANCHOR,
    lock: Lock = False,
    start: Start = False,
) -> None:
    """Draw it up."""
    from protos.flagstaff.v1 import releases_pb2 as messages

    externals = arguments.asked(ask, ask_timeout, on_silence, on_no_go)
    gates = arguments.gates(every, guard, dry_run_guard, sample, externals, approvals, manual)
    recipe = messages.CanaryRecipe(
        environment=server.environment,
        flag_key=flag,
        rule_id=rule,
        treatment=treatment,
        baseline=baseline,
        control=control,
        parts=[arguments.parts(each) for each in shares.split(",")],
        gates=gates,
    )
    plan = _plan(name or flag, description, start_approvals, starts_at, cutoff_at, deadline, on_deadline, back_to, lock)
    _create(server, messages.CreateReleaseRequest(plan=plan, canary=recipe), start=start)


@remote_write(versioned=False)
def blue_green(
    server: Remote,
    flags: Annotated[list[str], typer.Argument(metavar="FLAG=VARIANT...", help="What each flag is switched to.")],
    *,
    audience: Annotated[str, given("--audience", "Who sees the preview, as JsonLogic.")],
    standby: Annotated[str, given("--standby", "How long the way back is kept warm after the switch.")] = "30m",
    every: Annotated[str, given("--preview", "The least time of the preview; else it waits for `advance`.")] = "",
    guard: Guards = None,
    dry_run_guard: DryGuards = None,
    sample: Sample = 0,
    ask: Asks = None,
    ask_timeout: AskTimeout = "1h",
    on_silence: OnSilence = Silence.HOLD,
    on_no_go: OnNoGo = NoGo.HOLD,
    approvals: Approvals = 0,
    name: Name = "",
    description: Description = "",
    start_approvals: StartApprovals = 0,
    starts_at: StartsAt = "",
    cutoff_at: CutoffAt = "",
    deadline: Deadline = "",
    on_deadline: Late = OnDeadline.WARN,
    back_to: Back = BackTo.ANCHOR,
    lock: Lock = False,
    start: Start = False,
) -> None:
    """Draw it up."""
    from protos.flagstaff.v1 import releases_pb2 as messages

    named = flag_arguments.named_values(flags, "FLAG=VARIANT, such as search=new")
    externals = arguments.asked(ask, ask_timeout, on_silence, on_no_go)
    before = arguments.gates(every or "0s", guard, dry_run_guard, sample, externals, approvals, not every)
    after = arguments.gates(standby, guard, dry_run_guard, 0, (), 0, False)
    recipe = messages.BlueGreenRecipe(
        flags=[
            messages.SwitchedFlag(environment=server.environment, flag_key=key, preview=variant)
            for key, variant in named.items()
        ],
        audience=flag_arguments.json_rule(audience),
        before=before,
        after=after,
    )
    called = name or " ".join(named)
    plan = _plan(called, description, start_approvals, starts_at, cutoff_at, deadline, on_deadline, back_to, lock)
    _create(server, messages.CreateReleaseRequest(plan=plan, blue_green=recipe), start=start)


def _plan(  # noqa: PLR0917  (one for each option)
    name: str,
    description: str,
    start_approvals: int,
    starts_at: str,
    cutoff_at: str,
    deadline: str,
    on_deadline: OnDeadline,
    back_to: BackTo,
    lock: bool,
) -> "messages.ReleasePlan":
    from protos.flagstaff.v1 import releases_pb2 as messages

    plan = messages.ReleasePlan(name=name, description=description, start_approvals=start_approvals, lock=lock)
    for field, text in (("starts_at", starts_at), ("cutoff_at", cutoff_at)):
        if text:
            getattr(plan, field).FromDatetime(read_instant(text, f"--{field.replace('_', '-')}"))
    if deadline:
        plan.deadline.at.FromDatetime(read_instant(deadline, "--deadline"))
        plan.deadline.policy = messages.VerdictPolicy.Value(f"VERDICT_POLICY_{on_deadline.name}")
    plan.back_to.to = messages.RollBackTarget.To.Value(f"TO_{back_to.name}")
    return plan


def _plan_of(file: str) -> "messages.ReleasePlan":
    from google.protobuf import json_format

    from protos.flagstaff.v1 import releases_pb2 as messages

    text = read_file(file).decode("utf-8", "replace")
    try:
        return json_format.Parse(text, messages.ReleasePlan())
    except (json_format.ParseError, RecursionError) as error:
        raise typer.BadParameter(f"{file} is not a flagstaff.v1.ReleasePlan as JSON: {error}") from None


def _create(server: Remote, request: "messages.CreateReleaseRequest", *, start: bool) -> None:
    from protos.flagstaff.v1 import releases_pb2 as messages

    request.project = server.project
    request.options.CopyFrom(server.options())
    reply = stub(server).CreateRelease(request)
    if start and not server.asked.dry_run:
        options = server.options()
        # One id is for one change; the start is another one.
        options.request_id = f"{options.request_id}/start" if options.request_id else ""
        id = reply.release.id
        reply = stub(server).StartRelease(messages.StartReleaseRequest(project=server.project, id=id, options=options))
    if server.prints(reply):
        return
    server.done(reply, f"release {reply.release.id} is {state_name(reply.release.state)}")
    print_steps(reply.release)


def print_steps(release: Any) -> None:
    """The steps of a release, a line each."""
    for index, step in enumerate(release.plan.steps, start=1):
        marker = ">" if index == release.step else " "
        waits = step.gates.minimum.ToTimedelta().total_seconds()
        after = f"  {arguments.spent(waits)}" if waits else ""
        typer.echo(f"{marker} {index}. {step.name or 'step'}{after}")
