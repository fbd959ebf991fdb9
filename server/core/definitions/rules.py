"""Read the rules of a flag's configuration, and what they serve to whom; and write them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from server.core.definitions.fields import (
    check_fields,
    key_problem,
    read_choice,
    read_instant,
    read_key,
    read_list,
    read_object,
    read_text,
    write_instant,
)
from server.core.definitions.problems import Path, Problems, names, shown
from server.core.definitions.targeting import check_rule
from server.core.flags import TARGETING_KEY, Outside, Rule, Serve, Share, ShareStep, Split
from server.core.json import Json
from server.core.limits import RULES_MAX, SHARE_PARTS, SHARE_STEPS_MAX, WEIGHT_SUM_MAX

_RULE_FIELDS: Final = frozenset({"id", "description", "condition", "share", "outside", "serve", "from", "until"})
_SHARE_FIELDS: Final = frozenset({"percent", "salt", "bucketBy", "steps"})
_STEP_FIELDS: Final = frozenset({"at", "percent"})
_SPLIT_FIELDS: Final = frozenset({"weights", "salt", "bucketBy"})
_OUTSIDE: Final = {outside.value: outside for outside in Outside}
_PERCENT_PARTS: Final = SHARE_PARTS // 100
_SALT_CHARS_MAX: Final = 1_024
"""Room for a default salt, which is made of two keys."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What every part of one configuration is read with."""

    key: str
    variants: Mapping[str, Json] | None
    """None when they could not be read, so that none can be missing."""

    problems: Problems
    lenient: bool
    """Whether rules may hold what flagd only warns about."""

    drops: bool
    """Whether unknown fields are dropped."""


def read_variant(value: Json, path: Path, reading: Reading) -> str | None:
    """A variant's key; None when it is absent or wrong."""
    if value is None:
        return None
    if type(value) is not str:
        reading.problems.error(path, f"expected a variant, not {shown(value)}")
        return None
    if reading.variants is not None and value not in reading.variants:
        reading.problems.error(path, no_variant(value, reading.variants))
        return None
    return value


def no_variant(variant: str, variants: Mapping[str, Json]) -> str:
    """The message about a variant that a flag does not have."""
    return f"variant {shown(variant)} does not exist; the flag has: {names(variants)}"


def read_rules(data: Mapping[str, Json], path: Path, reading: Reading) -> tuple[Rule, ...]:
    """Read the rules of a configuration, in their order."""
    taken: set[str] = set()
    return tuple(
        _rule(rule, ((path, "rules"), index), reading, taken=taken)
        for index, rule in enumerate(_items(data, path, reading, taken=taken))
    )


def _items(data: Mapping[str, Json], path: Path, reading: Reading, *, taken: set[str]) -> list[Json]:
    """The rules as written; `taken` receives the ids that are written, so that no other rule is given one of them."""
    rules = read_list(data, "rules", path=path, problems=reading.problems, items_max=RULES_MAX)
    for index, rule in enumerate(rules):
        rule_id = rule.get("id") if type(rule) is dict else None
        if rule_id is None:
            continue
        at = (((path, "rules"), index), "id")
        if problem := key_problem(rule_id, "id"):
            reading.problems.error(at, problem)
        elif rule_id in taken:
            reading.problems.error(at, f"id {shown(rule_id)} stands twice; each rule has an id of its own")
        else:
            taken.add(rule_id)
    return rules


_NO_RULE: Final = Rule("", "")


