"""Read a flag's configuration in one environment, and write it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from server.core.definitions.fields import (
    check_fields,
    key_problem,
    read_choice,
    read_flag_value,
    read_key,
    read_list,
    read_object,
    read_text,
    read_texts,
)
from server.core.definitions.problems import Path, Problems, names, shown
from server.core.definitions.targeting import check_rule
from server.core.flags import (
    TARGETING_KEY,
    FlagConfig,
    Outside,
    Prerequisite,
    Rule,
    Serve,
    Share,
    Split,
    Target,
)
from server.core.json import Json
from server.core.limits import (
    CONTEXT_VALUE_BYTES_MAX,
    PREREQUISITES_MAX,
    RULES_MAX,
    SHARE_PARTS,
    TARGET_KEYS_MAX,
    VARIANTS_MAX,
    WEIGHT_SUM_MAX,
)

CONFIG_FIELDS: Final = frozenset(
    {"enabled", "offVariant", "targets", "prerequisites", "rules", "default", "targeting", "lenient"}
)
_RULE_FIELDS: Final = frozenset({"id", "description", "condition", "share", "outside", "serve"})
_SHARE_FIELDS: Final = frozenset({"percent", "salt", "bucketBy"})
_SPLIT_FIELDS: Final = frozenset({"weights", "salt", "bucketBy"})
_PREREQUISITE_FIELDS: Final = frozenset({"flag", "variants"})
_OUTSIDE: Final = {outside.value: outside for outside in Outside}
_PERCENT_PARTS: Final = SHARE_PARTS // 100
_SALT_CHARS_MAX: Final = 1_024
"""Room for a default salt, which is made of two keys."""


@dataclass(frozen=True, slots=True)
class _Reading:
    """What every part of one configuration is read with."""

    key: str
    variants: Mapping[str, Json] | None
    """None when they could not be read, so that none can be missing."""

    problems: Problems
    lenient: bool
    """Whether rules may hold what flagd only warns about."""

    drops: bool
    """Whether unknown fields are dropped."""


def read_config_part(
    flag: str, data: Json, *, variants: Mapping[str, Json] | None, problems: Problems, path: Path, lenient: bool = False
) -> FlagConfig | None:
    """Read the configuration of a flag by its key; None when there was an error.

    `variants` are the flag's, None when they could not be read.
    """
    before = len(problems.errors)
    fields = read_object(data, path=path, problems=problems)
    if fields is None:
        return None
    check_fields(fields, CONFIG_FIELDS, path=path, problems=problems, lenient=lenient)
    config = read_config_fields(flag, fields, variants=variants, problems=problems, path=path, lenient=lenient)
    return config if len(problems.errors) == before else None


def read_config_fields(
    flag: str,
    data: Mapping[str, Json],
    *,
    variants: Mapping[str, Json] | None,
    problems: Problems,
    path: Path,
    lenient: bool = False,
) -> FlagConfig:
    """Read the configuration's fields out of an object that may have others; what is wrong is in `problems`."""
    marked = "lenient" in data and read_flag_value(data, "lenient", False, path=path, problems=problems)
    reading = _Reading(flag, variants, problems, lenient=lenient or marked, drops=lenient)
    taken: set[str] = set()
    kept = problems.kept
    config = FlagConfig(
        enabled=read_flag_value(data, "enabled", True, path=path, problems=problems),
        off_variant=_variant(data.get("offVariant"), (path, "offVariant"), reading),
        targets=_targets(data["targets"], (path, "targets"), reading) if "targets" in data else (),
        prerequisites=_prerequisites(data, path, reading) if "prerequisites" in data else (),
        rules=tuple(
            _rule(rule, ((path, "rules"), index), reading, taken=taken)
            for index, rule in enumerate(_rules(data, path, reading, taken=taken))
        ),
        default=_serve(data.get("default"), (path, "default"), reading, place="default"),
        targeting=read_targeting(
            data.get("targeting"),
            variants=variants,
            path=(path, "targeting"),
            problems=problems,
            lenient=reading.lenient,
        ),
        # Fields are read in this order, so by now every rule was seen.
        lenient=marked or problems.kept > kept,
    )
    if config.targeting is not None:
        _check_raw(config, path, problems)
    return config


