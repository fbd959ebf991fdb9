"""Print rules, and what they would do."""

import json
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from protos.flagstaff.v1 import rules_pb2 as messages


def print_tried(reply: Any) -> None:
    """What a rule would do because of an event."""
    if not reply.wanted:
        typer.echo(f"it does not answer this event{f': {reply.problem}' if reply.problem else ''}")
        return
    if reply.endpoint_id:
        typer.echo(f"it would deliver the event to {reply.endpoint_id}")
        return
    if reply.HasField("act"):
        typer.echo(f"it would have {reply.act.action} done: {_plain(reply.act.inputs)}")
    if reply.problem:
        typer.echo(f"and that would be refused: {reply.problem}")
    for line in reply.would.changes:
        typer.echo(f"  {line}")
    for warning in reply.would.warnings:
        typer.echo(f"warning: {warning}", err=True)


def on_text(rule: "messages.AutomationRule") -> str:
    """What it answers."""
    return ", ".join(rule.when.event_types)


def does_text(rule: "messages.AutomationRule") -> str:
    """What it does then."""
    if rule.WhichOneof("then") == "deliver":
        return f"deliver to {rule.deliver.endpoint_id or '...'}"
    return f"{rule.act.action} {_plain(rule.act.inputs)}"


def _plain(struct: Any) -> str:
    from google.protobuf.json_format import MessageToDict

    return json.dumps(MessageToDict(struct), ensure_ascii=False, sort_keys=True)


def state_text(rule: "messages.AutomationRule") -> str:
    """How it is."""
    if not rule.enabled:
        return f"disabled ({rule.why})" if rule.why else "disabled"
    return f"failing ({rule.failure_count} times)" if rule.HasField("failing_since") else "enabled"
