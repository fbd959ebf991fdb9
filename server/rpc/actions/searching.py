"""Answer the actions that search, with flat items that tools can take apart."""

from collections.abc import Mapping
from typing import Any, Final

from google.protobuf.struct_pb2 import Struct

from protos.flagstaff.v1 import evaluation_pb2 as evaluation
from protos.flagstaff.v1 import flags_pb2 as flags
from protos.flagstaff.v1 import releases_pb2 as releases
from server.core.access import Action, Scope
from server.core.errors import InvalidDefinition, Problem
from server.core.json import Json
from server.operations.writes import require
from server.rpc.actions.doing import Doing, Request, plain
from server.rpc.actions.other_requests import release_of
from server.rpc.values import json_of

LIMIT: Final = 100


async def find_flags(doing: Doing) -> list[dict[str, Json]]:
    """Flags that fit."""
    given = doing.given
    if given.get("flag_key"):
        one = flags.GetFlagRequest(project=doing.project, environment=doing.environment, key=given["flag_key"])
        found = await doing.ask(Request("FlagService/GetFlag", one))
        return [_flag(found.flag, found.configs)]
    wanted = flags.FlagFilter(
        text=given.get("text", ""), owner=given.get("owner", ""), tags=[given["tag"]] if given.get("tag") else ()
    )
    if "enabled" in given:
        if not doing.environment:
            raise InvalidDefinition([Problem("/environment", "name one: a flag is on or off in an environment")])
        wanted.states.add(environment=doing.environment, enabled=given["enabled"])
    request = flags.ListFlagsRequest(
        project=doing.project,
        environment=doing.environment,
        filter=wanted,
        page_size=int(given.get("limit", LIMIT)),
    )
    listed = await doing.ask(Request("FlagService/ListFlags", request))
    return [_flag(each.flag, each.configs) for each in listed.flags]


def _flag(flag: Any, configs: Any) -> dict[str, Json]:
    item: dict[str, Json] = {
        "flag_key": flag.key,
        "description": flag.description,
        "owner": flag.owner,
        "tags": list(flag.tags),
        "kind": flags.FlagKind.Name(flag.kind).removeprefix("FLAG_KIND_").lower(),
        "type": evaluation.ValueType.Name(flag.type).removeprefix("VALUE_TYPE_").lower(),
        "temporary": flag.temporary,
        "variants": [each.key for each in flag.variants],
        "archived": flag.HasField("archived_at"),
        "version": flag.version,
        "enabled_in": [each.environment for each in configs if each.enabled],
    }
    if len(configs) == 1:
        item |= {
            "environment": configs[0].environment,
            "enabled": configs[0].enabled,
            "config_version": configs[0].version,
        }
    return item


async def get_release(doing: Doing) -> list[dict[str, Json]]:
    """Where one stands."""
    request = releases.GetReleaseRequest(project=doing.project, id=await release_of(doing))
    release = (await doing.ask(Request("ReleaseService/GetRelease", request))).release
    plan = release.plan
    return [
        {
            "release_id": release.id,
            "name": plan.name,
            "state": releases.ReleaseState.Name(release.state).removeprefix("RELEASE_STATE_").lower(),
            "step": release.step,
            "steps_total": len(plan.steps),
            "reached": release.reached,
            "note": release.note,
            "blocked": release.blocked,
            "version": release.version,
            "flag_keys": sorted({patch.flag_key for step in plan.steps for patch in step.patches}),
            "environments": sorted({patch.environment for step in plan.steps for patch in step.patches}),
            "waiting_for": [gate.text for gate in release.gates if not gate.holds],
        }
    ]


async def evaluate_flag(doing: Doing) -> list[dict[str, Json]]:
    """What somebody gets."""
    # The handler of evaluations asks nobody who they are: doors do.
    require(doing.principal, Action.EVALUATE, Scope(doing.project, doing.environment))
    context: dict[str, Json] = dict(doing.given.get("context") or {})
    if doing.given.get("targeting_key"):
        context["targetingKey"] = doing.given["targeting_key"]
    held = Struct()
    held.update(context)
    request = evaluation.EvaluateRequest(
        flag_key=doing.given["flag_key"], context=held, flag_set=f"{doing.project}/{doing.environment}"
    )
    answer = await doing.ask(Request("EvaluationService/Evaluate", request))
    return [_resolution(answer.resolution, revision=answer.revision)]


def _resolution(resolution: Any, *, revision: int) -> dict[str, Json]:
    held = resolution.WhichOneof("value")
    value: Json = None
    if held is not None:
        value = json_of(resolution.object_value) if held == "object_value" else getattr(resolution, held)
    told: Mapping[str, Json] = plain(resolution)
    return {
        "flag_key": resolution.flag_key,
        "value": value,
        "variant": told.get("variant"),
        "reason": evaluation.Reason.Name(resolution.reason).removeprefix("REASON_"),
        "error_code": told.get("error_code", "").removeprefix("ERROR_CODE_"),
        "error_message": resolution.error_message,
        "revision": revision,
    }
