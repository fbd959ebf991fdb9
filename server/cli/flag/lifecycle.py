"""The commands about a flag in all its environments: create, update, archive, restore, delete, variants."""

from typing import Annotated, Any, Final

import typer

from server.cli.flag import arguments
from server.cli.flag.arguments import Key, stub
from server.cli.flag.looking import KindName, TypeName
from server.cli.options import given, group
from server.cli.remote import Place, Remote, remote_write

CREATE_HELP: Final = """Create a flag in all environments, or in some.

It is off wherever --on does not say otherwise. Without variants it is a boolean flag with `on` and `off`, and serves
`on` when it is on.

\b
  flagstaff flag create new-ui
  flagstaff flag create new-ui --on staging --owner web --tag ui
  flagstaff flag create banner --variant welcome="Hello" --variant sale="Summer sale" --default welcome
  flagstaff flag create limit --variant low=10 --variant high=100 --default low --off-variant low --in staging
"""

UPDATE_HELP: Final = """Change what all environments share of a flag; what is not given stays.

\b
  flagstaff flag update new-ui --owner mobile --description "The new shop"
  flagstaff flag update new-ui --tag ui --tag shop              these tags and no others
  flagstaff flag update new-ui --permanent --kind operational --expected-version 7
"""

ARCHIVE_HELP: Final = """Archive a flag: it is off in all environments, and nobody edits it until it is restored.

It serves its off variant, or leaves the value to the caller. Refused while other flags require it.

\b
  flagstaff flag archive new-ui --reason "Launched in May"
  flagstaff flag archive new-ui --dry-run
"""

RESTORE_HELP: Final = """Restore an archived flag as it was: where it was on, it is on again.

\b
  flagstaff flag restore new-ui
  flagstaff flag restore new-ui --dry-run
"""

DELETE_HELP: Final = """Delete a flag from all environments; its history stays.

Only an archived flag, unless --force is given, and never one that others require.

\b
  flagstaff flag delete new-ui
  flagstaff flag delete typo --force --reason "Never used"
"""

VARIANT_HELP: Final = """Change the variants of a flag, in all environments.

\b
  flagstaff flag variant set banner winter="Winter sale"
  flagstaff flag variant remove banner winter
"""

VARIANT_SET_HELP: Final = """Add variants, or give them other values.

A value is JSON where it is that, else a text; of a text flag it is always a text.

\b
  flagstaff flag variant set banner winter="Winter sale"
  flagstaff flag variant set limit high=200 --replace-variants      also where other environments serve it
"""

VARIANT_REMOVE_HELP: Final = """Take variants away; refused while something refers to them, naming where.

\b
  flagstaff flag variant remove banner winter
  flagstaff flag variant remove banner winter spring --dry-run
"""

variant_app = group(VARIANT_HELP)