def _rule(data: Json, path: tuple[Path, int], reading: Reading, *, taken: set[str]) -> Rule:
    problems = reading.problems
    if type(data) is not dict:
        problems.error(path, f"expected an object, not {shown(data)}")
        return _NO_RULE
    check_fields(data, _RULE_FIELDS, path=path, problems=problems, lenient=reading.drops)
    rule_id = data.get("id")
    if type(rule_id) is not str:
        rule_id = _free_id(path[1] + 1, taken)
    condition = data.get("condition")
    if condition is not None:
        check_rule(condition, path=(path, "condition"), problems=problems, lenient=reading.lenient)
    share = data.get("share")
    starts_at, ends_at = (_whole_second(data, name, path, problems) for name in ("from", "until"))
    if starts_at is not None and ends_at is not None and ends_at <= starts_at:
        problems.error((path, "until"), f"{data['until']} is not after {data['from']}, from which on the rule is asked")
    serve = read_serve(data.get("serve"), (path, "serve"), reading, place=rule_id)
    if serve is None and data.get("serve") is None:
        problems.error(path, "the rule serves nothing; give `serve` a variant or a split")
    return Rule(
        rule_id,
        serve or "",
        condition,
        None if share is None else _share(share, (path, "share"), reading, place=rule_id),
        Outside.NEXT
        if "outside" not in data
        else read_choice(data, "outside", _OUTSIDE, path=path, problems=problems, default=Outside.NEXT),
        read_text(data, "description", path=path, problems=problems) if "description" in data else "",
        starts_at,
        ends_at,
    )


def _whole_second(data: Mapping[str, Json], name: str, path: Path, problems: Problems) -> datetime | None:
    """An instant by which evaluators know what to do; their clock counts whole seconds."""
    instant = read_instant(data, name, path=path, problems=problems)
    if instant is not None and instant.microsecond:
        problems.error((path, name), f"{data[name]} is no whole second, and flagd's clock knows no parts of one")
    elif instant is not None and instant.timestamp() < 0:
        problems.error((path, name), f"{data[name]} is before 1970, where flagd's clock begins")
    return instant


def _free_id(number: int, taken: set[str]) -> str:
    rule_id, suffix = f"rule-{number}", 2
    while rule_id in taken:
        rule_id, suffix = f"rule-{number}-{suffix}", suffix + 1
    taken.add(rule_id)
    return rule_id


def _share(data: Json, path: Path, reading: Reading, *, place: str) -> Share | None:
    problems = reading.problems
    fields = read_object(data, path=path, problems=problems)
    if fields is None:
        return None
    check_fields(fields, _SHARE_FIELDS, path=path, problems=problems, lenient=reading.drops)
    salt, bucket_by = _bucketing(fields, path, problems, salt=f"{reading.key}/{place}/share")
    parts = _parts(fields.get("percent"), (path, "percent"), problems)
    return Share(parts, salt, bucket_by, _steps(fields, path, reading) if "steps" in fields else ())


def _steps(data: Mapping[str, Json], path: Path, reading: Reading) -> tuple[ShareStep, ...]:
    problems = reading.problems
    steps: list[ShareStep] = []
    for index, item in enumerate(read_list(data, "steps", path=path, problems=problems, items_max=SHARE_STEPS_MAX)):
        at_item = ((path, "steps"), index)
        fields = read_object(item, path=at_item, problems=problems)
        if fields is None:
            continue
        check_fields(fields, _STEP_FIELDS, path=at_item, problems=problems, lenient=reading.drops)
        instant = _whole_second(fields, "at", at_item, problems)
        parts = _parts(fields.get("percent"), (at_item, "percent"), problems)
        if instant is None:
            if fields.get("at") is None:
                problems.error((at_item, "at"), "the step has no instant")
        elif steps and instant <= steps[-1].at:
            before = write_instant(steps[-1].at)
            problems.error((at_item, "at"), f"{fields['at']} is not after {before}, the step before")
        else:
            steps.append(ShareStep(instant, parts))
    return tuple(steps)


def _bucketing(fields: Mapping[str, Json], path: Path, problems: Problems, *, salt: str) -> tuple[str, str]:
    given = fields.get("salt")
    if given is None:
        given = salt
    elif type(given) is not str:
        problems.error((path, "salt"), f"expected a text, not {shown(given)}")
    elif not 1 <= len(given) <= _SALT_CHARS_MAX:
        problems.error((path, "salt"), f"the salt has {len(given)} characters, expected 1 to {_SALT_CHARS_MAX}")
    if "bucketBy" not in fields:
        return given, TARGETING_KEY
    what = "attribute's name"
    return given, read_key(fields, "bucketBy", path=path, problems=problems, default=TARGETING_KEY, what=what)


