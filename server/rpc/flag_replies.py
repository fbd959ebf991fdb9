"""Write stored flags as messages; what is damaged says so."""

from collections.abc import Mapping, Sequence
from datetime import UTC
from typing import Any, Final

from google.protobuf.message import Message

from protos.flagstaff.v1 import flags_pb2 as messages
from server.core.definitions.flags import read_config_part, read_flag_part
from server.core.definitions.problems import Problems
from server.core.flags import TARGETING_KEY, Flag, FlagKind, Outside, Prerequisite, Rule, Serve, ValueType
from server.core.json import Json
from server.rpc.flag_messages import KINDS, OUTSIDE, TYPES
from server.rpc.timestamps import timestamp
from server.store.flags import StoredConfig, StoredFlag

_TYPE_NUMBERS: Final[Mapping[ValueType, Any]] = {value: number for number, value in TYPES.items()}
_KIND_NUMBERS: Final[Mapping[FlagKind, Any]] = {value: number for number, value in KINDS.items()}
_OUTSIDE_NUMBERS: Final[Mapping[Outside, Any]] = {value: number for number, value in OUTSIDE.items()}


def variant_messages(variants: Mapping[str, Json]) -> list[messages.Variant]:
    """Variants as messages."""
    return [messages.Variant(key=key, value=_value_message(value)) for key, value in variants.items()]


def flag_message(stored: StoredFlag) -> messages.Flag:
    """What environments share of a stored flag; one that is damaged says what is wrong with it."""
    flag, problem = _read_stored_flag(stored)
    if flag is None:
        return messages.Flag(key=stored.key, version=stored.version, problem=problem)
    message = messages.Flag(
        key=flag.key,
        type=_TYPE_NUMBERS[flag.type],
        variants=variant_messages(flag.variants),
        description=flag.description,
        kind=_KIND_NUMBERS[flag.kind],
        temporary=flag.temporary,
        expected_lifetime_days=flag.expected_lifetime_days,
        owner=flag.owner,
        tags=flag.tags,
        links=flag.links,
        version=stored.version,
    )
    if flag.metadata:
        message.metadata.update(flag.metadata)
    if flag.archived_at is not None:
        message.archived_at.FromDatetime(flag.archived_at.astimezone(UTC).replace(tzinfo=None))
    return message


def config_messages(stored: StoredFlag, *, whole: bool = True) -> list[messages.FlagConfig]:
    """A stored flag's configurations; not `whole`: only whether they are on."""
    flag = _read_stored_flag(stored)[0] if whole else None
    return [_config_message(stored.key, flag, config) if whole else _in_short(config) for config in stored.configs]


def _read_stored_flag(stored: StoredFlag) -> tuple[Flag | None, str]:
    if stored.document is None:
        return None, "the stored document is not a JSON object"
    problems = Problems()
    # Read as it may have been accepted: leniently or not.
    flag = read_flag_part(stored.key, stored.document, problems=problems, path="", lenient=True)
    return flag, str(problems.errors[0]) if problems.errors else ""


def _in_short(config: StoredConfig) -> messages.FlagConfig:
    return messages.FlagConfig(environment=config.environment, version=config.version, enabled=config.enabled)


def _config_message(key: str, flag: Flag | None, stored: StoredConfig) -> messages.FlagConfig:
    message = _in_short(stored)
    problems = Problems()
    if stored.document is None:
        message.problem = "the stored document is not a JSON object"
        return message
    variants = None if flag is None else flag.variants
    config = read_config_part(key, stored.document, variants=variants, problems=problems, path="")
    if config is None:
        message.problem = str(problems.errors[0])
        return message
    message.lenient = config.lenient
    if config.off_variant is not None:
        message.off_variant = config.off_variant
    message.targets.extend(messages.Target(variant=each.variant, keys=each.keys) for each in config.targets)
    message.prerequisites.extend(prerequisite_messages(config.prerequisites))
    message.rules.extend(rule_message(rule) for rule in config.rules)
    if config.default is not None:
        message.default_serve.CopyFrom(serve_message(config.default))
    if config.targeting is not None:
        _fill(message.targeting, config.targeting)
    return message


def prerequisite_messages(prerequisites: Sequence[Prerequisite]) -> list[messages.Prerequisite]:
    """Prerequisites as clients get them."""
    return [messages.Prerequisite(flag_key=each.flag, variants=each.variants) for each in prerequisites]


def rule_message(rule: Rule) -> messages.Rule:
    """A rule as clients get it."""
    message = messages.Rule(
        id=rule.id,
        description=rule.description,
        outside=_OUTSIDE_NUMBERS[rule.outside],
        serve=serve_message(rule.serve),
    )
    if rule.condition is not None:
        _fill(message.condition, rule.condition)
    if rule.share is not None:
        steps = [messages.ShareStep(at=timestamp(step.at), parts=step.parts) for step in rule.share.steps]
        share = messages.Share(parts=rule.share.parts, salt=rule.share.salt, steps=steps)
        share.bucket_by = _unless_usual(rule.share.bucket_by)
        message.share.CopyFrom(share)
    if rule.starts_at is not None:
        message.starts_at.CopyFrom(timestamp(rule.starts_at))
    if rule.ends_at is not None:
        message.ends_at.CopyFrom(timestamp(rule.ends_at))
    return message


def serve_message(serve: Serve) -> messages.Serve:
    """A variant or a split as clients get it."""
    if isinstance(serve, str):
        return messages.Serve(variant=serve)
    weights = [messages.Weight(variant=variant, weight=weight) for variant, weight in serve.weights]
    split = messages.Split(weights=weights, salt=serve.salt, bucket_by=_unless_usual(serve.bucket_by))
    return messages.Serve(split=split)


def _unless_usual(bucket_by: str) -> str:
    return "" if bucket_by == TARGETING_KEY else bucket_by


def _value_message(value: Json) -> messages.VariantValue:
    match value:
        case bool():
            return messages.VariantValue(bool_value=value)
        case str():
            return messages.VariantValue(string_value=value)
        case int() if -(2**63) <= value < 2**63:
            return messages.VariantValue(int_value=value)
        case int() | float():
            return messages.VariantValue(double_value=value)
    message = messages.VariantValue()
    message.object_value.SetInParent()
    message.object_value.update(value)
    return message


def _fill(message: Message, value: Json) -> None:
    """Write a JSON value into a google.protobuf.Value."""
    given: Any = message
    match value:
        case None:
            given.null_value = 0
        case bool():
            given.bool_value = value
        case str():
            given.string_value = value
        case int() | float():
            given.number_value = value
        case dict():
            given.struct_value.SetInParent()
            given.struct_value.update(value)
        case list():
            given.list_value.SetInParent()
            given.list_value.extend(value)
