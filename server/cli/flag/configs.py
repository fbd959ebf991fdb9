"""The commands about a flag in one environment: on and off, default, off variant, targets, prerequisites."""

from typing import Annotated, Any, Final

import typer

from server.cli.flag import arguments
from server.cli.flag.arguments import Key, Keys, read_config, stub
from server.cli.options import given, group
from server.cli.remote import Remote, remote_write
from server.core.errors import InvalidRequest

ENABLE_HELP: Final = """Turn flags on in an environment.

\b
  flagstaff flag enable new-ui
  flagstaff flag enable new-ui new-search --environment staging
"""

DISABLE_HELP: Final = """Turn flags off in an environment.

\b
  flagstaff flag disable new-ui
  flagstaff flag disable new-ui new-search --environment staging --dry-run
"""

KILL_HELP: Final = """Turn flags off in an emergency.

Neither a freeze nor approvals stand in the way, nor a definition that is damaged, and a token that may do nothing
else (role `operate`) is enough.

\b
  flagstaff flag kill payments --reason "The bank is down"
  flagstaff flag kill payments checkout --everywhere
"""

DEFAULT_HELP: Final = """Choose what is served when nothing else matched.

\b
  flagstaff flag default banner welcome
  flagstaff flag default banner --split welcome=1,sale=3         one part to three, by targeting key
  flagstaff flag default banner --none                           the caller's own default
"""

OFF_VARIANT_HELP: Final = """Choose what is served while a flag is off.

\b
  flagstaff flag off-variant banner welcome
  flagstaff flag off-variant banner --none                       the caller's own default
"""

TARGET_HELP: Final = """Give variants to individual units, before any rule is asked.

\b
  flagstaff flag target add new-ui on alice bob
  flagstaff flag target remove new-ui alice
"""

TARGET_ADD_HELP: Final = """Give a variant to units, by their targeting keys; each leaves the variant that it had.

\b
  flagstaff flag target add new-ui on alice bob
  cat testers.txt | xargs flagstaff flag target add new-ui on
"""

TARGET_REMOVE_HELP: Final = """Take units out of the individual targets.

\b
  flagstaff flag target remove new-ui alice bob
  flagstaff flag target remove new-ui alice --environment staging
"""

PREREQUISITE_HELP: Final = """Have a flag ask others first: unless they serve what is needed, it serves its off variant.

\b
  flagstaff flag prerequisite add new-checkout payments on
  flagstaff flag prerequisite remove new-checkout payments
"""

PREREQUISITE_ADD_HELP: Final = """Require that another flag serves one of some variants.

\b
  flagstaff flag prerequisite add new-checkout payments on
  flagstaff flag prerequisite add new-checkout layout wide narrow --environment staging
"""

PREREQUISITE_REMOVE_HELP: Final = """Require other flags no more.

\b
  flagstaff flag prerequisite remove new-checkout payments
  flagstaff flag prerequisite remove new-checkout payments layout --dry-run
"""

target_app = group(TARGET_HELP)
prerequisite_app = group(PREREQUISITE_HELP)

Variant = Annotated[str | None, typer.Argument(metavar="[VARIANT]", help="The variant.")]
Units = Annotated[list[str], typer.Argument(metavar="UNIT...", help="Targeting keys.")]
Nothing = Annotated[bool, given("--none", "Leave the value to the caller.")]
Split = Annotated[str | None, given("--split", "VARIANT=WEIGHT,VARIANT=WEIGHT in place of one variant.")]
BucketBy = Annotated[str | None, given("--bucket-by", "The attribute that decides who gets what; else targetingKey.")]
Rerandomise = Annotated[bool, given("--rerandomise", "Let units get other variants than they have: by other salts.")]


def register(app: typer.Typer) -> None:
    """Add the commands to their group."""
    app.command("enable", help=ENABLE_HELP)(enable)
    app.command("disable", help=DISABLE_HELP)(disable)
    app.command("kill", help=KILL_HELP)(kill)
    app.command("default", help=DEFAULT_HELP)(default)
    app.command("off-variant", help=OFF_VARIANT_HELP)(off_variant)


@remote_write()
def enable(server: Remote, keys: Keys) -> None:
    """Turn them on."""
    from protos.flagstaff.v1 import flags_pb2 as messages

    request = messages.EnableFlagsRequest(
        project=server.project, environment=server.environment, keys=keys, options=server.options()
    )
    server.done(stub(server).EnableFlags(request), f"{', '.join(keys)} turned on")


@remote_write()
def disable(server: Remote, keys: Keys) -> None:
    """Turn them off."""
    from protos.flagstaff.v1 import flags_pb2 as messages

    request = messages.DisableFlagsRequest(
        project=server.project, environment=server.environment, keys=keys, options=server.options()
    )
    server.done(stub(server).DisableFlags(request), f"{', '.join(keys)} turned off")


