"""The commands that look at flags: `flagstaff flag list` and `get`."""

from collections.abc import Iterator
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from server.cli.documents import as_document, enum_name
from server.cli.flag.arguments import Key, stub
from server.cli.options import given
from server.cli.output import in_short, print_json, print_table
from server.cli.remote import Place, Remote, remote_read

if TYPE_CHECKING:
    from protos.flagstaff.v1 import flags_pb2 as messages

LIST_HELP: Final = """List flags, and where they are on.

\b
  flagstaff flag list
  flagstaff flag list --tag checkout --owner web --sort owner
  flagstaff flag list --on production --off staging --text banner
  flagstaff flag list --archived only --json
"""

GET_HELP: Final = """Show one flag: what all environments share, and how it is configured in each.

\b
  flagstaff flag get new-ui
  flagstaff flag get new-ui --environment production --json
"""

PAGE_SIZE: Final = 500
TARGETS_SHOWN_MAX: Final = 10


class KindName(StrEnum):
    """Kinds, as an option's choices."""

    RELEASE = "release"
    EXPERIMENT = "experiment"
    OPERATIONAL = "operational"
    PERMISSION = "permission"


class TypeName(StrEnum):
    """Types, as an option's choices."""

    BOOLEAN = "boolean"
    STRING = "string"
    INTEGER = "integer"
    FLOAT = "float"
    OBJECT = "object"


class ArchivedName(StrEnum):
    """Whether archived flags are listed, as an option's choices."""

    LEFT_OUT = "left-out"
    INCLUDED = "included"
    ONLY = "only"


def register(app: typer.Typer) -> None:
    """Add the commands to their group."""
    app.command("list", help=LIST_HELP)(list_flags)
    app.command("get", help=GET_HELP)(get)


@remote_read(Place.ANYWHERE)
def list_flags(
    server: Remote,
    *,
    text: Annotated[str, given("--text", "Is in the key or the description, whatever its case.")] = "",
    tag: Annotated[list[str] | None, given("--tag", "Has this tag. Repeatable: has all of them.")] = None,
    owner: Annotated[str, given("--owner", "Is owned by them.")] = "",
    kind: Annotated[list[KindName] | None, given("--kind", "Is of this kind. Repeatable: of one of them.")] = None,
    type: Annotated[list[TypeName] | None, given("--type", "Is of this type. Repeatable: of one of them.")] = None,
    on: Annotated[list[str] | None, given("--on", "Is on in this environment. Repeatable.")] = None,
    off: Annotated[list[str] | None, given("--off", "Is off in this environment. Repeatable.")] = None,
    archived: Annotated[
        ArchivedName, given("--archived", "Whether archived flags are listed.")
    ] = ArchivedName.LEFT_OUT,
    sort: Annotated[str, given("--sort", "key, owner, kind, type or version; `version desc` is latest first.")] = "",
    limit: Annotated[int, given("--limit", "Flags to list at most.", min=1)] = 10_000,
) -> None:
    """Ask for page after page."""
    from protos.flagstaff.v1 import evaluation_pb2 as evaluation
    from protos.flagstaff.v1 import flags_pb2 as messages

    states = [messages.StateFilter(environment=name, enabled=True) for name in on or ()]
    states += [messages.StateFilter(environment=name, enabled=False) for name in off or ()]
    wanted = messages.FlagFilter(
        text=text,
        tags=tag,
        owner=owner,
        kinds=[messages.FlagKind.Value(f"FLAG_KIND_{each.name}") for each in kind or ()],
        types=[evaluation.ValueType.Value(f"VALUE_TYPE_{each.name}") for each in type or ()],
        states=states,
        archived=messages.FlagFilter.Archived.Value(f"ARCHIVED_{archived.name}"),
    )
    request = messages.ListFlagsRequest(
        project=server.project, environment=server.environment, filter=wanted, order_by=sort
    )
    lister = stub(server)
    found: list[messages.ListedFlag] = []
    total = 0
    while True:
        request.page_size = min(PAGE_SIZE, limit - len(found))
        reply = lister.ListFlags(request)
        found += reply.flags
        total, request.page_token = reply.total_size, reply.next_page_token
        if not request.page_token or len(found) >= limit:
            break
    if server.as_json:
        print_json({"flags": [as_document(each) for each in found], "totalSize": total})
    else:
        _print_list(server, found, total)


@remote_read(Place.ANYWHERE)
def get(server: Remote, key: Key) -> None:
    """Ask for one flag and tell all of it."""
    from protos.flagstaff.v1 import flags_pb2 as messages

    request = messages.GetFlagRequest(project=server.project, environment=server.environment, key=key)
    reply = stub(server).GetFlag(request)
    if server.prints(reply):
        return
    for name, text in _shared(reply.flag):
        typer.echo(f"{name:<14}{text}")
    for config in reply.configs:
        typer.echo(f"\n{config.environment:<14}{'on' if config.enabled else 'off'}, version {config.version}")
        told = list(_configured(config))
        width = max(len(name) for name, _ in told)
        for name, text in told:
            typer.echo(f"  {name:<{width}}  {text}")


