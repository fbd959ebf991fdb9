"""Read flags out of messages, by way of the documents that users know.

A message becomes the JSON of Flagstaff's own format and is read as a file is, so that there is one reader with one set
of rules; its problems name paths of that form.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.struct_pb2 import Struct

from protos.flagstaff.v1 import evaluation_pb2 as evaluation
from protos.flagstaff.v1 import flags_pb2 as messages
from server.core.definitions.fields import key_problem
from server.core.definitions.flags import read_config_part, read_flag_part
from server.core.definitions.problems import Problems
from server.core.edits import Position
from server.core.errors import InvalidDefinition, InvalidRequest, Problem
from server.core.flags import (
    Flag,
    FlagConfig,
    FlagKind,
    Outside,
    Prerequisite,
    Rule,
    Serve,
    Target,
    ValueType,
)
from server.core.json import Json
from server.core.limits import SHARE_PARTS
from server.rpc.timestamps import document_instant
from server.rpc.values import json_of

TYPES: Final[Mapping[int, ValueType]] = {
    evaluation.ValueType.Value(f"VALUE_TYPE_{each.name}"): each for each in ValueType
}
KINDS: Final[Mapping[int, FlagKind]] = {messages.FlagKind.Value(f"FLAG_KIND_{each.name}"): each for each in FlagKind}
OUTSIDE: Final[Mapping[int, Outside]] = {messages.Outside.Value(f"OUTSIDE_{each.name}"): each for each in Outside}
_PARTS_PER_PERCENT: Final = SHARE_PARTS // 100
_ANY_VARIANT: Final = {"any": True}
"""Stands for a flag's variants where a message does not speak of them."""

_FLAG_FIELDS: Final = {
    "description": "description",
    "kind": "kind",
    "temporary": "temporary",
    "expected_lifetime_days": "expected_lifetime_days",
    "owner": "owner",
    "tags": "tags",
    "links": "links",
    "metadata": "metadata",
    "variants": "variants",
}
_CONFIG_FIELDS: Final = {
    "enabled": "enabled",
    "off_variant": "off_variant",
    "targets": "targets",
    "prerequisites": "prerequisites",
    "rules": "rules",
    "default_serve": "default",
    "targeting": "targeting",
    "lenient": "lenient",
}


def value_types(numbers: Iterable[int]) -> tuple[str, ...]:
    """Types by their numbers. Errors: InvalidRequest for one that there is not."""
    return tuple(_known(number, TYPES, "ValueType").value for number in numbers)


def flag_kinds(numbers: Iterable[int]) -> tuple[str, ...]:
    """Kinds by their numbers. Errors: InvalidRequest for one that there is not."""
    return tuple(_known(number, KINDS, "FlagKind").value for number in numbers)


def number_of(value_type: ValueType) -> int:
    """The number of a type in messages."""
    return next(number for number, known in TYPES.items() if known is value_type)


def read_flag_message(message: messages.Flag, *, whole: bool = True) -> Flag:
    """What environments share of a flag. Errors: InvalidDefinition with every problem.

    Not `whole`: one that need not have variants.
    """
    problems = Problems()
    document = _flag_document(message)
    if not whole and not message.variants:
        document["variants"] = _ANY_VARIANT
        document.pop("type", None)
    flag = read_flag_part(message.key, document, problems=problems, path="/flag")
    problems.raise_if_any()
    assert flag is not None
    return flag if whole or message.variants else replace(flag, variants={})


def read_variants_message(key: str, variants: Sequence[messages.Variant]) -> dict[str, Json]:
    """Values by variant; whether they fit the flag's type is seen when they are put. Errors: InvalidDefinition."""
    values = _variants(variants)
    problems = Problems()
    for name, value in values.items():
        read_flag_part(key, {"variants": {name: value}}, problems=problems, path="")
    problems.raise_if_any()
    return values


def read_config_message(key: str, message: messages.FlagConfig, *, flag: Flag | None = None) -> FlagConfig:
    """A configuration; that its variants exist is checked here only where `flag` is given.

    Errors: InvalidDefinition with every problem.
    """
    variants = None if flag is None else flag.variants
    return _read_config(key, _config_document(message), path="/config", variants=variants)


def read_rule_message(key: str, message: messages.Rule) -> Rule:
    """A rule. Errors: InvalidDefinition with every problem."""
    if problem := key_problem(message.id, "id"):
        raise InvalidDefinition([Problem("/rule/id", problem)])
    try:
        config = _read_config(key, {"rules": [_rule_document(message)]}, path="")
    except InvalidDefinition as error:
        raise InvalidDefinition(
            [replace(each, path=each.path.replace("/rules/0", "/rule", 1)) for each in error.problems]
        ) from None
    return config.rules[0]


def read_serve_message(key: str, message: messages.Serve) -> Serve | None:
    """A variant or a split; None for an empty message. Errors: InvalidDefinition with every problem."""
    return _read_config(key, {"default": _serve_document(message)}, path="").default


def read_targets_message(key: str, message: Sequence[messages.Target]) -> tuple[Target, ...]:
    """Individual targets. Errors: InvalidDefinition with every problem."""
    return _read_config(key, {"targets": _targets_document(message)}, path="").targets