@remote_write(versioned=False)
def kill(
    server: Remote,
    keys: Keys,
    *,
    everywhere: Annotated[bool, given("--everywhere", "In all environments of the project.")] = False,
) -> None:
    """Turn them off, whatever stands in the way."""
    from protos.flagstaff.v1 import flags_pb2 as messages

    request = messages.KillFlagsRequest(
        project=server.project,
        environment="" if everywhere else server.environment,
        keys=keys,
        everywhere=everywhere,
        options=server.options(),
    )
    server.done(stub(server).KillFlags(request), f"{', '.join(keys)} killed")


@remote_write()
def default(
    server: Remote,
    key: Key,
    variant: Variant = None,
    *,
    split: Split = None,
    bucket_by: BucketBy = None,
    none: Nothing = False,
    rerandomise: Rerandomise = False,
) -> None:
    """Set the default."""
    from protos.flagstaff.v1 import flags_pb2 as messages

    _check_one(variant is not None, split is not None, none)
    request = messages.SetDefaultRuleRequest(
        project=server.project,
        environment=server.environment,
        key=key,
        serve=arguments.serve(variant, split, bucket_by),
        rerandomise=rerandomise,
        options=server.options(),
    )
    server.done(stub(server).SetDefaultRule(request), f"default of {key} set")


@remote_write()
def off_variant(server: Remote, key: Key, variant: Variant = None, *, none: Nothing = False) -> None:
    """Set the off variant."""
    from protos.flagstaff.v1 import flags_pb2 as messages

    _check_one(variant is not None, none)
    request = messages.SetOffVariantRequest(
        project=server.project, environment=server.environment, key=key, variant=variant, options=server.options()
    )
    server.done(stub(server).SetOffVariant(request), f"off variant of {key} set")


@target_app.command("add", help=TARGET_ADD_HELP)
@remote_write()
def add_targets(
    server: Remote,
    key: Key,
    variant: Annotated[str, typer.Argument(metavar="VARIANT", help="The variant that they get.")],
    units: Units,
) -> None:
    """Add targets."""
    from protos.flagstaff.v1 import flags_pb2 as messages

    request = messages.SetTargetsRequest(
        project=server.project,
        environment=server.environment,
        key=key,
        add=[messages.Target(variant=variant, keys=units)],
        options=server.options(),
    )
    server.done(stub(server).SetTargets(request), f"targets of {key} added")


@target_app.command("remove", help=TARGET_REMOVE_HELP)
@remote_write()
def remove_targets(server: Remote, key: Key, units: Units) -> None:
    """Take targets away."""
    from protos.flagstaff.v1 import flags_pb2 as messages

    request = messages.SetTargetsRequest(
        project=server.project, environment=server.environment, key=key, remove=units, options=server.options()
    )
    server.done(stub(server).SetTargets(request), f"targets of {key} removed")


@prerequisite_app.command("add", help=PREREQUISITE_ADD_HELP)
@remote_write()
def add_prerequisite(
    server: Remote,
    key: Key,
    flag: Annotated[str, typer.Argument(metavar="FLAG", help="The flag that is required.")],
    variants: Annotated[list[str], typer.Argument(metavar="VARIANT...", help="It must serve one of these.")],
) -> None:
    """Add a prerequisite to those that are there, or replace the one about the same flag."""
    from protos.flagstaff.v1 import flags_pb2 as messages

    config = read_config(server, key)
    wanted = [each for each in config.prerequisites if each.flag_key != flag]
    wanted.append(messages.Prerequisite(flag_key=flag, variants=variants))
    _set_prerequisites(server, key, config.version, wanted)


@prerequisite_app.command("remove", help=PREREQUISITE_REMOVE_HELP)
@remote_write()
def remove_prerequisites(
    server: Remote,
    key: Key,
    flags: Annotated[list[str], typer.Argument(metavar="FLAG...", help="Flags that are required no more.")],
) -> None:
    """Take prerequisites away."""
    config = read_config(server, key)
    strange = sorted(set(flags) - {each.flag_key for each in config.prerequisites})
    if strange:
        raise InvalidRequest(f"flag {key!r} does not require {', '.join(strange)}")
    left = [each for each in config.prerequisites if each.flag_key not in flags]
    _set_prerequisites(server, key, config.version, left)


def _set_prerequisites(server: Remote, key: str, version: int, wanted: list[Any]) -> None:
    from protos.flagstaff.v1 import flags_pb2 as messages

    request = messages.SetPrerequisitesRequest(
        project=server.project,
        environment=server.environment,
        key=key,
        prerequisites=wanted,
        options=server.options(server.asked.expected_version or version),
    )
    server.done(stub(server).SetPrerequisites(request), f"prerequisites of {key} set")


def _check_one(*said: bool) -> None:
    if sum(said) != 1:
        raise typer.BadParameter(
            "say in one way what is to be served: a variant, --none, or --split where there is one"
        )
