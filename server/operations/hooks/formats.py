"""List the formats in which events can be sent, and what each takes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from webhooks.subscriptions import CheckFormat


@dataclass(frozen=True, slots=True)
class Format:
    """A format that hooks may ask for."""

    name: str
    description: str
    target: str
    """What the hook's URL is then."""

    settings_schema: Mapping[str, Any]
    """JSON Schema of its settings."""

    secrets: tuple[str, ...]
    """Names of those that it takes."""

    template: str
    """What a template makes; "" where it takes none."""


def formats() -> tuple[Format, ...]:
    """All there are, by name."""
    # With them comes a library for templates; most servers send plain events or none.
    from webhooks.integrations import INTEGRATIONS  # noqa: PLC0415

    found = (
        Format(each.name, each.about, each.target, each.settings_schema(), each.secret_names(), each.template)
        for each in INTEGRATIONS.values()
    )
    return tuple(sorted(found, key=lambda each: each.name))


def checks() -> dict[str, CheckFormat]:
    """Name -> what refuses settings that it cannot use."""
    from webhooks.integrations import INTEGRATIONS  # noqa: PLC0415

    return {name: each.check for name, each in INTEGRATIONS.items()}
