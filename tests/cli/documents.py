"""Small documents that tests import, in both formats."""

from typing import Any, Final

SWITCH: Final[dict[str, Any]] = {"variants": {"on": True, "off": False}, "default": "off"}


def document(**flags: Any) -> dict[str, Any]:
    """A document of ours."""
    return {"flags": flags}


def flagd_file(**flags: Any) -> dict[str, Any]:
    """A file of flagd's, with metadata."""
    return {"$schema": "https://flagd.dev/schema/v0/flags.json", "metadata": {"version": "7"}, "flags": flags}


def flagd_flag(targeting: Any = None) -> dict[str, Any]:
    """A switch as flagd writes it."""
    flag: dict[str, Any] = {"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": "off"}
    return flag if targeting is None else {**flag, "targeting": targeting}
