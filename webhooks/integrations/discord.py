"""Write a message for a Discord channel, by a webhook, as an embed.

Nobody is mentioned, whatever a text holds: `allowed_mentions` allows nothing. Markdown is escaped. An embed takes 256
characters of title, 4,096 of description, 25 fields of 256 and 1,024, 2,048 of footer, and 6,000 together.

Source: docs.discord.com, resources/webhook#execute-webhook and resources/message#embed-object-embed-limits.
"""

import re
from typing import Any, Final

from webhooks.envelope import compact
from webhooks.integrations.cutting import cut
from webhooks.integrations.message import Message, Tone, message
from webhooks.integrations.shapes import Calls, Integration, Job, Prepared

TITLE_CHARS_MAX: Final = 256
TEXT_CHARS_MAX: Final = 2_000
"""Of the 4,096 that a description takes: with its fields and all an embed may have 6,000."""

NAME_CHARS_MAX: Final = 100
VALUE_CHARS_MAX: Final = 300
FOOTER_CHARS_MAX: Final = 300
URL_CHARS_MAX: Final = 2_000
COLORS: Final = {Tone.GOOD: 0x2E7D32, Tone.NEUTRAL: 0x1565C0, Tone.WARNING: 0xF9A825, Tone.BAD: 0xC62828}

_MARKS: Final = re.compile(r"([\\*_~`|<>\[\]()@:])")
_LINE_MARKS: Final = re.compile(r"^([ ]*)([#-])", re.MULTILINE)


def escape(text: str) -> str:
    """A text as Discord's markdown shows it."""
    return _LINE_MARKS.sub(r"\1\\\2", _MARKS.sub(r"\\\1", text))


def embed(said: Message, at: str) -> dict[str, Any]:
    """A message as an embed; at is RFC 3339."""
    made: dict[str, Any] = {
        "title": cut(said.title, TITLE_CHARS_MAX, escape),
        "description": cut(said.text, TEXT_CHARS_MAX, escape),
        "color": COLORS[said.tone],
        "timestamp": at,
        "footer": {"text": cut(f"{said.place} · {said.actor}", FOOTER_CHARS_MAX)},
        "fields": [
            {"name": cut(name, NAME_CHARS_MAX, escape), "value": cut(value, VALUE_CHARS_MAX, escape), "inline": True}
            for name, value in said.facts
        ],
    }
    if said.link and len(said.link) <= URL_CHARS_MAX:
        made["url"] = said.link
    return made


def _calls(job: Job) -> Calls:
    said = message(job.envelope, job.said())
    body = {"embeds": [embed(said, job.envelope["timestamp"])], "allowed_mentions": {"parse": []}}
    yield Prepared(compact(body))


DISCORD = Integration(
    "discord",
    "A message in a Discord channel.",
    "the webhook's URL, https://discord.com/api/webhooks/...",
    _calls,
    template="the message's text below its title",
)