def _parts(percent: Json, path: Path, problems: Problems) -> int:
    if type(percent) in (int, float) and 0 <= percent <= 100:
        parts: int = round(percent * _PERCENT_PARTS)
        if parts / _PERCENT_PARTS == percent:
            return parts
        problems.error(path, f"{percent} has more than 3 decimals")
    elif percent is None:
        problems.error(path, "the share has no percent")
    else:
        problems.error(path, f"expected a number from 0 to 100, not {shown(percent)}")
    return 0


def read_serve(data: Json, path: Path, reading: Reading, *, place: str) -> Serve | None:
    """A variant or a split; `place` is what a split's own salt is made of. None when there is none, or it is wrong."""
    if type(data) is not dict:
        return read_variant(data, path, reading)
    problems = reading.problems
    check_fields(data, _SPLIT_FIELDS, path=path, problems=problems, lenient=reading.drops)
    salt, bucket_by = _bucketing(data, path, problems, salt=f"{reading.key}/{place}/split")
    return Split(_weights(data.get("weights"), (path, "weights"), reading), salt, bucket_by)


def _weights(data: Json, path: Path, reading: Reading) -> tuple[tuple[str, int], ...]:
    problems = reading.problems
    if type(data) is not dict:
        problems.error(path, f"expected weights by variant, not {shown(data)}")
        return ()
    before = len(problems.errors)
    weights: list[tuple[str, int]] = []
    for variant, weight in data.items():
        at = (path, variant)
        read_variant(variant, at, reading)
        if (type(weight) is int or (type(weight) is float and weight.is_integer())) and weight >= 0:
            weights.append((variant, int(weight)))
        else:
            problems.error(at, f"a weight is a whole number from 0 on, not {shown(weight)}")
    total = sum(weight for _, weight in weights)
    if len(problems.errors) == before and not 1 <= total <= WEIGHT_SUM_MAX:
        expected = "1 or more" if total < 1 else f"at most {WEIGHT_SUM_MAX}"
        problems.error(path, f"sum is {total}, expected {expected}")
    return tuple(weights)


def write_rule(rule: Rule) -> dict[str, Any]:
    """A rule as it is read."""
    data: dict[str, Any] = {"id": rule.id}
    if rule.description:
        data["description"] = rule.description
    if rule.condition is not None:
        data["condition"] = rule.condition
    if rule.share is not None:
        share = _with_unit({"percent": _percent(rule.share.parts), "salt": rule.share.salt}, rule.share.bucket_by)
        if rule.share.steps:
            share["steps"] = [
                {"at": write_instant(step.at), "percent": _percent(step.parts)} for step in rule.share.steps
            ]
        data["share"] = share
    if rule.starts_at is not None:
        data["from"] = write_instant(rule.starts_at)
    if rule.ends_at is not None:
        data["until"] = write_instant(rule.ends_at)
    if rule.outside is not Outside.NEXT:
        data["outside"] = rule.outside.value
    data["serve"] = write_serve(rule.serve)
    return data


def _percent(parts: int) -> float:
    whole, rest = divmod(parts, _PERCENT_PARTS)
    return parts / _PERCENT_PARTS if rest else whole


def write_serve(serve: Serve) -> Json:
    """A variant, or a split as it is read."""
    if isinstance(serve, str):
        return serve
    return _with_unit({"weights": dict(serve.weights), "salt": serve.salt}, serve.bucket_by)


def _with_unit(data: dict[str, Any], bucket_by: str) -> dict[str, Any]:
    if bucket_by != TARGETING_KEY:
        data["bucketBy"] = bucket_by
    return data
