"""Write the calls that other tools expect, one file a tool: every format that an endpoint may have."""

from collections.abc import Mapping
from typing import Any, Final

from webhooks.errors import RenderFailed
from webhooks.integrations.apprise import APPRISE
from webhooks.integrations.discord import DISCORD
from webhooks.integrations.github import GITHUB_DISPATCH, GITHUB_ISSUE
from webhooks.integrations.jira import JIRA_ISSUE
from webhooks.integrations.pagerduty import PAGERDUTY
from webhooks.integrations.plain import CLOUD_EVENTS, GENERIC, STANDARD
from webhooks.integrations.shapes import Calls, Integration
from webhooks.integrations.slack import SLACK
from webhooks.integrations.teams import TEAMS

INTEGRATIONS: Final[Mapping[str, Integration]] = {
    each.name: each
    for each in (
        *(STANDARD, CLOUD_EVENTS, GENERIC, SLACK, TEAMS, DISCORD),
        *(PAGERDUTY, GITHUB_ISSUE, GITHUB_DISPATCH, JIRA_ISSUE, APPRISE),
    )
}
"""Name -> integration; `check` of each is what a subscription's format is checked by."""

SERIAL: Final = frozenset(each.name for each in INTEGRATIONS.values() if each.serial)
"""Those whose deliveries go one at a time."""


def render(
    format_: str,
    envelope: Mapping[str, Any],
    *,
    settings: Mapping[str, Any],
    secrets: Mapping[str, str],
    template: str = "",
) -> Calls:
    """The calls for an event: `next` gives the first, `send` of its answer the one after, until it stops.

    Errors: RenderFailed, here for a format that there is not, and from the generator for an event that its template
    does not fit or an answer that makes no sense.
    """
    integration = INTEGRATIONS.get(format_)
    if integration is None:
        raise RenderFailed(f"there is no format {format_[:40]!r}; there are {', '.join(INTEGRATIONS)}")
    return integration.calls(integration.job(envelope, settings, secrets, template))
