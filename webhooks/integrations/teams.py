"""Write an Adaptive Card for a Microsoft Teams channel or chat, by a flow of the Workflows app.

The flow starts with "When a Teams webhook request is received" and takes a message with one card; the older connectors
and their message cards are gone. Texts are text runs, which know no markdown, so nothing needs to be escaped but `{{`,
with which a card asks for a date. A message has at most 28 kB.

Source: learn.microsoft.com, microsoftteams/platform/webhooks-and-connectors (add-incoming-webhook, connectors-using),
and adaptivecards.io/explorer (RichTextBlock, TextRun).
"""

from typing import Any, Final

from webhooks.envelope import compact
from webhooks.integrations.cutting import cut, size
from webhooks.integrations.message import Message, Tone, message
from webhooks.integrations.shapes import Calls, Integration, Job, Prepared

MESSAGE_BYTES_MAX: Final = 28_000
TITLE_CHARS_MAX: Final = 300
TEXT_CHARS_MAX: Final = 4_000
LINK_CHARS_MAX: Final = 2_000
SCHEMA: Final = "http://adaptivecards.io/schemas/adaptive-card.json"
VERSION: Final = "1.4"
CARD_TYPE: Final = "application/vnd.microsoft.card.adaptive"

COLORS: Final = {Tone.GOOD: "Good", Tone.NEUTRAL: "Accent", Tone.WARNING: "Warning", Tone.BAD: "Attention"}


def escape(text: str) -> str:
    """A text as a text run shows it: two braces would begin a date."""
    return text.replace("{{", "{\u200b{")


def card(said: Message, text_chars: int = TEXT_CHARS_MAX) -> dict[str, Any]:
    """A message as a card."""
    title = _run(cut(said.title, TITLE_CHARS_MAX, escape), size="Large", weight="Bolder", color=COLORS[said.tone])
    body = [_block(title), _block(_run(cut(said.text, text_chars, escape) or " "))]
    body += [
        _block(_run(f"{cut(name, 100, escape)}: ", weight="Bolder"), _run(cut(value, 300, escape)))
        for name, value in said.facts
    ]
    body.append(_block(_run(cut(f"{said.place} · {said.actor}", TITLE_CHARS_MAX, escape), size="Small", isSubtle=True)))
    made: dict[str, Any] = {"$schema": SCHEMA, "type": "AdaptiveCard", "version": VERSION, "body": body}
    if said.link and len(said.link) <= LINK_CHARS_MAX:
        made["actions"] = [{"type": "Action.OpenUrl", "title": "Open", "url": said.link}]
    return made


def _calls(job: Job) -> Calls:
    said = message(job.envelope, job.said())
    text_chars = TEXT_CHARS_MAX
    body = _message(card(said, text_chars))
    while size(body) > MESSAGE_BYTES_MAX and text_chars > 1:
        text_chars //= 2
        body = _message(card(said, text_chars))
    yield Prepared(compact(body))


def _message(content: dict[str, Any]) -> dict[str, Any]:
    return {"type": "message", "attachments": [{"contentType": CARD_TYPE, "contentUrl": None, "content": content}]}


def _block(*runs: dict[str, Any]) -> dict[str, Any]:
    return {"type": "RichTextBlock", "inlines": list(runs)}


def _run(text: str, **looks: Any) -> dict[str, Any]:
    return {"type": "TextRun", "text": text, **looks}


TEAMS = Integration(
    "teams",
    "A card in a Microsoft Teams channel or chat.",
    "the URL of a workflow that starts with 'When a Teams webhook request is received'",
    _calls,
    template="the card's text below its title",
)
