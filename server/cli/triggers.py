"""The commands `flagstaff trigger ...`: addresses that have one action done."""

from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from server.cli.action_inputs import read_inputs
from server.cli.options import given, group
from server.cli.output import print_json, print_table
from server.cli.remote import ABOUT_SERVERS, Place, Remote, remote_read, remote_write

if TYPE_CHECKING:
    from protos.flagstaff.v1 import triggers_pb2

HELP: Final = f"""Make addresses that have one action done, for tools that can only post to one.

{ABOUT_SERVERS}

\b
  flagstaff trigger create "kill by pager" kill_flag flag_key=new-ui --environment production
  flagstaff trigger create "alerts" --preset alertmanager --environment production
  flagstaff trigger list
  flagstaff trigger rotate trg_3f9a02b7c1
"""

CREATE_HELP: Final = """Make an address; it is shown now and never again. Whoever knows it can have its action done.

With a preset it reads the alerts of a tool: alertmanager, grafana, datadog, pagerduty, sentry. Without an action each
alert is a signal of its name, to which roll-back policies listen.

\b
  flagstaff trigger create "kill by pager" kill_flag flag_key=new-ui --environment production
  flagstaff trigger create "alerts" --preset alertmanager --environment production
  flagstaff trigger create "pause" pause_release flag_key=new-ui --preset grafana \
    --resolved resume_release --resolved-input flag_key=new-ui --environment production
  flagstaff trigger create "signed" kill_flag flag_key=new-ui --require-signature --environment production
"""

LIST_HELP: Final = """List the addresses of a project, without what is secret about them.

\b
  flagstaff trigger list
  flagstaff trigger list --json
"""

SHOW_HELP: Final = """Show what an address does.

\b
  flagstaff trigger show trg_3f9a02b7c1
  flagstaff trigger show trg_3f9a02b7c1 --project shop
"""

ROTATE_HELP: Final = """Give a trigger another address, and another signing secret; the old ones are good no more.

\b
  flagstaff trigger rotate trg_3f9a02b7c1
  flagstaff trigger rotate trg_3f9a02b7c1 --reason "it was in a repository"
"""

ENABLE_HELP: Final = """Have an address work again.

\b
  flagstaff trigger enable trg_3f9a02b7c1
  flagstaff trigger enable trg_3f9a02b7c1 --dry-run
"""

DISABLE_HELP: Final = """Have an address do nothing until it is enabled.

\b
  flagstaff trigger disable trg_3f9a02b7c1
  flagstaff trigger disable trg_3f9a02b7c1 --reason "too many alerts"
"""

DELETE_HELP: Final = """Delete an address.

\b
  flagstaff trigger delete trg_3f9a02b7c1
  flagstaff trigger delete trg_3f9a02b7c1 --dry-run
"""

app = group(HELP)

Id = Annotated[str, typer.Argument(metavar="ID", help="The trigger's id, as `flagstaff trigger list` has it.")]


@app.command("create", help=CREATE_HELP)
@remote_write(Place.ANYWHERE, versioned=False)
def create(
    server: Remote,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it is called.")],
    action: Annotated[str, typer.Argument(metavar="[ACTION]", help="One of `flagstaff action list`.")] = "",
    inputs: Annotated[list[str] | None, typer.Argument(metavar="[INPUT=VALUE]...", help="Its inputs.")] = None,
    *,
    preset: Annotated[str, given("--preset", "Whose alerts it reads.")] = "",
    resolved: Annotated[str, given("--resolved", "The action when an alert is over.")] = "",
    resolved_inputs: Annotated[
        list[str] | None, given("--resolved-input", "INPUT=VALUE of that one. Repeatable.")
    ] = None,
    require_signature: Annotated[
        bool, given("--require-signature", "Calls must be signed, by a secret that is shown now.")
    ] = False,
    public_key: Annotated[str, given("--public-key", "Calls must be signed, by the key of this one: whpk_...")] = "",
) -> None:
    """Make it, and show it."""
    from protos.flagstaff.v1 import triggers_pb2 as messages
    from protos.flagstaff.v1.triggers_pb2_grpc import TriggerServiceStub

    request = messages.CreateTriggerRequest(
        project=server.project,
        environment=server.environment,
        name=name,
        preset=preset,
        firing=_effect(action, inputs),
        resolved=_effect(resolved, resolved_inputs),
        require_signature=require_signature,
        public_key=public_key,
        options=server.options(),
    )
    _done(server, TriggerServiceStub(server.channel).CreateTrigger(request))


