"""Tell people how a started server can be reached."""

from typing import Any, TypeAlias

Told: TypeAlias = dict[str, Any]
"""What a started server tells of itself."""


def as_text(told: Told) -> str:
    """What it tells, in lines."""

    def address(port: int) -> str:
        host = f"[{told['host']}]" if ":" in told["host"] else told["host"]
        return f"{host}:{port}".ljust(22)

    lines = [
        f"gRPC  {address(told['grpc_port'])}flagstaff.v1, flagd.evaluation and flagd.sync, health, reflection",
        f"gRPC  {address(told['sync_port'])}the same, on the port of flagd's in-process providers",
        f"HTTP  {address(told['http_port'])}OFREP, /healthz, /readyz, /metrics, /openapi.json",
    ]
    if told["tls"]:
        lines.append("TLS   on all ports")
    for name, each in sorted(told["flag_sets"].items()):
        default = ", the default flag set" if name == told["default_flag_set"] else ""
        lines.append(f"{each['flags']} flags in {name}, revision {each['revision']}{default}")
    if told["default_flag_set"] not in told["flag_sets"]:
        lines.append(f"no flags in {told['default_flag_set']} yet; store some with `flagstaff import FILE`")
    if len(told.get("workers", ())) > 1:
        lines.append(f"{len(told['workers'])} worker processes share the ports")
    if "manager" in told:
        lines.append("flags are managed by a process of its own")
    return "\n".join([*lines, "Serving. Ctrl-C stops."])
