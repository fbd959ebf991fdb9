"""The commands `flagstaff rollback ...`: when flags are taken back by themselves."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from server.cli.instants import read_instant
from server.cli.options import given, group
from server.cli.output import print_table
from server.cli.remote import ABOUT_SERVERS, Place, Remote, remote_read, remote_write
from server.core.errors import InvalidRequest

if TYPE_CHECKING:
    from protos.flagstaff.v1 import guards_pb2

HELP: Final = f"""Take flags back by themselves.

When a guard fails, a signal comes, an instant has come or a heartbeat is missing. A roll-back waits for nothing but
what its policy asks for. {ABOUT_SERVERS}

\b
  flagstaff rollback create checkout --flag new-checkout --guard errors
  flagstaff rollback create checkout --flag new-checkout --guard errors --shadow
  flagstaff rollback show checkout
"""

CREATE_HELP: Final = """Arm a policy.

\b
  flagstaff rollback create checkout --flag new-checkout --guard errors --confirm 2 --confirm-of 3
  flagstaff rollback create sale --tag sale --signal budget-burnt --to anchor
  flagstaff rollback create trial --flag new-checkout --expires-at 2026-12-01T09:00:00Z
  flagstaff rollback create probe --flag new-checkout --heartbeat probe --within 60
"""

LIST_HELP: Final = """List policies, and how far each has come.

\b
  flagstaff rollback list
  flagstaff rollback list --json
"""

SHOW_HELP: Final = """Show a policy. What happened to it: `flagstaff guard evaluations --policy KEY`.

\b
  flagstaff rollback show checkout
  flagstaff rollback show checkout --json
"""

DELETE_HELP: Final = """Take a policy away.

\b
  flagstaff rollback delete checkout
  flagstaff rollback delete checkout --dry-run
"""

ARM_HELP: Final = """Arm a policy anew: what is there now is what it goes back to, with --to anchor.

\b
  flagstaff rollback arm checkout
  flagstaff rollback arm checkout --reason "Fixed in 2.4.1"
"""

DISARM_HELP: Final = """Turn a policy off until it is armed.

\b
  flagstaff rollback disarm checkout
  flagstaff rollback disarm checkout --reason "Load test"
"""

app = group(HELP)

Key = Annotated[str, typer.Argument(metavar="KEY", help="The policy's key.")]


class AimName(StrEnum):
    """How far, as an option's choices."""

    OFF = "off"
    ANCHOR = "anchor"
    STEP = "step"
    FREEZE = "freeze"


@app.command("create", help=CREATE_HELP)
@remote_write(Place.ENVIRONMENT, versioned=False)
def create(
    server: Remote,
    key: Key,
    *,
    flag: Annotated[str, given("--flag", "What is taken back.")] = "",
    rule: Annotated[str, given("--rule", "Only this rule of the flag.")] = "",
    tag: Annotated[str, given("--tag", "Every flag with this tag.")] = "",
    plan: Annotated[str, given("--plan", "Every flag that this launch plan is about, by its id.")] = "",
    whole_environment: Annotated[bool, given("--whole-environment", "Every flag of the environment.")] = False,
    guard: Annotated[list[str] | None, given("--guard", "When it fails. Repeatable.")] = None,
    signal: Annotated[list[str] | None, given("--signal", "When it comes. Repeatable.")] = None,
    expires_at: Annotated[str, given("--expires-at", "At an instant: 2026-12-01T09:00:00Z.")] = "",
    heartbeat: Annotated[str, given("--heartbeat", "When it is missing.")] = "",
    within: Annotated[float, given("--within", "Seconds without the heartbeat.")] = 0.0,
    to: Annotated[
        AimName, given("--to", "How far: off, what is there now, a step of the release that runs, or nowhere: hold it.")
    ] = AimName.OFF,
    step: Annotated[int, given("--step", "For --to step: which, counted from 1.", min=0)] = 0,
    shadow: Annotated[bool, given("--shadow", "Only say what would have been done.")] = False,
    confirm: Annotated[int, given("--confirm", "So many failures of --confirm-of judgements.", min=1)] = 1,
    confirm_of: Annotated[int, given("--confirm-of", "The last so many judgements.", min=1)] = 1,
    exposures_min: Annotated[int, given("--exposures-min", "Failures by fewer do not count.", min=0)] = 0,
    cool_down: Annotated[float | None, given("--cool-down", "Seconds of rest after it acted.")] = None,
    auto_resume: Annotated[bool, given("--auto-resume", "Bring it again once all is well.")] = False,
    description: Annotated[str, given("--description", "What it is for.")] = "",
) -> None:
    """Make it."""
    from protos.flagstaff.v1 import guards_pb2 as messages

    kinds = messages.RollbackTrigger
    triggers = [
        *(kinds(kind=kinds.KIND_METRIC, name=each) for each in guard or ()),
        *(kinds(kind=kinds.KIND_SIGNAL, name=each) for each in signal or ()),
        *([kinds(kind=kinds.KIND_HEARTBEAT, name=heartbeat, within_s=within)] if heartbeat else ()),
    ]
    if expires_at:
        expiry = kinds(kind=kinds.KIND_EXPIRY)
        expiry.at.FromDatetime(read_instant(expires_at, "--expires-at"))
        triggers.append(expiry)
    policy = messages.RollbackPolicy(
        key=key,
        environment=server.environment,
        triggers=triggers,
        reach=_reach(flag, rule, tag, plan, whole_environment=whole_environment),
        aim=messages.RollbackPolicy.Aim.Value(f"AIM_{to.name}"),
        step=step,
        mode=messages.RollbackPolicy.MODE_SHADOW if shadow else messages.RollbackPolicy.MODE_ENFORCE,
        confirm=confirm,
        confirm_of=max(confirm, confirm_of),
        exposures_min=exposures_min,
        cool_down_s=cool_down,
        auto_resume=auto_resume,
        description=description,
    )
    request = messages.CreateRollbackPolicyRequest(project=server.project, policy=policy, options=server.options())
    server.done(_stub(server).CreateRollbackPolicy(request), f"roll-back policy {key} is armed")


