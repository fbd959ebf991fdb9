"""Read what the commands about releases are given, and show shares, durations and states."""

import re
from collections.abc import Sequence
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from server.cli.flag import arguments
from server.cli.options import given
from server.cli.remote import Remote

if TYPE_CHECKING:
    from google.protobuf.duration_pb2 import Duration

    from protos.flagstaff.v1 import releases_pb2 as messages

_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_DURATION: Final = re.compile(r"(?:\d+(?:\.\d+)?[smhd])+")


class Silence(StrEnum):
    """What no answer means, as an option's choices."""

    GO = "go"
    HOLD = "hold"
    ROLL_BACK = "roll-back"


class NoGo(StrEnum):
    """What a no means, as an option's choices."""

    HOLD = "hold"
    ROLL_BACK = "roll-back"


Id = Annotated[str, typer.Argument(metavar="ID", help="The release's id.")]
Key = Annotated[str, typer.Argument(metavar="FLAG", help="The flag's key.")]
Every = Annotated[str, given("--every", "The least time of each step, such as 30m, 1h or 1d12h.")]
Guards = Annotated[list[str] | None, given("--guard", "A guard that must pass; a failure rolls back. Repeatable.")]
DryGuards = Annotated[
    list[str] | None, given("--dry-run-guard", "A guard that is written down and decides nothing. Repeatable.")
]
Sample = Annotated[int, given("--sample", "Observations that each guard must have seen.", min=0)]
Asks = Annotated[list[str] | None, given("--ask", "Somebody outside who must say go. Repeatable.")]
AskTimeout = Annotated[str, given("--ask-timeout", "How long they may take.")]
OnSilence = Annotated[Silence, given("--on-silence", "What it means when they have not answered by then.")]
OnNoGo = Annotated[NoGo, given("--on-no-go", "What their no means.")]
Approvals = Annotated[int, given("--approvals", "Approvals for the end of each step, asked last.", min=0)]
Manual = Annotated[bool, given("--manual", "Each step waits for `flagstaff release advance`.")]


def stub(server: Remote) -> Any:
    """The service's stub."""
    from protos.flagstaff.v1.releases_pb2_grpc import ReleaseServiceStub

    return ReleaseServiceStub(server.channel)


def duration(text: str) -> "Duration":
    """A time such as 90s, 30m, 1h or 1d12h. Errors: BadParameter."""
    from google.protobuf.duration_pb2 import Duration

    if not _DURATION.fullmatch(text):
        raise typer.BadParameter(f"{text!r} is not a time such as 90s, 30m, 1h or 1d12h")
    seconds = sum(float(each[:-1]) * _SECONDS[each[-1]] for each in re.findall(r"[\d.]+[smhd]", text))
    message = Duration()
    message.FromTimedelta(timedelta(seconds=seconds))
    return message


def parts(text: str) -> int:
    """A share from a percentage, such as 12.5%. Errors: BadParameter."""
    share = arguments.share(text)
    if share is None:
        raise typer.BadParameter(f"share {text!r} is not a percentage, such as 12.5%")
    return share.parts


def gates(
    every: str,
    guards: list[str] | None,
    dry_guards: list[str] | None,
    sample: int,
    externals: "Sequence[messages.ReleaseExternal]",
    approvals: int,
    manual: bool,
) -> "messages.ReleaseGates":
    """The gates of a step, as the options say. Errors: BadParameter."""
    from protos.flagstaff.v1 import releases_pb2 as messages

    checks = [messages.ReleaseCheck(guard=each) for each in guards or ()]
    checks += [messages.ReleaseCheck(guard=each, dry_run=True) for each in dry_guards or ()]
    return messages.ReleaseGates(
        minimum=duration(every),
        sample_min=sample,
        checks=checks,
        externals=externals,
        approvals=approvals,
        manual=manual,
    )


def asked(
    names: list[str] | None, timeout: str, on_silence: Silence, on_no_go: NoGo
) -> "list[messages.ReleaseExternal]":
    """Who is asked at the end of a step. Errors: BadParameter."""
    from protos.flagstaff.v1 import releases_pb2 as messages

    number = messages.ReleaseExternal.OnSilence.Value
    return [
        messages.ReleaseExternal(
            name=each,
            timeout=duration(timeout),
            on_timeout=number(f"ON_SILENCE_{on_silence.name}"),
            on_no_go=number(f"ON_SILENCE_{on_no_go.name}"),
        )
        for each in names or ()
    ]


def state_name(number: int) -> str:
    """A state as people read it."""
    from protos.flagstaff.v1 import releases_pb2 as messages
    from server.cli.documents import enum_name

    return enum_name(messages.ReleaseState.DESCRIPTOR, number)


def spent(seconds: float) -> str:
    """A time as people read it: `1 h 5 min`."""
    left = max(0, round(seconds))
    if left < 60:
        return f"{left} s"
    days, hours, minutes = left // 86_400, left % 86_400 // 3600, left % 3600 // 60
    named = ((days, "d"), (hours, "h"), (minutes, "min"))
    return " ".join(f"{count} {unit}" for count, unit in named if count)
