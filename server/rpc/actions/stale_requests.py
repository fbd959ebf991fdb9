"""Say which requests the actions on stale flags come to."""

from datetime import UTC, datetime
from typing import Any, Final

from protos.flagstaff.v1 import flags_pb2 as flags
from protos.flagstaff.v1 import staleness_pb2 as messages
from server.core.errors import InvalidDefinition, Problem
from server.core.json import Json
from server.rpc.actions.doing import Doing, Request
from server.rpc.timestamps import timestamp

LIMIT: Final = 100


async def snooze_stale(doing: Doing) -> Request:
    """Nobody hears of it for a while. Errors: InvalidDefinition."""
    given = doing.given
    if ("until" in given) == ("days" in given):
        raise InvalidDefinition([Problem("/until", "say until when, or for how many days: one of the two")])
    message = messages.SnoozeStaleRequest(project=doing.project, key=given["flag_key"], options=doing.options())
    if "until" in given:
        message.until.CopyFrom(timestamp(datetime.fromisoformat(given["until"])))
    else:
        message.days = int(given["days"])
    return Request("StalenessService/SnoozeStale", message)


async def mark_stale(doing: Doing) -> Request:
    """It is stale now."""
    message = messages.MarkStaleRequest(project=doing.project, key=doing.given["flag_key"], options=doing.options())
    return Request("StalenessService/MarkStale", message)


async def clear_stale(doing: Doing) -> Request:
    """What was said of it is taken back."""
    message = messages.ClearStaleRequest(project=doing.project, key=doing.given["flag_key"], options=doing.options())
    return Request("StalenessService/ClearStale", message)


async def mark_permanent(doing: Doing) -> Request:
    """It is to stay."""
    message = messages.MarkPermanentRequest(project=doing.project, key=doing.given["flag_key"], options=doing.options())
    return Request("StalenessService/MarkPermanent", message)


async def list_stale_flags(doing: Doing) -> list[dict[str, Json]]:
    """Those that fit, the longest stale first."""
    given = doing.given
    request = messages.ListStaleFlagsRequest(
        project=doing.project,
        owner=given.get("owner", ""),
        tags=[given["tag"]] if given.get("tag") else (),
        page_size=int(given.get("limit", LIMIT)),
    )
    if given.get("state"):
        request.states.append(messages.StaleState.Value(f"STALE_STATE_{str(given['state']).upper()}"))
    if given.get("kind"):
        request.kinds.append(flags.FlagKind.Value(f"FLAG_KIND_{str(given['kind']).upper()}"))
    listed = await doing.ask(Request("StalenessService/ListStaleFlags", request))
    return [_item(each) for each in listed.flags]


def _item(flag: Any) -> dict[str, Json]:
    return {
        "flag_key": flag.key,
        "state": messages.StaleState.Name(flag.state).removeprefix("STALE_STATE_").lower(),
        "rule": flag.rules[0] if flag.rules else "",
        "owner": flag.owner,
        "tags": list(flag.tags),
        "kind": flags.FlagKind.Name(flag.kind).removeprefix("FLAG_KIND_").lower(),
        "one_variant": flag.one_variant,
        "served_variant": flag.served_variant if flag.HasField("served_variant") else None,
        "changed_at": flag.changed_at.ToDatetime(tzinfo=UTC).isoformat(),
        "stale_at": flag.stale_at.ToDatetime(tzinfo=UTC).isoformat() if flag.HasField("stale_at") else None,
        "evidence": list(flag.evidence),
        "suggested_action": flag.suggested_action,
    }
