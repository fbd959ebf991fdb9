"""Read what commands about flags are given: variants, splits, shares, metadata."""

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from server.cli.instants import read_instant
from server.cli.remote import Remote
from server.core.json import Json

if TYPE_CHECKING:
    from protos.flagstaff.v1 import flags_pb2 as messages
    from protos.flagstaff.v1.flags_pb2_grpc import FlagServiceStub

Key = Annotated[str, typer.Argument(metavar="KEY", help="The flag's key.")]
Keys = Annotated[list[str], typer.Argument(metavar="KEY...", help="The flags' keys.")]

_PARTS_PER_PERCENT: Final = 1_000
NONE: Final = "none"


def stub(server: Remote) -> "FlagServiceStub":
    """The service of a server."""
    from protos.flagstaff.v1.flags_pb2_grpc import FlagServiceStub

    return FlagServiceStub(server.channel)


def read_config(server: Remote, key: str) -> "messages.FlagConfig":
    """A flag's configuration in the environment that is meant, to change a part of it."""
    from protos.flagstaff.v1 import flags_pb2 as messages

    request = messages.GetFlagRequest(project=server.project, environment=server.environment, key=key)
    config: messages.FlagConfig = stub(server).GetFlag(request).configs[0]
    return config


def named_values(given: Iterable[str], what: str) -> dict[str, str]:
    """NAME=VALUE pairs in their order. Errors: BadParameter."""
    found: dict[str, str] = {}
    for each in given:
        name, separator, value = each.partition("=")
        if not separator or not name:
            raise typer.BadParameter(f"{each!r} is not {what}")
        if name in found:
            raise typer.BadParameter(f"{name!r} is given twice")
        found[name] = value
    return found


def variants(given: Sequence[str], *, as_text: bool = False) -> "list[messages.Variant]":
    """Variants from NAME=VALUE. A value is JSON where it is that, else a text. Errors: BadParameter."""
    from protos.flagstaff.v1 import flags_pb2 as messages

    values = named_values(given, "NAME=VALUE, such as blue=#00f or low=3")
    return [
        messages.Variant(key=name, value=_value(name, text if as_text else json_or_text(text)))
        for name, text in values.items()
    ]


def metadata(given: Sequence[str]) -> dict[str, Json]:
    """Metadata from NAME=VALUE, as variants. Errors: BadParameter."""
    pairs = named_values(given, "NAME=VALUE, such as team=web")
    return {name: json_or_text(text) for name, text in pairs.items()}


def json_or_text(text: str) -> Json:
    """The JSON value that a text is; else the text itself."""
    try:
        value: Json = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value


def json_rule(text: str) -> Any:
    """JsonLogic as a google.protobuf.Value. Errors: BadParameter when it is not JSON."""
    from google.protobuf import json_format
    from google.protobuf.struct_pb2 import Value

    try:
        return json_format.Parse(text, Value())
    except (json_format.ParseError, RecursionError) as error:
        raise typer.BadParameter(f"the condition is not JSON: {error}") from None


def serve(variant: str | None, split: str | None, bucket_by: str | None = None) -> "messages.Serve | None":
    """A variant or a split, whichever is given; None when neither is. Errors: BadParameter when both are."""
    from protos.flagstaff.v1 import flags_pb2 as messages

    if variant is not None and split is not None:
        raise typer.BadParameter("a variant and a split are given; give one of them")
    if split is None:
        return None if variant is None else messages.Serve(variant=variant)
    weights = named_values(split.split(","), "VARIANT=WEIGHT,VARIANT=WEIGHT, such as on=1,off=3")
    try:
        each = [messages.Weight(variant=name, weight=int(text)) for name, text in weights.items()]
    except ValueError:
        raise typer.BadParameter(f"the weights in {split!r} are not whole numbers") from None
    return messages.Serve(split=messages.Split(weights=each, bucket_by=bucket_by or ""))


def share(text: str, bucket_by: str | None = None) -> "messages.Share | None":
    """A share from a percentage, such as 12.5 or 12.5%; None for `none`. Errors: BadParameter."""
    from protos.flagstaff.v1 import flags_pb2 as messages

    if text == NONE:
        return None
    try:
        parts = float(text.removesuffix("%")) * _PARTS_PER_PERCENT
    except ValueError:
        raise typer.BadParameter(f"share {text!r} is not a percentage, such as 12.5%, nor `none`") from None
    if not 0 <= parts <= 100 * _PARTS_PER_PERCENT or round(parts, 6) != round(parts):
        raise typer.BadParameter(f"share {text!r} is not from 0% to 100% with up to 3 decimals")
    return messages.Share(parts=round(parts), bucket_by=bucket_by or "")


def share_steps(texts: Sequence[str]) -> "list[messages.ShareStep]":
    """Later widths of a share, such as 25%@2026-12-01T09:00Z, in the order of their instants; none for `none`.

    Errors: BadParameter.
    """
    from protos.flagstaff.v1 import flags_pb2 as messages

    if list(texts) == [NONE]:
        return []
    steps = []
    for text in texts:
        width, found, instant = text.partition("@")
        wanted = share(width) if found else None
        if wanted is None:
            raise typer.BadParameter(f"--then {text!r} is not PERCENT@INSTANT, such as 25%@2026-12-01T09:00Z")
        step = messages.ShareStep(parts=wanted.parts)
        step.at.FromDatetime(read_instant(instant, "--then"))
        steps.append(step)
    return sorted(steps, key=lambda step: step.at.ToDatetime())


def position(before: str | None, after: str | None) -> "messages.RulePosition":
    """Where a rule is to stand. Errors: BadParameter when both are given."""
    from protos.flagstaff.v1 import flags_pb2 as messages

    if before is not None and after is not None:
        raise typer.BadParameter("--before and --after are given; give one of them")
    if before is not None:
        return messages.RulePosition(before=before)
    return messages.RulePosition() if after is None else messages.RulePosition(after=after)


def _value(name: str, value: Json) -> "messages.VariantValue":
    from protos.flagstaff.v1 import flags_pb2 as messages

    match value:
        case bool():
            return messages.VariantValue(bool_value=value)
        case str():
            return messages.VariantValue(string_value=value)
        case int() if -(2**63) <= value < 2**63:
            return messages.VariantValue(int_value=value)
        case int() | float():
            return messages.VariantValue(double_value=value)
        case dict():
            message = messages.VariantValue()
            message.object_value.SetInParent()
            message.object_value.update(value)
            return message
    raise typer.BadParameter(f"variant {name!r} is null or a list; expected a boolean, text, number or object")
