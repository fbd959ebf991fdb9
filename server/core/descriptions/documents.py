"""Say what differs between two documents of one kind: a flag, a segment, an environment, or anything else."""

from collections.abc import Callable, Mapping
from typing import Final

from server.core.counting import counted
from server.core.definitions.problems import pointer
from server.core.descriptions.conditions import quoted
from server.core.descriptions.parts import (
    Describer,
    Difference,
    Differences,
    anything,
    as_list,
    as_object,
    changed,
    described,
    difference,
    entries,
    field,
    members,
    plain,
    reordered,
    same,
    yes_or_no,
)
from server.core.descriptions.rules import CALLERS_DEFAULT, condition, rules, serve, serve_text
from server.core.flags import TARGETING_KEY, FlagKind
from server.core.json import Json, JsonObject


def describe_documents(kind: str, before: Json, after: Json) -> tuple[Difference, ...]:
    """What differs between two documents, as the store and the audit trail keep them; () when nothing does.

    None is what was not there yet, or no longer. Any document is understood, a damaged one too, and one of a kind that
    has no words of its own here.
    """
    if same(before, after):
        return ()
    if before is None:
        summary = _SUMMARIES.get(kind, _nothing)(as_object(after))
        return (difference("", None, after, f"created{f' ({summary})' if summary else ''}"),)
    if after is None:
        return (difference("", before, None, "removed"),)
    if not isinstance(before, Mapping) or not isinstance(after, Mapping):
        return (changed("", "document", before, after),)
    table, defaults = _KINDS.get(kind, _UNKNOWN)
    found = tuple(described("", before, after, table=table, defaults=defaults))
    # Names in another order, or a default that is written out.
    return found or tuple(anything("")("", before, after))


def _nothing(_document: JsonObject) -> str:
    return ""


def _flag_summary(document: JsonObject) -> str:
    rule_count = len(as_list(document.get("rules")))
    return ", ".join(
        [
            plain(document.get("type")),
            _state(document.get("enabled", True)),
            f"default {serve_text(document.get('default'))}",
            *(["flagd targeting"] if "targeting" in document else []),
            *([counted(rule_count, "rule")] if rule_count else []),
        ]
    )


def _segment_summary(document: JsonObject) -> str:
    if "keyList" in document:
        return _large(document["keyList"])
    return "a condition" if "keys" not in document else counted(len(as_list(document["keys"])), "key")


def _large(head: Json) -> str:
    named = as_object(head)
    return f"{plain(named.get('count'))} keys, digest {plain(named.get('digest'))[:12]}"


def _policy(policy: Json) -> str:
    named = as_object(policy)
    people = [*map(plain, as_list(named.get("roles"))), *map(plain, as_list(named.get("actors")))]
    covers = [plain(each) for each in as_list(named.get("covers"))]
    count = plain(named.get("approvals"))
    return "".join(
        [
            f"{count} {'approval' if count == '1' else 'approvals'}",
            f" of {', '.join(people)}" if people else "",
            f" for every {' and '.join(covers)}" if covers else "",
        ]
    )


def _state(enabled: Json) -> str:
    return quoted(enabled) if not isinstance(enabled, bool) else "on" if enabled else "off"


def _archived(path: str, before: Json, after: Json) -> Differences:
    if before is None:
        yield difference(path, None, after, f"archived at {plain(after)}")
    elif after is None:
        yield difference(path, before, None, "restored from the archive")
    else:
        yield changed(path, "archived at", before, after, shown=plain)


def _targets(path: str, before: Json, after: Json) -> Differences:
    old, new = as_object(before), as_object(after)
    for variant in dict.fromkeys([*old, *new]):
        keys = old.get(variant, []), new.get(variant, [])
        if not same(*keys):
            yield from members(f"targets of {variant}")(pointer(path, variant), *keys)
    yield from reordered(path, "targets", list(old), list(new))


