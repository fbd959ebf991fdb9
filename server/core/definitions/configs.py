"""Read a flag's configuration in one environment, and write it."""

from collections.abc import Mapping
from typing import Any, Final

from server.core.definitions.fields import (
    check_fields,
    key_problem,
    read_flag_value,
    read_list,
    read_object,
    read_texts,
)
from server.core.definitions.problems import Path, Problems, shown
from server.core.definitions.rules import Reading, read_rules, read_serve, read_variant, write_rule, write_serve
from server.core.definitions.targeting import check_rule
from server.core.flags import (
    FlagConfig,
    Prerequisite,
    Split,
    Target,
)
from server.core.json import Json
from server.core.limits import (
    CONTEXT_VALUE_BYTES_MAX,
    PREREQUISITES_MAX,
    TARGET_KEYS_MAX,
    VARIANTS_MAX,
)

CONFIG_FIELDS: Final = frozenset(
    {"enabled", "offVariant", "targets", "prerequisites", "rules", "default", "targeting", "lenient"}
)
_PREREQUISITE_FIELDS: Final = frozenset({"flag", "variants"})


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
    reading = Reading(flag, variants, problems, lenient=lenient or marked, drops=lenient)
    kept = problems.kept
    config = FlagConfig(
        enabled=read_flag_value(data, "enabled", True, path=path, problems=problems),
        off_variant=read_variant(data.get("offVariant"), (path, "offVariant"), reading),
        targets=_targets(data["targets"], (path, "targets"), reading) if "targets" in data else (),
        prerequisites=_prerequisites(data, path, reading) if "prerequisites" in data else (),
        rules=read_rules(data, path, reading),
        default=read_serve(data.get("default"), (path, "default"), reading, place="default"),
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


def _targets(data: Json, path: Path, reading: Reading) -> tuple[Target, ...]:
    problems = reading.problems
    if data is None:
        return ()
    fields = read_object(data, path=path, problems=problems)
    if fields is None:
        return ()
    targets: list[Target] = []
    owners: dict[str, str] = {}
    for variant in fields:
        read_variant(variant, (path, variant), reading)
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


def _prerequisites(data: Mapping[str, Json], path: Path, reading: Reading) -> tuple[Prerequisite, ...]:
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
        data["rules"] = [write_rule(rule) for rule in config.rules]
    if config.default is not None:
        data["default"] = write_serve(config.default)
    if config.targeting is not None:
        data["targeting"] = config.targeting
    if config.lenient:
        data["lenient"] = True
    return data
