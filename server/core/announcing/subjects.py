"""Give what happened to flags, segments, environments and projects the shape that others get: flat, without users."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from server.core.announcing.fields import EventType, Field, Shape
from server.core.descriptions.documents import describe_documents
from server.core.descriptions.parts import Difference
from server.core.flags import FlagKind
from server.core.json import Json

CHANGES_MAX: Final = 20
"""Differences that an event names; the history has all."""

CHANGE_CHARS_MAX: Final = 500
"""Of each value in a difference."""

NAME_CHARS_MAX: Final = 100
_USERS: Final = ("/targets", "/keys", "/keyList")
"""Parts of a document that name users, whose differences are told by their number alone."""

_CHANGES: Final = (
    Field("change_count", Shape.INTEGER, "how many differences there are"),
    Field("reason", Shape.TEXT, "why, in the words of who did it"),
    Field("cause", Shape.TEXT, "what led to it: a schedule, a release, a guard, a ticket"),
)
_LISTED: Final = Field("changes", Shape.CHANGES, f"the first {CHANGES_MAX} differences")

FLAG_FIELDS: Final = (
    Field("flag_key", Shape.TEXT, "the flag"),
    Field("flag_name", Shape.TEXT, "the first line of its description, or else its key"),
    Field("flag_type", Shape.TEXT, "boolean, string, integer, float or object"),
    Field("flag_kind", Shape.TEXT, "release, experiment, operational or permission"),
    Field("owner", Shape.TEXT, "whose it is"),
    Field("temporary", Shape.BOOLEAN, "whether it is to go away again"),
    Field("enabled", Shape.BOOLEAN, "whether it is on in this environment"),
    Field("previous_enabled", Shape.BOOLEAN, "whether it was", nullable=True),
    Field(
        "default_variant",
        Shape.TEXT,
        "what is served where no rule matches; null for a split",
        nullable=True,
    ),
    Field("rule_id", Shape.TEXT, "the first rule whose share is another one", nullable=True),
    Field("from_percent", Shape.NUMBER, "that rule's share before", nullable=True),
    Field("to_percent", Shape.NUMBER, "that rule's share now", nullable=True),
    Field("revision", Shape.INTEGER, "of the environment, by this change"),
    *_CHANGES,
    Field("tags", Shape.TEXTS, "its tags"),
    Field("variants", Shape.TEXTS, "the names of its variants"),
    _LISTED,
)
SEGMENT_FIELDS: Final = (
    Field("segment_key", Shape.TEXT, "the segment"),
    Field("description", Shape.TEXT, "what it is for"),
    Field("key_count", Shape.INTEGER, "how many keys it lists; null for one with a condition", nullable=True),
    Field("revision", Shape.INTEGER, "of the environment, by this change"),
    *_CHANGES,
    _LISTED,
)
TOKEN_FIELDS: Final = (
    Field("token_id", Shape.TEXT, "the token; never its secret"),
    Field("name", Shape.TEXT, "what it is called"),
    Field("created_by", Shape.TEXT, "who made it"),
    Field("expires_at", Shape.INSTANT, "when it ends by itself", nullable=True),
    Field("revoked_at", Shape.INSTANT, "when somebody ended it", nullable=True),
    Field("replaced_by", Shape.TEXT, "the token that takes its place; empty for none"),
    *_CHANGES[1:],
    Field("roles", Shape.TEXTS, "what it may do, and where"),
)
PLACE_FIELDS: Final = (
    Field("key", Shape.TEXT, "its key"),
    Field("name", Shape.TEXT, "what it is called"),
    *_CHANGES,
    _LISTED,
)

_FIRES: Final[Mapping[str, str]] = {
    "flag.created": "A flag is there, or got a configuration in one more environment.",
    "flag.updated": "Its description, owner, tags or the like are other ones.",
    "flag.enabled": "It was switched on in an environment.",
    "flag.disabled": "It was switched off in an environment.",
    "flag.killed": "It was switched off by a kill, whatever stood in the way.",
    "flag.targeting_changed": "Its rules, shares, targets or defaults are other ones.",
    "flag.variants_changed": "Its variants are other ones.",
    "flag.dependency_changed": "It requires other flags.",
    "flag.archived": "It was archived.",
    "flag.restored": "It was brought back from the archive.",
    "flag.deleted": "It is gone from an environment.",
    "segment.created": "A segment is there.",
    "segment.updated": "It has other members.",
    "segment.deleted": "It is gone.",
    "environment.created": "An environment is there.",
    "environment.updated": "Its settings are other ones.",
    "environment.deleted": "It is gone, with its flags.",
    "environment.restored": "A backup was restored: everything in it may be another.",
    "project.created": "A project is there.",
    "project.updated": "It is called or described differently.",
    "project.deleted": "It is gone.",
    "token.created": "A token was made.",
    "token.revoked": "A token was ended.",
    "token.rotated": "A token was replaced by another.",
}


Data = Callable[[Mapping[str, Any]], dict[str, Json]]
"""The payload of an announcement -> the data that others get."""


def subject_types() -> Iterator[tuple[EventType, Data]]:
    """Each type with what makes its data."""
    for name, fires in _FIRES.items():
        kind = name.partition(".")[0]
        fields, data = _BY_KIND.get(kind, (PLACE_FIELDS, place_data))
        yield EventType(name, fires, fields, data(_EXAMPLES[kind])), data


def flag_data(payload: Mapping[str, Any]) -> dict[str, Json]:
    """What is told of a flag. Shapes: the payload of its announcement, with the documents before and after."""
    before, after = _document(payload, "before"), _document(payload, "after")
    now = after or before
    default = now.get("default")
    moved = _moved_share(before, after)
    return {
        "flag_key": payload["key"],
        "flag_name": _text(now, "description").strip().partition("\n")[0][:NAME_CHARS_MAX] or payload["key"],
        "flag_type": _text(now, "type"),
        "flag_kind": _text(now, "kind") or FlagKind.RELEASE.value,
        "owner": _text(now, "owner"),
        "temporary": now.get("temporary", True) is True,
        "enabled": bool(after) and after.get("enabled", True) is True,
        "previous_enabled": before.get("enabled", True) is True if before else None,
        "default_variant": default if isinstance(default, str) else None,
        **dict(zip(("rule_id", "from_percent", "to_percent"), moved, strict=True)),
        "revision": payload.get("revision", 0),
        **_changes("flag", payload),
        "tags": _texts(now.get("tags")),
        "variants": _texts(now.get("variants")),
        "changes": _listed("flag", payload),
    }


def segment_data(payload: Mapping[str, Any]) -> dict[str, Json]:
    """What is told of a segment."""
    now = _document(payload, "after") or _document(payload, "before")
    keys, listed = now.get("keys"), now.get("keyList")
    count = len(keys) if isinstance(keys, list) else listed.get("count") if isinstance(listed, dict) else None
    return {
        "segment_key": payload["key"],
        "description": _text(now, "description"),
        "key_count": count if type(count) is int else None,
        "revision": payload.get("revision", 0),
        **_changes("segment", payload),
        "changes": _listed("segment", payload),
    }


def place_data(payload: Mapping[str, Any]) -> dict[str, Json]:
    """What is told of an environment or a project."""
    now = _document(payload, "after") or _document(payload, "before")
    kind = payload["kind"]
    return {
        "key": payload["key"],
        "name": _text(now, "name"),
        **_changes(kind, payload),
        "changes": _listed(kind, payload),
    }


def token_data(payload: Mapping[str, Any]) -> dict[str, Json]:
    """What is told of a token."""
    now = _document(payload, "after")
    return {
        "token_id": payload["key"],
        "name": _text(now, "name"),
        "created_by": _text(now, "createdBy"),
        "expires_at": now.get("expiresAt"),
        "revoked_at": now.get("revokedAt"),
        "replaced_by": _text(now, "replacedBy"),
        "reason": payload.get("reason", ""),
        "cause": payload.get("cause", ""),
        "roles": _texts(now.get("roles")),
    }


def _document(payload: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    given = payload.get(name)
    return given if isinstance(given, Mapping) else {}


def _text(document: Mapping[str, Any], name: str) -> str:
    given = document.get(name)
    return given if isinstance(given, str) else ""


def _texts(given: Any) -> list[Json]:
    return [str(each) for each in given] if isinstance(given, list | Mapping) else []


def _changes(kind: str, payload: Mapping[str, Any]) -> dict[str, Json]:
    return {
        "change_count": len(_differences(kind, payload)),
        "reason": payload.get("reason", ""),
        "cause": payload.get("cause", ""),
    }


def _differences(kind: str, payload: Mapping[str, Any]) -> Sequence[Difference]:
    return describe_documents(kind, payload.get("before"), payload.get("after"))


def _listed(kind: str, payload: Mapping[str, Any]) -> list[Json]:
    return [_change(each) for each in _differences(kind, payload)[:CHANGES_MAX]]


def _change(difference: Difference) -> Json:
    path = difference.path
    if not path or path.startswith(_USERS):
        # The whole of a thing names users too, and so do the words for it.
        what = path.removeprefix("/").partition("/")[0] or "all"
        return {"path": path, "old": "", "new": "", "text": what if path else difference.text[:CHANGE_CHARS_MAX]}
    old, new = (_cut(each) for each in (difference.before, difference.after))
    return {"path": path, "old": old, "new": new, "text": difference.text[:CHANGE_CHARS_MAX]}


def _cut(value: Json) -> str:
    text = "" if value is None else value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
    return text if len(text) <= CHANGE_CHARS_MAX else text[: CHANGE_CHARS_MAX - 3] + "..."


def _moved_share(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[str | None, float | None, float | None]:
    old, new = _shares(before), _shares(after)
    for rule in (*new, *(rule for rule in old if rule not in new)):
        if old.get(rule) != new.get(rule):
            return rule, old.get(rule), new.get(rule)
    return None, None, None


def _shares(document: Mapping[str, Any]) -> dict[str, float]:
    """Percent of each rule that has an id; a rule without a share lets everyone in."""
    rules = document.get("rules")
    found: dict[str, float] = {}
    for rule in rules if isinstance(rules, list) else ():
        if isinstance(rule, Mapping) and isinstance(rule.get("id"), str):
            share = rule.get("share")
            percent = share.get("percent") if isinstance(share, Mapping) else 100.0 if share is None else share
            if isinstance(percent, int | float) and not isinstance(percent, bool):
                found[rule["id"]] = float(percent)
    return found


_BY_KIND: Final[Mapping[str, tuple[tuple[Field, ...], Data]]] = {
    "flag": (FLAG_FIELDS, flag_data),
    "segment": (SEGMENT_FIELDS, segment_data),
    "token": (TOKEN_FIELDS, token_data),
}
_HEAD: Final = {"revision": 812, "reason": "nobody complained at 10 %", "cause": "release:rl_5f1c0a9b2e#3"}
_EXAMPLES: Final[Mapping[str, Mapping[str, Any]]] = {
    "flag": {
        **_HEAD,
        "key": "new-checkout",
        "kind": "flag",
        "before": {
            **{"type": "boolean", "variants": {"on": True, "off": False}, "owner": "checkout", "tags": ["web"]},
            **{"enabled": True, "default": "off"},
            "rules": [{"id": "beta", "share": {"percent": 10, "salt": "s"}, "serve": "on"}],
        },
        "after": {
            **{"type": "boolean", "variants": {"on": True, "off": False}, "owner": "checkout", "tags": ["web"]},
            **{"enabled": True, "default": "off"},
            "rules": [{"id": "beta", "share": {"percent": 25, "salt": "s"}, "serve": "on"}],
        },
    },
    "segment": {
        **_HEAD,
        "key": "staff",
        "kind": "segment",
        "before": {"keys": ["ann"], "description": "who works here"},
        "after": {"keys": ["ann", "bob"], "description": "who works here"},
    },
    "environment": {
        **_HEAD,
        "key": "production",
        "kind": "environment",
        "before": {"name": "Production", "critical": False},
        "after": {"name": "Production", "critical": True},
    },
    "token": {
        **_HEAD,
        "key": "k3Jd92Lq",
        "kind": "token",
        "before": None,
        "after": {"name": "ci", "createdBy": "cli:root", "expiresAt": None, "roles": ["edit shop/production"]},
    },
    "project": {**_HEAD, "key": "shop", "kind": "project", "before": None, "after": {"name": "The shop"}},
}