def _prerequisites(path: str, before: Json, after: Json) -> Differences:
    old, new = _by_flag(before), _by_flag(after)
    for flag in dict.fromkeys([*old, *new]):
        at, wanted = pointer(path, flag), (old.get(flag), new.get(flag))
        match wanted:
            case None, variants:
                yield difference(at, None, variants, f"prerequisite {flag} added: needs {_alternatives(variants)}")
            case variants, None:
                yield difference(at, variants, None, f"prerequisite {flag} removed")
            case _ if not same(*wanted):
                yield changed(at, f"prerequisite {flag} needs", *wanted, shown=_alternatives)
    yield from reordered(path, "prerequisites", list(old), list(new))


def _by_flag(value: Json) -> dict[str, Json]:
    items = (item for item in as_list(value) if isinstance(item, Mapping))
    return {plain(item.get("flag")): item.get("variants", []) for item in items}


def _alternatives(variants: Json) -> str:
    return " or ".join(map(plain, as_list(variants)))


def _days(value: Json) -> str:
    return f"{quoted(value)} days"


def _lifetime_kind(temporary: Json) -> str:
    return quoted(temporary) if not isinstance(temporary, bool) else "temporary" if temporary else "permanent"


def _tags(what: str) -> Describer:
    return members(what, named=True)


_FLAG: Final[Mapping[str, Describer]] = {
    "archivedAt": _archived,
    "enabled": field("state", shown=_state),
    "type": field("type", shown=plain),
    "variants": entries("variant", "variants"),
    "offVariant": field("off variant", shown=plain, none=CALLERS_DEFAULT),
    "prerequisites": _prerequisites,
    "targets": _targets,
    "rules": rules,
    "default": serve("default"),
    "targeting": condition("targeting"),
    "lenient": field("lenient", shown=yes_or_no),
    "description": field("description"),
    "kind": field("kind", shown=plain),
    "temporary": field("lifetime", shown=_lifetime_kind),
    "expectedLifetimeDays": field("expected lifetime", shown=_days),
    "owner": field("owner"),
    "tags": _tags("tags"),
    "links": _tags("links"),
    "metadata": entries("metadata", "metadata"),
}
_FLAG_DEFAULTS: Final[JsonObject] = {
    "enabled": True,
    "lenient": False,
    "description": "",
    "kind": FlagKind.RELEASE.value,
    "temporary": True,
    "owner": "",
}
_SEGMENT: Final[Mapping[str, Describer]] = {
    "condition": condition("condition"),
    "keys": members("keys"),
    "keyList": field("large list", shown=_large),
    "keyAttribute": field("attribute of keys", shown=plain),
    "description": field("description"),
    "lenient": field("lenient", shown=yes_or_no),
}
_SEGMENT_DEFAULTS: Final[JsonObject] = {"keyAttribute": TARGETING_KEY, "description": "", "lenient": False}
_ENVIRONMENT: Final[Mapping[str, Describer]] = {
    "name": field("name"),
    "bucketing": field("units are dealt anew, bucketing", shown=plain),
    "critical": field("critical", shown=yes_or_no),
    "metadata": entries("metadata", "metadata"),
    "source": field("source"),
    "sync": field("sync to in-process clients", shown=yes_or_no),
    "approvalPolicy": field("approval policy", shown=_policy, none="nobody is asked"),
    "freezeWindows": members("freeze windows"),
}
_UNKNOWN: Final[tuple[Mapping[str, Describer], JsonObject]] = ({}, {})
_KINDS: Final[Mapping[str, tuple[Mapping[str, Describer], JsonObject]]] = {
    "flag": (_FLAG, _FLAG_DEFAULTS),
    "segment": (_SEGMENT, _SEGMENT_DEFAULTS),
    "environment": (_ENVIRONMENT, {}),
}
_SUMMARIES: Final[Mapping[str, Callable[[JsonObject], str]]] = {"flag": _flag_summary, "segment": _segment_summary}