@app.command("list", help=LIST_HELP)
@remote_read(Place.PROJECT)
def list_policies(server: Remote) -> None:
    """Read as many pages as it takes and list them."""
    from protos.flagstaff.v1 import guards_pb2 as messages

    whole = messages.ListRollbackPoliciesResponse()
    request = messages.ListRollbackPoliciesRequest(project=server.project, page_size=1_000)
    while True:
        page = _stub(server).ListRollbackPolicies(request)
        whole.policies.extend(page.policies)
        whole.total_size = page.total_size
        request.page_token = page.next_page_token
        if not page.next_page_token:
            break
    if not server.prints(whole):
        columns = ("key", "environment", "state", "mode", "takes back", "when")
        print_table(columns, [_row(each) for each in whole.policies])
        typer.echo(f"\n{len(whole.policies)} roll-back polic{'y' if len(whole.policies) == 1 else 'ies'}")


@app.command("show", help=SHOW_HELP)
@remote_read(Place.PROJECT)
def show(server: Remote, key: Key) -> None:
    """Read one and print it."""
    from protos.flagstaff.v1 import guards_pb2 as messages

    reply = _stub(server).GetRollbackPolicy(messages.GetRollbackPolicyRequest(project=server.project, key=key))
    if server.prints(reply):
        return
    policy = reply.policy
    key, environment, state, mode, reach, triggers = _row(policy)
    aim = _name("Aim", policy.aim)
    typer.echo(f"{key} is {state} in {environment} ({mode}); it acts by the rights of {policy.author}")
    typer.echo(f"takes back {reach} to {aim}, when: {triggers}")
    typer.echo(f"confirmed by {policy.confirm} of {policy.confirm_of}; armed at revision {policy.anchor_revision}")


@app.command("delete", help=DELETE_HELP)
@remote_write(Place.PROJECT)
def delete(server: Remote, key: Key) -> None:
    """Take it away."""
    _change(server, "DeleteRollbackPolicy", key, "gone")


@app.command("arm", help=ARM_HELP)
@remote_write(Place.PROJECT)
def arm(server: Remote, key: Key) -> None:
    """Arm it."""
    _change(server, "ArmRollbackPolicy", key, "armed")


@app.command("disarm", help=DISARM_HELP)
@remote_write(Place.PROJECT)
def disarm(server: Remote, key: Key) -> None:
    """Turn it off."""
    _change(server, "DisarmRollbackPolicy", key, "disarmed")


def _stub(server: Remote) -> Any:
    from protos.flagstaff.v1.guards_pb2_grpc import GuardServiceStub

    return GuardServiceStub(server.channel)


def _change(server: Remote, method: str, key: str, what: str) -> None:
    from protos.flagstaff.v1 import guards_pb2 as messages

    request = getattr(messages, f"{method}Request")(project=server.project, key=key, options=server.options())
    server.done(getattr(_stub(server), method)(request), f"roll-back policy {key} is {what}")


def _reach(flag: str, rule: str, tag: str, plan: str, *, whole_environment: bool) -> "guards_pb2.RollbackReach":
    from protos.flagstaff.v1 import guards_pb2 as messages

    if sum(map(bool, (flag, tag, plan, whole_environment))) != 1:
        raise InvalidRequest("say what is taken back: --flag, --tag, --plan or --whole-environment")
    kinds = messages.RollbackReach
    if whole_environment:
        return kinds(kind=kinds.KIND_ENVIRONMENT)
    if plan:
        return kinds(kind=kinds.KIND_PLAN, key=plan)
    if tag:
        return kinds(kind=kinds.KIND_LABEL, key=tag)
    return kinds(kind=kinds.KIND_RULE if rule else kinds.KIND_FLAG, key=flag, rule=rule)


def _row(policy: "guards_pb2.RollbackPolicy") -> list[str]:
    from protos.flagstaff.v1 import guards_pb2 as messages
    from server.cli.documents import enum_name

    reach = enum_name(messages.RollbackReach.Kind.DESCRIPTOR, policy.reach.kind)
    named = " ".join(each for each in (reach, policy.reach.key, policy.reach.rule) if each)
    triggers = [
        f"{enum_name(messages.RollbackTrigger.Kind.DESCRIPTOR, each.kind)} "
        f"{each.name or f'{each.at.ToDatetime():%Y-%m-%d %H:%M} UTC'}"
        for each in policy.triggers
    ]
    state, mode = _name("State", policy.state), _name("Mode", policy.mode)
    return [policy.key, policy.environment, state, mode, named, ", ".join(triggers)]


def _name(enum: str, number: int) -> str:
    from protos.flagstaff.v1 import guards_pb2 as messages
    from server.cli.documents import enum_name

    return enum_name(messages.RollbackPolicy.DESCRIPTOR.enum_types_by_name[enum], number)