def read_targeting(
    data: Json, *, variants: Mapping[str, Json] | None, path: Path, problems: Problems, lenient: bool
) -> Json:
    """Read raw targeting; `{}` is none."""
    if data is None or data == {}:
        return None
    if type(data) is not dict:
        problems.warn(path, f"targeting is a rule, an object, not {shown(data)}", lenient=lenient)
    check_rule(data, path=path, problems=problems, variants=variants, lenient=lenient)
    return data


def _check_raw(config: FlagConfig, path: Path, problems: Problems) -> None:
    beside = [name for name in ("targets", "prerequisites", "rules") if getattr(config, name)]
    if beside:
        problems.error(
            (path, "targeting"), f"stands beside {' and '.join(beside)}; write the flag one way or the other"
        )
    if isinstance(config.default, Split):
        problems.error((path, "default"), "a flag with targeting has one variant as its default; write a fractional")


def _variant(value: Json, path: Path, reading: _Reading) -> str | None:
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


def _targets(data: Json, path: Path, reading: _Reading) -> tuple[Target, ...]:
    problems = reading.problems
    if data is None:
        return ()
    fields = read_object(data, path=path, problems=problems)
    if fields is None:
        return ()
    targets: list[Target] = []
    owners: dict[str, str] = {}
    for variant in fields:
        _variant(variant, (path, variant), reading)
        keys = read_texts(
            fields,
            variant,
            path=path,
            problems=problems,
            items_max=TARGET_KEYS_MAX,
            chars_max=CONTEXT_VALUE_BYTES_MAX,
        )
        if owners and (both := owners.keys() & keys):
            for key in sorted(both):
                problems.error((path, variant), f"{shown(key)} is a target of {shown(owners[key])} already")
        owners.update(dict.fromkeys(keys, variant))
        if keys:
            targets.append(Target(variant, keys))
    if len(owners) > TARGET_KEYS_MAX:
        problems.error(path, f"the flag has {len(owners)} targets, at most {TARGET_KEYS_MAX} are allowed")
    return tuple(targets)


def _prerequisites(data: Mapping[str, Json], path: Path, reading: _Reading) -> tuple[Prerequisite, ...]:
    problems = reading.problems
    items = read_list(data, "prerequisites", path=path, problems=problems, items_max=PREREQUISITES_MAX)
    read = [_prerequisite(item, ((path, "prerequisites"), index), problems) for index, item in enumerate(items)]
    seen: set[str] = set()
    for index, item in enumerate(read):
        if item is not None and item.flag in seen:
            at = (((path, "prerequisites"), index), "flag")
            problems.error(at, f"flag {shown(item.flag)} stands twice; list all its variants once")
        elif item is not None:
            seen.add(item.flag)
    return tuple(item for item in read if item is not None)


def _prerequisite(data: Json, path: Path, problems: Problems) -> Prerequisite | None:
    fields = read_object(data, path=path, problems=problems)
    if fields is None:
        return None
    check_fields(fields, _PREREQUISITE_FIELDS, path=path, problems=problems)
    if problem := key_problem(fields.get("flag")):
        problems.error((path, "flag"), problem)
        return None
    variants = read_texts(
        fields, "variants", path=path, problems=problems, items_max=VARIANTS_MAX, chars_max=CONTEXT_VALUE_BYTES_MAX
    )
    if not fields.get("variants"):
        problems.error((path, "variants"), "expected at least one variant that meets the prerequisite")
    return Prerequisite(fields["flag"], variants)


def _rules(data: Mapping[str, Json], path: Path, reading: _Reading, *, taken: set[str]) -> list[Json]:
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


def _rule(data: Json, path: tuple[Path, int], reading: _Reading, *, taken: set[str]) -> Rule:
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
    serve = _serve(data.get("serve"), (path, "serve"), reading, place=rule_id)
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
    )