def _effect(action: str, words: list[str] | None) -> "triggers_pb2.TriggerEffect | None":
    from protos.flagstaff.v1 import triggers_pb2 as messages

    if not action:
        return None
    effect = messages.TriggerEffect(action=action)
    effect.inputs.update(read_inputs(words or ()))
    return effect


@app.command("list", help=LIST_HELP)
@remote_read(Place.PROJECT)
def list_triggers(server: Remote) -> None:
    """Print all pages as one."""
    from protos.flagstaff.v1 import triggers_pb2 as messages
    from protos.flagstaff.v1.triggers_pb2_grpc import TriggerServiceStub

    request = messages.ListTriggersRequest(project=server.project, page_size=1_000)
    reply = TriggerServiceStub(server.channel).ListTriggers(request)
    if not server.prints(reply):
        print_table(("id", "name", "where", "does", "preset", "state", "used"), [_row(each) for each in reply.triggers])


def _row(trigger: "triggers_pb2.Trigger") -> tuple[str, ...]:
    does = trigger.firing.action + (f" / {trigger.resolved.action}" if trigger.HasField("resolved") else "")
    state = ("enabled" if trigger.enabled else "disabled") + (", signed" if trigger.signed else "")
    where, preset = trigger.environment or "-", trigger.preset or "-"
    return trigger.id, trigger.name, where, does, preset, state, str(trigger.use_count)


@app.command("show", help=SHOW_HELP)
@remote_read(Place.PROJECT)
def show(server: Remote, id: Id) -> None:
    """Print it as JSON: its inputs may be anything."""
    from protos.flagstaff.v1 import triggers_pb2 as messages
    from protos.flagstaff.v1.triggers_pb2_grpc import TriggerServiceStub
    from server.cli.documents import as_document

    reply = TriggerServiceStub(server.channel).GetTrigger(messages.GetTriggerRequest(project=server.project, id=id))
    print_json(as_document(reply.trigger))


@app.command("rotate", help=ROTATE_HELP)
@remote_write(Place.PROJECT)
def rotate(server: Remote, id: Id) -> None:
    """Make another address, and show it."""
    _ask(server, "RotateTrigger", id)


@app.command("enable", help=ENABLE_HELP)
@remote_write(Place.PROJECT)
def enable(server: Remote, id: Id) -> None:
    """Let it work."""
    _ask(server, "EnableTrigger", id)


@app.command("disable", help=DISABLE_HELP)
@remote_write(Place.PROJECT)
def disable(server: Remote, id: Id) -> None:
    """Stop it."""
    _ask(server, "DisableTrigger", id)


@app.command("delete", help=DELETE_HELP)
@remote_write(Place.PROJECT)
def delete(server: Remote, id: Id) -> None:
    """Take it away."""
    _ask(server, "DeleteTrigger", id)


def _ask(server: Remote, method: str, id: str) -> None:
    from protos.flagstaff.v1 import triggers_pb2 as messages
    from protos.flagstaff.v1.triggers_pb2_grpc import TriggerServiceStub

    request = getattr(messages, f"{method}Request")(project=server.project, id=id, options=server.options())
    _done(server, getattr(TriggerServiceStub(server.channel), method)(request))


def _done(server: Remote, reply: Any) -> None:
    if server.prints(reply):
        return
    server.done(reply, f"trigger {reply.trigger.id} ({reply.trigger.name})")
    if reply.path:
        typer.echo(f"its address, shown once: {reply.path}  (on the port for HTTP, 8016 unless it was set)")
    if reply.signing_secret:
        typer.echo(f"its signing secret, shown once: {reply.signing_secret}")
