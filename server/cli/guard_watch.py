"""Show guards and roll-back policies as they go on."""

import sys
from collections import deque
from typing import TYPE_CHECKING, Any, Final

import typer

from server.cli.remote import Remote

if TYPE_CHECKING:
    from rich.console import RenderableType

    from protos.flagstaff.v1 import guards_pb2 as messages

SHOWN_MAX: Final = 10
"""Happenings below the tables."""

_STYLES: Final = {"fail": "bold red", "pass": "green", "error": "red", "cooling": "bold yellow", "disarmed": "dim"}


class Watched:
    """All that was told so far."""

    def __init__(self) -> None:
        self.guards: dict[str, messages.Guard] = {}
        self.policies: dict[str, messages.RollbackPolicy] = {}
        self.happened: deque[str] = deque(maxlen=SHOWN_MAX)

    def hear(self, reply: "messages.WatchGuardsResponse") -> list[str]:
        """Take news in; gives what is to be said of them, a line each."""
        lines = [event_line(each) for each in reply.evaluations]
        lines += [f"guard {each} is gone" for each in reply.deleted_guards]
        lines += [f"policy {each} is gone" for each in reply.deleted_policies]
        self.guards.update({each.key: each for each in reply.guards})
        self.policies.update({each.key: each for each in reply.policies})
        for key in reply.deleted_guards:
            self.guards.pop(key, None)
        for key in reply.deleted_policies:
            self.policies.pop(key, None)
        self.happened.extend(lines)
        return lines

    def standing(self) -> list[str]:
        """How everything is, a line each."""
        guards = [f"guard {key} in {each.environment}: {said(each)}" for key, each in sorted(self.guards.items())]
        policies = [f"policy {key} in {each.environment}: {state(each)}" for key, each in sorted(self.policies.items())]
        return [*guards, *policies]

    def view(self) -> "RenderableType":
        """Two tables, and what happened last."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        guards, policies = Table("guard", "environment", "verdict", "why"), Table("policy", "environment", "state")
        for key, guard in sorted(self.guards.items()):
            verdict = said(guard).partition(":")[0]
            why = Text(guard.last.text if guard.HasField("last") else "")
            guards.add_row(Text(key), Text(guard.environment), Text(verdict, style=_STYLES.get(verdict, "")), why)
        for key, policy in sorted(self.policies.items()):
            word = state(policy)
            policies.add_row(Text(key), Text(policy.environment), Text(word, style=_STYLES.get(word, "")))
        return Group(guards, policies, *(Text(line) for line in self.happened))


def follow(server: Remote, stream: Any, *, limit: int) -> None:
    """A live view on a terminal, a line for each thing elsewhere, until so many have happened."""
    from server.cli.documents import as_document
    from server.cli.output import print_json

    watched, count, is_first = Watched(), 0, True
    if sys.stdout.isatty() and not server.as_json:
        from rich.live import Live

        with Live(auto_refresh=False) as live:
            for reply in stream:
                count += len(watched.hear(reply))
                live.update(watched.view(), refresh=True)
                if limit and count >= limit:
                    break
    else:
        for reply in stream:
            lines = watched.hear(reply)
            if server.as_json:
                print_json(as_document(reply), indent=None)
            else:
                for line in watched.standing() if is_first else lines:
                    typer.echo(line)
            sys.stdout.flush()
            is_first, count = False, count + len(lines)
            if limit and count >= limit:
                break
    stream.cancel()


def said(guard: "messages.Guard") -> str:
    """What was said of a guard last."""
    return f"{verdict_word(guard.last)}: {guard.last.text}" if guard.HasField("last") else "nothing yet"


def state(policy: "messages.RollbackPolicy") -> str:
    """Where a policy is."""
    from protos.flagstaff.v1 import guards_pb2 as messages
    from server.cli.documents import enum_name

    return enum_name(messages.RollbackPolicy.State.DESCRIPTOR, policy.state)


def verdict_word(judgement: "messages.Judgement") -> str:
    """A verdict as people read it."""
    from protos.flagstaff.v1 import guards_pb2 as messages
    from server.cli.documents import enum_name

    return enum_name(messages.Verdict.DESCRIPTOR, judgement.verdict)


def event_line(each: "messages.GuardEvaluation") -> str:
    """One thing that happened."""
    who = ", ".join(
        f"{kind} {key}"
        for kind, key in (("guard", each.guard), ("policy", each.policy), ("of", each.name))
        if key and (kind != "of" or key != each.guard)
    )
    verdict = f" {verdict_word(each.judgement)}" if each.HasField("judgement") else ""
    outcome = f", so {each.outcome.replace('_', ' ')}" if each.outcome else ""
    text = f": {each.text}" if each.text else ""
    return f"{each.at.ToDatetime():%Y-%m-%d %H:%M:%S} UTC  {who} {each.happening}{verdict}{outcome}{text}"
