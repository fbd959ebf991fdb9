"""Write a message for a Slack channel, by an incoming webhook, in blocks.

Texts are mrkdwn, in which `&`, `<` and `>` make links, mentions and calls to a whole channel: they are escaped. A
section takes 3,000 characters, its fields 10 times 2,000, a context 10 elements, a message 50 blocks.

Source: docs.slack.dev, reference/block-kit/blocks and messaging/formatting-message-text#escaping; answers are `ok`.
"""

from typing import Any, Final
from urllib.parse import quote

from webhooks.envelope import compact
from webhooks.integrations.cutting import cut
from webhooks.integrations.message import Message, Tone, message
from webhooks.integrations.shapes import Calls, Integration, Job, Prepared

SECTION_CHARS_MAX: Final = 3_000
FIELD_CHARS_MAX: Final = 2_000
FIELDS_MAX: Final = 10
FALLBACK_CHARS_MAX: Final = 3_000
TITLE_CHARS_MAX: Final = 300
LINK_CHARS_MAX: Final = 1_000

SIGNS: Final = {Tone.GOOD: "🟢", Tone.NEUTRAL: "🔵", Tone.WARNING: "🟡", Tone.BAD: "🔴"}


def escape(text: str) -> str:
    """A text as mrkdwn shows it, without links and mentions."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def blocks(said: Message) -> list[dict[str, Any]]:
    """A message as blocks: the title, the sentence, its facts in two columns, and where it comes from."""
    title = f"{SIGNS[said.tone]} *{cut(said.title, TITLE_CHARS_MAX, escape)}*"
    found: list[dict[str, Any]] = [_section(f"{title}\n{cut(said.text, SECTION_CHARS_MAX - 400, escape)}")]
    if said.facts:
        fields = [
            _text(f"*{cut(name, 100, escape)}*\n{cut(value, FIELD_CHARS_MAX - 200, escape)}")
            for name, value in said.facts[:FIELDS_MAX]
        ]
        found.append({"type": "section", "fields": fields})
    footer = cut(f"{said.place} · {said.actor}", TITLE_CHARS_MAX, escape)
    if link := _link(said.link):
        footer += f" · {link}"
    return [*found, {"type": "context", "elements": [_text(footer)]}]


def _calls(job: Job) -> Calls:
    said = message(job.envelope, job.said())
    yield Prepared(compact({"text": cut(said.whole, FALLBACK_CHARS_MAX, escape), "blocks": blocks(said)}))


def _section(text: str) -> dict[str, Any]:
    return {"type": "section", "text": _text(text)}


def _text(text: str) -> dict[str, Any]:
    # Verbatim: what looks like a URL or a channel stays text.
    return {"type": "mrkdwn", "text": text, "verbatim": True}


def _link(url: str) -> str:
    safe = quote(url, safe="/:?#[]@!$'()*+,;=%&~-._")
    return f"<{escape(safe)}|Open>" if url and len(safe) <= LINK_CHARS_MAX else ""


SLACK = Integration(
    "slack",
    "A message in a Slack channel.",
    "the incoming webhook's URL, https://hooks.slack.com/services/...",
    _calls,
    template="the message's text below its title",
)
