"""Say an event to people: a title, a sentence, what it is about and how grave it is.

Nothing here knows what a flag is. An event says itself in words: its type's last part is what happened, its first what
it happened to; its data have a name or a key for that, a reason, a text, or differences with their texts.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from webhooks.integrations.cutting import one_line, plain, value_text

CHANGES_MAX: Final = 5
FACTS_MAX: Final = 8
FACT_CHARS_MAX: Final = 300


class Tone(StrEnum):
    """How grave it is."""

    GOOD = "good"
    NEUTRAL = "neutral"
    WARNING = "warning"
    BAD = "bad"


TONES: Final[Mapping[str, Tone]] = {
    **dict.fromkeys(
        ("completed", "recovered", "endpoint_recovered", "applied", "executed", "stale_cleared", "restored", "resumed"),
        Tone.GOOD,
    ),
    **dict.fromkeys(
        (
            *("warned", "held", "paused", "frozen", "outdated", "lacking", "expired", "skipped", "due_soon", "stale"),
            *(
                "potentially_stale",
                "awaiting_approval",
                "awaiting_start",
                "go_asked",
                "would_roll_back",
                "would_freeze",
            ),
            *("cleanup_overdue", "expiring", "unused", "answered_no_go", "approval_withdrawn"),
        ),
        Tone.WARNING,
    ),
    **dict.fromkeys(
        (
            *("killed", "breached", "rolled_back", "roll_back_failed", "failed", "conflicted", "blocked", "missed"),
            *("deadline_missed", "rejected", "delivery_exhausted", "endpoint_disabled", "aborted"),
        ),
        Tone.BAD,
    ),
}
"""By the last part of a type; all others are neutral."""

NAMES: Final = ("title", "name", "key", "flag_key")
"""Fields that name what an event is about to people, behind that of its own group (`segment_key` for `segment.*`)."""

SAID: Final = frozenset({"reason", "text", "changes", "change_count", "truncated", "message"})
"""Fields that stand in the sentence and not among the facts."""


@dataclass(frozen=True, slots=True)
class Message:
    """An event for people, unescaped and uncut."""

    title: str
    """`Flag killed: new-checkout`."""

    text: str
    """Sentences; lines for differences."""

    facts: tuple[tuple[str, str], ...]
    subject: str
    place: str
    """`shop/production`."""

    actor: str
    tone: Tone
    link: str
    """Where to look; "" when the event has no link."""

    @property
    def whole(self) -> str:
        """Title and text."""
        return f"{self.title}\n{self.text}" if self.text else self.title


def message(envelope: Mapping[str, Any], said: str = "") -> Message:
    """An event for people; `said` takes the place of its sentence."""
    type_, data = str(envelope["type"]), envelope.get("data") or {}
    group, _, rest = type_.partition(".")
    subject = one_line(subject_of(envelope))
    what = f"{group} {rest}".replace("_", " ").replace(".", " ").strip().capitalize()
    environment = envelope.get("environment") or ""
    place = f"{envelope.get('project', '')}/{environment}".rstrip("/")
    actor = envelope.get("actor") or {}
    who = one_line(plain(str(actor.get("name") or actor.get("id") or actor.get("type") or ""))) or "somebody"
    links = [str(each) for each in (envelope.get("links") or {}).values()]
    return Message(
        title=f"{what}: {subject}" if subject else what,
        text=said or _sentences(data, place, who),
        facts=_facts(data, subject),
        subject=subject,
        place=place,
        actor=who,
        tone=TONES.get(rest, Tone.NEUTRAL),
        link=next((each for each in links if each.startswith(("https://", "http://"))), ""),
    )


def subject_of(envelope: Mapping[str, Any]) -> str:
    """What an event is about, as people call it; "" when it names nothing."""
    group = envelope["type"].partition(".")[0]
    return _first(envelope, (f"{group}_key", *NAMES[:2], f"{group}_id", *NAMES[2:]))


def identity_of(envelope: Mapping[str, Any]) -> str:
    """What an event is about, by the key or id that stays when it is renamed; "" when it has none."""
    group = envelope["type"].partition(".")[0]
    return _first(envelope, (f"{group}_key", f"{group}_id", "key"))


def _first(envelope: Mapping[str, Any], names: tuple[str, ...]) -> str:
    """The first of these fields that is there, or else any id, or else any key."""
    data = envelope.get("data") or {}
    others = [name for ending in ("_id", "_key") for name in data if name.endswith(ending)]
    return next((text for name in (*names, *others) if data.get(name) and (text := plain(str(data[name])).strip())), "")


def _sentences(data: Mapping[str, Any], place: str, who: str) -> str:
    lines = [f"In {place} by {who}."]
    told = data.get("text") or data.get("message")
    if told:
        lines.append(str(told))
    changes = [each for each in data.get("changes") or () if isinstance(each, Mapping) and each.get("text")]
    lines += [f"• {one_line(str(each['text']))}" for each in changes[:CHANGES_MAX]]
    more = max(len(changes), data.get("change_count") or 0) - CHANGES_MAX
    if changes and more > 0:
        lines.append(f"• and {more} more")
    if data.get("reason"):
        lines.append(f"Reason: {data['reason']}")
    return plain("\n".join(lines))


def _facts(data: Mapping[str, Any], subject: str) -> tuple[tuple[str, str], ...]:
    found = []
    for name, value in data.items():
        text = one_line(plain(value_text(value)))
        if name not in SAID and text and text != subject and value not in (False, 0, []):
            found.append((one_line(plain(name.replace("_", " "))) or "?", text[:FACT_CHARS_MAX]))
    return tuple(found[:FACTS_MAX])
