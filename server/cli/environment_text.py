"""Show environments to people."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import typer

from server.cli.documents import enum_name
from server.core.counting import counted

if TYPE_CHECKING:
    from protos.flagstaff.v1 import environments_pb2

SHOWN: Final = "%Y-%m-%d %H:%M"


def row_of(environment: "environments_pb2.Environment") -> list[str]:
    """Its row in a table: key, name, flags, segments, revision, protection."""
    settings = environment.settings
    counts = (environment.flag_count, environment.segment_count, environment.revision)
    return [environment.key, settings.name or "-", *map(str, counts), ", ".join(_protection(settings)) or "-"]


def _protection(settings: "environments_pb2.EnvironmentSettings") -> list[str]:
    now = datetime.now(UTC)
    open_until = [
        window.ends_at.ToDatetime(UTC)
        for window in settings.freeze_windows
        if window.starts_at.ToDatetime(UTC) <= now < window.ends_at.ToDatetime(UTC)
    ]
    found = ["critical"] if settings.critical else []
    if settings.approval_policy.approvals:
        found.append(counted(settings.approval_policy.approvals, "approval"))
    if open_until:
        found.append(f"frozen until {max(open_until):{SHOWN}} UTC")
    return found


def print_environment(environment: "environments_pb2.Environment") -> None:
    """Print all of it."""
    settings = environment.settings
    lines = {
        "flag set": f"{environment.project}/{environment.key}",
        "name": settings.name or "-",
        "revision": f"{environment.revision}, its settings at version {environment.version}",
        "holds": f"{counted(environment.flag_count, 'flag')}, {counted(environment.segment_count, 'segment')}",
        "bucketing": "v3" if settings.bucketing == 2 else "v2",
        "sync": "off" if settings.without_sync else "on",
        "protection": ", ".join(_protection(settings)) or "none",
    }
    if environment.source:
        lines["source"] = environment.source
    for name, value in settings.metadata.items():
        lines[f"metadata {name}"] = str(value)
    policy = settings.approval_policy
    if policy.approvals:
        lines["approvals by"] = _people(policy) or "whoever may approve"
        lines["approvals of"] = ", ".join(policy.covers) or "flags, segments and settings"
    for window in settings.freeze_windows:
        times = (window.starts_at.ToDatetime(UTC), window.ends_at.ToDatetime(UTC))
        exempt = _people(window)
        shown = f"{times[0]:{SHOWN}} to {times[1]:{SHOWN}} UTC: {window.reason}"
        lines[f"freeze {shown}"] = f"but {exempt}" if exempt else "nobody may change anything"
    width = max(map(len, lines))
    for name, value in lines.items():
        typer.echo(f"{name:{width}}  {value}")


def _people(named: Any) -> str:
    from protos.flagstaff.v1 import tokens_pb2 as tokens

    return ", ".join([*(enum_name(tokens.Role.DESCRIPTOR, role) for role in named.roles), *named.actors])
