"""Move a release: start, pause, resume, advance, jump, hold, approve, answer, roll back, restart, complete, abort."""

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Annotated, Any, Final

import typer

from server.cli.options import given
from server.cli.release.arguments import Id, state_name, stub
from server.cli.remote import Place, Remote, remote_write

Text = Annotated[str, given("--comment", "What there is to say.")]


class Target(StrEnum):
    """Where a roll-back goes."""

    PLAN = "plan"
    ANCHOR = "anchor"
    OFF = "off"
    FREEZE = "freeze"


@remote_write(Place.PROJECT)
def start(server: Remote, id: Id, comment: Text = "") -> None:
    """Begin."""
    _done(server, "StartRelease", id, text=comment)


@remote_write(Place.PROJECT)
def approve(server: Remote, id: Id, comment: Text = "") -> None:
    """Say yes."""
    _done(server, "ApproveRelease", id, text=comment)


@remote_write(Place.PROJECT)
def pause(server: Remote, id: Id, comment: Text = "") -> None:
    """Stop its time."""
    _done(server, "PauseRelease", id, text=comment)


@remote_write(Place.PROJECT)
def resume(server: Remote, id: Id, comment: Text = "") -> None:
    """Go on."""
    _done(server, "ResumeRelease", id, text=comment)


@remote_write(Place.PROJECT)
def hold(server: Remote, id: Id, comment: Text = "") -> None:
    """Stay at the step."""
    _done(server, "HoldRelease", id, text=comment)


@remote_write(Place.PROJECT)
def advance(server: Remote, id: Id, comment: Text = "") -> None:
    """Go to the next step."""
    _done(server, "AdvanceRelease", id, text=comment)


@remote_write(Place.PROJECT)
def jump(
    server: Remote, id: Id, step: Annotated[int, typer.Argument(metavar="STEP", min=1)], comment: Text = ""
) -> None:
    """Go to any step."""
    _done(server, "JumpRelease", id, text=comment, step=step)


@remote_write(Place.PROJECT)
def answer(
    server: Remote,
    id: Id,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whom the step asks.")],
    *,
    go: Annotated[bool, given("--go/--no-go", "What they say.")],
    comment: Text = "",
) -> None:
    """Say go or no-go for somebody."""
    _done(server, "AnswerRelease", id, text=comment, name=name, go=go)


@remote_write(Place.PROJECT)
def roll_back(
    server: Remote,
    id: Id,
    *,
    to: Annotated[Target, given("--to", "Where to; else where the plan says.")] = Target.PLAN,
    step: Annotated[int, given("--step", "To this step, which was served before.", min=0)] = 0,
    comment: Text = "",
) -> None:
    """Take it back."""
    from protos.flagstaff.v1 import releases_pb2 as messages

    fields: dict[str, Any] = {}
    if step:
        fields["target"] = messages.RollBackTarget(to=messages.RollBackTarget.TO_STEP, step=step)
    elif to is not Target.PLAN:
        fields["target"] = messages.RollBackTarget(to=messages.RollBackTarget.To.Value(f"TO_{to.name}"))
    _done(server, "RollBackRelease", id, text=comment, **fields)


@remote_write(Place.PROJECT)
def restart(server: Remote, id: Id, comment: Text = "") -> None:
    """Begin anew."""
    _done(server, "RestartRelease", id, text=comment)


@remote_write(Place.PROJECT)
def complete(server: Remote, id: Id, comment: Text = "") -> None:
    """Go to the end."""
    _done(server, "CompleteRelease", id, text=comment)


@remote_write(Place.PROJECT)
def abort(server: Remote, id: Id, comment: Text = "") -> None:
    """End where it is."""
    _done(server, "AbortRelease", id, text=comment)


def _done(server: Remote, method: str, id: str, **fields: Any) -> None:
    from protos.flagstaff.v1 import releases_pb2 as messages

    request = getattr(messages, f"{method}Request")(project=server.project, id=id, options=server.options(), **fields)
    reply = getattr(stub(server), method)(request)
    release = reply.release
    note = f": {release.note}" if release.note else ""
    at = f", at step {release.step} of {len(release.plan.steps)}" if release.step else ""
    server.done(reply, f"release {id} is {state_name(release.state)}{at}{note}")


COMMANDS: Final[Mapping[str, Callable[..., None]]] = {
    "start": start,
    "approve": approve,
    "pause": pause,
    "resume": resume,
    "hold": hold,
    "advance": advance,
    "jump": jump,
    "answer": answer,
    "roll-back": roll_back,
    "restart": restart,
    "complete": complete,
    "abort": abort,
}

_EXAMPLE: Final = "rel_0123456789"

HELPS: Final[Mapping[str, str]] = {
    "start": f"""Begin with the first step, or wait for the approvals that it needs.

\b
  flagstaff release start {_EXAMPLE}
""",
    "approve": f"""Agree to the start of a release, or to the end of a step. One's own approval does not count.

\b
  flagstaff release approve {_EXAMPLE} --comment "Looks right"
""",
    "pause": f"""Stop a release and its time. It is still taken back when something is wrong.

\b
  flagstaff release pause {_EXAMPLE} --comment "Until Monday"
""",
    "resume": f"""Let a release go on that is paused or held.

\b
  flagstaff release resume {_EXAMPLE}
""",
    "hold": f"""Keep a release at its step, whatever its gates say; its time goes on.

\b
  flagstaff release hold {_EXAMPLE}
""",
    "advance": f"""Leave a step for the next one, whatever its gates say.

\b
  flagstaff release advance {_EXAMPLE}
""",
    "jump": f"""Go to any step, forward or back.

\b
  flagstaff release jump {_EXAMPLE} 4
""",
    "answer": f"""Say go or no-go in the name of somebody whom a step asks.

\b
  flagstaff release answer {_EXAMPLE} ci --go
  flagstaff release answer {_EXAMPLE} legal --no-go --comment "Not in Germany"
""",
    "roll-back": f"""Take a release back, at once: approvals, freezes and timers do not hold this up.

\b
  flagstaff release roll-back {_EXAMPLE} --reason "Errors in checkout"
  flagstaff release roll-back {_EXAMPLE} --step 2
  flagstaff release roll-back {_EXAMPLE} --to off
""",
    "restart": f"""Begin anew after a roll-back. Everybody is where they were.

\b
  flagstaff release restart {_EXAMPLE}
""",
    "complete": f"""Go to the last step and end.

\b
  flagstaff release complete {_EXAMPLE}
""",
    "abort": f"""End a release where it is; its flags stay as they are.

\b
  flagstaff release abort {_EXAMPLE}
""",
}