def _free_id(number: int, taken: set[str]) -> str:
    rule_id, suffix = f"rule-{number}", 2
    while rule_id in taken:
        rule_id, suffix = f"rule-{number}-{suffix}", suffix + 1
    taken.add(rule_id)
    return rule_id


def _share(data: Json, path: Path, reading: _Reading, *, place: str) -> Share | None:
    problems = reading.problems
    fields = read_object(data, path=path, problems=problems)
    if fields is None:
        return None
    check_fields(fields, _SHARE_FIELDS, path=path, problems=problems, lenient=reading.drops)
    salt, bucket_by = _bucketing(fields, path, problems, salt=f"{reading.key}/{place}/share")
    return Share(_parts(fields.get("percent"), (path, "percent"), problems), salt, bucket_by)


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


def _serve(data: Json, path: Path, reading: _Reading, *, place: str) -> Serve | None:
    if type(data) is not dict:
        return _variant(data, path, reading)
    problems = reading.problems
    check_fields(data, _SPLIT_FIELDS, path=path, problems=problems, lenient=reading.drops)
    salt, bucket_by = _bucketing(data, path, problems, salt=f"{reading.key}/{place}/split")
    return Split(_weights(data.get("weights"), (path, "weights"), reading), salt, bucket_by)


def _weights(data: Json, path: Path, reading: _Reading) -> tuple[tuple[str, int], ...]:
    problems = reading.problems
    if type(data) is not dict:
        problems.error(path, f"expected weights by variant, not {shown(data)}")
        return ()
    before = len(problems.errors)
    weights: list[tuple[str, int]] = []
    for variant, weight in data.items():
        at = (path, variant)
        _variant(variant, at, reading)
        if (type(weight) is int or (type(weight) is float and weight.is_integer())) and weight >= 0:
            weights.append((variant, int(weight)))
        else:
            problems.error(at, f"a weight is a whole number from 0 on, not {shown(weight)}")
    total = sum(weight for _, weight in weights)
    if len(problems.errors) == before and not 1 <= total <= WEIGHT_SUM_MAX:
        expected = "1 or more" if total < 1 else f"at most {WEIGHT_SUM_MAX}"
        problems.error(path, f"sum is {total}, expected {expected}")
    return tuple(weights)


def write_config_part(config: FlagConfig) -> dict[str, Any]:
    """Write a configuration; fields that have their default value are left out, salts never."""
    data: dict[str, Any] = {}
    if not config.enabled:
        data["enabled"] = False
    if config.off_variant is not None:
        data["offVariant"] = config.off_variant
    if config.targets:
        data["targets"] = {target.variant: list(target.keys) for target in config.targets}
    if config.prerequisites:
        data["prerequisites"] = [{"flag": item.flag, "variants": list(item.variants)} for item in config.prerequisites]
    if config.rules:
        data["rules"] = [_write_rule(rule) for rule in config.rules]
    if config.default is not None:
        data["default"] = _write_serve(config.default)
    if config.targeting is not None:
        data["targeting"] = config.targeting
    if config.lenient:
        data["lenient"] = True
    return data


def _write_rule(rule: Rule) -> dict[str, Any]:
    data: dict[str, Any] = {"id": rule.id}
    if rule.description:
        data["description"] = rule.description
    if rule.condition is not None:
        data["condition"] = rule.condition
    if rule.share is not None:
        whole, rest = divmod(rule.share.parts, _PERCENT_PARTS)
        percent = rule.share.parts / _PERCENT_PARTS if rest else whole
        data["share"] = _with_unit({"percent": percent, "salt": rule.share.salt}, rule.share.bucket_by)
    if rule.outside is not Outside.NEXT:
        data["outside"] = rule.outside.value
    data["serve"] = _write_serve(rule.serve)
    return data


def _write_serve(serve: Serve) -> Json:
    if isinstance(serve, str):
        return serve
    return _with_unit({"weights": dict(serve.weights), "salt": serve.salt}, serve.bucket_by)


def _with_unit(data: dict[str, Any], bucket_by: str) -> dict[str, Any]:
    if bucket_by != TARGETING_KEY:
        data["bucketBy"] = bucket_by
    return data