def _print_list(server: Remote, flags: "list[messages.ListedFlag]", total: int) -> None:
    places = sorted({config.environment for each in flags for config in each.configs})
    rows = []
    for each in flags:
        flag = each.flag
        states = {config.environment: "on" if config.enabled else "off" for config in each.configs}
        if flag.HasField("archived_at"):
            states = dict.fromkeys(states, "archived")
        name = f"{flag.key} (damaged)" if flag.problem else flag.key
        told = [name, _type(flag), _kind(flag), flag.owner or "-", ", ".join(flag.tags) or "-"]
        rows.append([*told, *(states.get(place, "-") for place in places)])
    print_table(("key", "type", "kind", "owner", "tags", *places), rows)
    shown = "" if len(flags) == total else f"{len(flags)} of "
    typer.echo(f"\n{shown}{total} flag{'s' * (total != 1)} in {server.project}")


def _shared(flag: "messages.Flag") -> Iterator[tuple[str, str]]:
    if flag.problem:
        yield flag.key, f"damaged: {flag.problem}"
        return
    lasting = "temporary" if flag.temporary else "permanent"
    days = f", expected for {flag.expected_lifetime_days} days" if flag.HasField("expected_lifetime_days") else ""
    yield flag.key, f"{_type(flag)}, {_kind(flag)}, {lasting}{days}"
    if flag.HasField("archived_at"):
        yield "archived", flag.archived_at.ToJsonString()
    for name, text in (("about", flag.description), ("owner", flag.owner), ("tags", ", ".join(flag.tags))):
        if text:
            yield name, text
    for link in flag.links:
        yield "link", link
    for name, value in sorted(dict(flag.metadata).items()):
        yield "metadata", f"{name} = {in_short(value)}"
    for variant in flag.variants:
        yield "variant", f"{variant.key} = {in_short(_value(variant.value))}"
    yield "version", str(flag.version)


def _configured(config: "messages.FlagConfig") -> Iterator[tuple[str, str]]:
    if config.problem:
        yield "damaged", config.problem
        return
    yield "off variant", config.off_variant or "the caller's default"
    for needed in config.prerequisites:
        yield "needs", f"{needed.flag_key} serves {' or '.join(needed.variants)}"
    for target in config.targets:
        more = f" and {len(target.keys) - TARGETS_SHOWN_MAX} more" if len(target.keys) > TARGETS_SHOWN_MAX else ""
        yield "targets", f"{target.variant}: {', '.join(target.keys[:TARGETS_SHOWN_MAX])}{more}"
    for rule in config.rules:
        yield f"rule {rule.id}", _rule(rule)
    if config.HasField("targeting"):
        yield "targeting", in_short(as_document(config.targeting), chars_max=400)
    yield "default", _serve(config.default_serve)


def _rule(rule: "messages.Rule") -> str:
    from protos.flagstaff.v1 import flags_pb2 as messages

    who = "everybody" if not rule.HasField("condition") else in_short(as_document(rule.condition), chars_max=400)
    begin = f", from {rule.starts_at.ToJsonString()}" if rule.HasField("starts_at") else ""
    window = f"{begin}, until {rule.ends_at.ToJsonString()}" if rule.HasField("ends_at") else begin
    if not rule.HasField("share"):
        return f"{who}{window}: {_serve(rule.serve)}"
    by = f" by {rule.share.bucket_by}" if rule.share.bucket_by else ""
    rest = "default" if rule.outside == messages.OUTSIDE_DEFAULT else "next rule"
    steps = "".join(f", {step.parts / 1_000:g} % from {step.at.ToJsonString()}" for step in rule.share.steps)
    return f"{rule.share.parts / 1_000:g} %{steps}{by} of {who}{window}: {_serve(rule.serve)}, else {rest}"


def _serve(serve: "messages.Serve") -> str:
    match serve.WhichOneof("kind"):
        case "variant":
            return serve.variant
        case "split":
            arms = " / ".join(f"{each.variant} {each.weight}" for each in serve.split.weights)
            return f"{arms} by {serve.split.bucket_by}" if serve.split.bucket_by else arms
    return "the caller's default"


def _value(value: "messages.VariantValue") -> Any:
    which = value.WhichOneof("kind")
    if which is None:
        return None
    return as_document(value.object_value) if which == "object_value" else getattr(value, which)


def _type(flag: "messages.Flag") -> str:
    from protos.flagstaff.v1 import evaluation_pb2 as evaluation

    return enum_name(evaluation.ValueType.DESCRIPTOR, flag.type) if flag.type else "-"


def _kind(flag: "messages.Flag") -> str:
    from protos.flagstaff.v1 import flags_pb2 as messages

    return enum_name(messages.FlagKind.DESCRIPTOR, flag.kind) if flag.kind else "-"