def read_prerequisites_message(key: str, message: Sequence[messages.Prerequisite]) -> tuple[Prerequisite, ...]:
    """Prerequisites. Errors: InvalidDefinition with every problem."""
    return _read_config(key, {"prerequisites": _prerequisites_document(message)}, path="").prerequisites


def read_position(message: messages.RulePosition) -> Position:
    """Where a rule is to stand."""
    return Position(message.before, message.after)


def flag_fields(mask: FieldMask) -> tuple[str, ...]:
    """Fields of a Flag that a mask names. Errors: InvalidRequest."""
    return _fields(mask, _FLAG_FIELDS)


def config_fields(mask: FieldMask) -> tuple[str, ...]:
    """Fields of a FlagConfig that a mask names. Errors: InvalidRequest."""
    return _fields(mask, _CONFIG_FIELDS)


def _known(number: int, known: Mapping[int, Any], name: str) -> Any:
    if number not in known:
        raise InvalidRequest(f"{number} is no {name}; expected one of: {', '.join(map(str, known))}")
    return known[number]


def _fields(mask: FieldMask, known: Mapping[str, str]) -> tuple[str, ...]:
    if not mask.paths:
        raise InvalidRequest(f"update_mask names no field; expected some of: {', '.join(known)}")
    unknown = [path for path in mask.paths if path not in known]
    if unknown:
        raise InvalidRequest(f"update_mask names {', '.join(unknown)}, expected some of: {', '.join(known)}")
    return tuple(known[path] for path in dict.fromkeys(mask.paths))


def _read_config(
    key: str, document: dict[str, Json], *, path: str, variants: Mapping[str, Json] | None = None
) -> FlagConfig:
    problems = Problems()
    config = read_config_part(key, document, variants=variants, problems=problems, path=path)
    problems.raise_if_any()
    assert config is not None
    return config


def _flag_document(message: messages.Flag) -> dict[str, Json]:
    document: dict[str, Json] = {
        "variants": _variants(message.variants),
        "description": message.description,
        "owner": message.owner,
        "tags": list(message.tags),
        "links": list(message.links),
        "metadata": json_of(message.metadata),
    }
    if message.type:
        document["type"] = _known(message.type, TYPES, "ValueType").value
    if message.kind:
        document["kind"] = _known(message.kind, KINDS, "FlagKind").value
    if message.HasField("temporary"):
        document["temporary"] = message.temporary
    if message.HasField("expected_lifetime_days"):
        document["expectedLifetimeDays"] = message.expected_lifetime_days
    return document


def _variants(variants: Sequence[messages.Variant]) -> dict[str, Json]:
    values: dict[str, Json] = {}
    problems = Problems()
    for index, variant in enumerate(variants):
        if variant.key in values:
            problems.error(f"/variants/{index}/key", f"variant {variant.key!r} stands twice")
        which = variant.value.WhichOneof("kind")
        value = None if which is None else getattr(variant.value, which)
        values[variant.key] = json_of(value) if isinstance(value, Struct) else value
    problems.raise_if_any()
    return values


def _config_document(message: messages.FlagConfig) -> dict[str, Json]:
    document: dict[str, Json] = {
        "enabled": message.enabled,
        "targets": _targets_document(message.targets),
        "prerequisites": _prerequisites_document(message.prerequisites),
        "rules": [_rule_document(rule) for rule in message.rules],
        "default": _serve_document(message.default_serve),
        "lenient": message.lenient,
    }
    if message.HasField("off_variant"):
        document["offVariant"] = message.off_variant
    if message.HasField("targeting"):
        document["targeting"] = json_of(message.targeting)
    return document


def _targets_document(targets: Sequence[messages.Target]) -> dict[str, Json]:
    document: dict[str, Any] = {}
    for target in targets:
        document.setdefault(target.variant, []).extend(target.keys)
    return document


def _prerequisites_document(prerequisites: Sequence[messages.Prerequisite]) -> list[Json]:
    return [{"flag": each.flag_key, "variants": list(each.variants)} for each in prerequisites]


def _rule_document(message: messages.Rule) -> dict[str, Json]:
    document: dict[str, Any] = {"description": message.description, "serve": _serve_document(message.serve)}
    if message.id:
        document["id"] = message.id
    if message.HasField("condition"):
        document["condition"] = json_of(message.condition)
    if message.HasField("share"):
        share = message.share
        document["share"] = {"percent": share.parts / _PARTS_PER_PERCENT, **_bucketing(share)}
        if share.steps:
            document["share"]["steps"] = [
                {"at": document_instant(step.at), "percent": step.parts / _PARTS_PER_PERCENT} for step in share.steps
            ]
    if message.HasField("starts_at"):
        document["from"] = document_instant(message.starts_at)
    if message.HasField("ends_at"):
        document["until"] = document_instant(message.ends_at)
    if message.outside:
        document["outside"] = _known(message.outside, OUTSIDE, "Outside").value
    return document


def _serve_document(message: messages.Serve) -> Json:
    match message.WhichOneof("kind"):
        case "variant":
            return message.variant
        case "split":
            split = message.split
            weights: dict[str, int] = {}
            for each in split.weights:
                weights[each.variant] = weights.get(each.variant, 0) + each.weight
            return {"weights": weights, **_bucketing(split)}
    return None


def _bucketing(message: messages.Share | messages.Split) -> dict[str, Json]:
    given = {"salt": message.salt, "bucketBy": message.bucket_by}
    return {name: text for name, text in given.items() if text}