Description = Annotated[str | None, given("--description", "What it is for.")]
Kind = Annotated[KindName | None, given("--kind", "Why it exists; release when it is created without.")]
Temporary = Annotated[bool | None, given("--temporary/--permanent", "Whether it should go one day.")]
LifetimeDays = Annotated[int | None, given("--lifetime-days", "For how many days it is expected to live.", min=1)]
Owner = Annotated[str | None, given("--owner", "Who looks after it.")]
Tags = Annotated[list[str] | None, given("--tag", "A tag. Repeatable.")]
Links = Annotated[list[str] | None, given("--link", "A link. Repeatable.")]
Metadata = Annotated[list[str] | None, given("--metadata", "NAME=VALUE that evaluations tell along. Repeatable.")]
ReplaceVariants = Annotated[
    bool, given("--replace-variants", "Let a variant that several environments serve get another value.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to their group."""
    app.command("create", help=CREATE_HELP)(create)
    app.command("update", help=UPDATE_HELP)(update)
    app.command("archive", help=ARCHIVE_HELP)(archive)
    app.command("restore", help=RESTORE_HELP)(restore)
    app.command("delete", help=DELETE_HELP)(delete)


@remote_write(Place.PROJECT, versioned=False)
def create(
    server: Remote,
    key: Key,
    *,
    type: Annotated[TypeName | None, given("--type", "Else as the variants are.")] = None,
    variant: Annotated[list[str] | None, given("--variant", "NAME=VALUE. Repeatable.")] = None,
    default: Annotated[str | None, given("--default", "The variant that is served when nothing else matched.")] = None,
    off_variant: Annotated[str | None, given("--off-variant", "The variant that is served while it is off.")] = None,
    on: Annotated[list[str] | None, given("--on", "An environment where it is on. Repeatable.")] = None,
    inside: Annotated[
        list[str] | None, given("--in", "An environment where it is created; else in all. Repeatable.")
    ] = None,
    description: Description = None,
    kind: Kind = None,
    temporary: Temporary = None,
    lifetime_days: LifetimeDays = None,
    owner: Owner = None,
    tag: Tags = None,
    link: Links = None,
    metadata: Metadata = None,
) -> None:
    """Create it."""
    from protos.flagstaff.v1 import evaluation_pb2 as evaluation
    from protos.flagstaff.v1 import flags_pb2 as messages

    flag = _described(key, description, kind, temporary, lifetime_days, owner, tag, link, metadata)
    flag.variants.extend(arguments.variants(variant or [], as_text=type is TypeName.STRING))
    if type is not None:
        flag.type = evaluation.ValueType.Value(f"VALUE_TYPE_{type.name}")
    config = messages.FlagConfig(off_variant=off_variant, default_serve=arguments.serve(default, None))
    request = messages.CreateFlagRequest(
        project=server.project,
        flag=flag,
        config=config,
        environments=inside,
        enabled_in=on,
        options=server.options(),
    )
    server.done(stub(server).CreateFlag(request), f"flag {key} created")


@remote_write(Place.PROJECT)
def update(
    server: Remote,
    key: Key,
    *,
    description: Description = None,
    kind: Kind = None,
    temporary: Temporary = None,
    lifetime_days: LifetimeDays = None,
    owner: Owner = None,
    tag: Tags = None,
    link: Links = None,
    metadata: Metadata = None,
) -> None:
    """Set what is given."""
    from google.protobuf.field_mask_pb2 import FieldMask

    from protos.flagstaff.v1 import flags_pb2 as messages

    said = {
        "description": description,
        "kind": kind,
        "temporary": temporary,
        "expected_lifetime_days": lifetime_days,
        "owner": owner,
        "tags": tag,
        "links": link,
        "metadata": metadata,
    }
    paths = [name for name, value in said.items() if value is not None]
    if not paths:
        raise typer.BadParameter("nothing is given that could be changed")
    flag = _described(key, description, kind, temporary, lifetime_days, owner, tag, link, metadata)
    request = messages.UpdateFlagRequest(
        project=server.project, flag=flag, update_mask=FieldMask(paths=paths), options=server.options()
    )
    server.done(stub(server).UpdateFlag(request), f"flag {key} updated")


@remote_write(Place.PROJECT)
def archive(server: Remote, key: Key) -> None:
    """Archive it."""
    from protos.flagstaff.v1 import flags_pb2 as messages

    request = messages.ArchiveFlagRequest(project=server.project, key=key, options=server.options())
    server.done(stub(server).ArchiveFlag(request), f"flag {key} archived")


@remote_write(Place.PROJECT)
def restore(server: Remote, key: Key) -> None:
    """Restore it."""
    from protos.flagstaff.v1 import flags_pb2 as messages

    request = messages.RestoreFlagRequest(project=server.project, key=key, options=server.options())
    server.done(stub(server).RestoreFlag(request), f"flag {key} restored")


@remote_write(Place.PROJECT)
def delete(
    server: Remote, key: Key, *, force: Annotated[bool, given("--force", "Also one that is not archived.")] = False
) -> None:
    """Delete it."""
    from protos.flagstaff.v1 import flags_pb2 as messages

    request = messages.DeleteFlagRequest(project=server.project, key=key, force=force, options=server.options())
    server.done(stub(server).DeleteFlag(request), f"flag {key} deleted")


@variant_app.command("set", help=VARIANT_SET_HELP)
@remote_write(Place.PROJECT)
def set_variants(
    server: Remote,
    key: Key,
    variant: Annotated[list[str], typer.Argument(metavar="NAME=VALUE...", help="Variants and their values.")],
    *,
    replace_variants: ReplaceVariants = False,
) -> None:
    """Put variants."""
    from protos.flagstaff.v1 import evaluation_pb2 as evaluation
    from protos.flagstaff.v1 import flags_pb2 as messages

    # What looks like a number is a text in a flag of texts.
    told = stub(server).GetFlag(messages.GetFlagRequest(project=server.project, key=key))
    put = arguments.variants(variant, as_text=told.flag.type == evaluation.VALUE_TYPE_STRING)
    request = messages.SetVariantsRequest(
        project=server.project, key=key, put=put, replace_variants=replace_variants, options=server.options()
    )
    server.done(stub(server).SetVariants(request), f"variants of {key} set")


@variant_app.command("remove", help=VARIANT_REMOVE_HELP)
@remote_write(Place.PROJECT)
def remove_variants(
    server: Remote, key: Key, variant: Annotated[list[str], typer.Argument(metavar="NAME...", help="Variants.")]
) -> None:
    """Take variants away."""
    from protos.flagstaff.v1 import flags_pb2 as messages

    request = messages.SetVariantsRequest(project=server.project, key=key, remove=variant, options=server.options())
    server.done(stub(server).SetVariants(request), f"variants of {key} removed")


def _described(  # noqa: PLR0917  (a flag's fields, in one order for both commands)
    key: str,
    description: str | None,
    kind: KindName | None,
    temporary: bool | None,
    lifetime_days: int | None,
    owner: str | None,
    tags: list[str] | None,
    links: list[str] | None,
    metadata: list[str] | None,
) -> Any:
    from protos.flagstaff.v1 import flags_pb2 as messages

    flag = messages.Flag(
        key=key,
        description=description or "",
        kind=messages.FLAG_KIND_UNSPECIFIED if kind is None else messages.FlagKind.Value(f"FLAG_KIND_{kind.name}"),
        temporary=temporary,
        expected_lifetime_days=lifetime_days,
        owner=owner or "",
        tags=tags,
        links=links,
    )
    if metadata:
        flag.metadata.update(arguments.metadata(metadata))
    return flag
