"""FlagService: what all environments share of a flag."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.struct_pb2 import Struct

from protos.flagstaff.v1 import common_pb2 as common
from protos.flagstaff.v1 import evaluation_pb2 as evaluation
from protos.flagstaff.v1 import flags_pb2 as messages
from server.core.changes import PutFlag, UpdateEnvironment
from server.core.environments import ApprovalPolicy, FreezeWindow
from tests.rpc.flag_service import Service, condition, here, rule, variants
from tests.store.definitions import NOW, behind_our_back, flag, put, stored


async def test_a_flag_is_told_with_its_configurations(service: Service) -> None:
    """The part that all environments share, and each environment's, with their versions."""
    reply = await service("GetFlag", messages.GetFlagRequest(project="shop", key="checkout"))
    told, (production, staging) = reply.flag, reply.configs

    assert ("checkout", evaluation.VALUE_TYPE_BOOLEAN, "web", ["a", "b"]) == (
        told.key,
        told.type,
        told.owner,
        told.tags,
    )
    assert {"on": True, "off": False} == {each.key: each.value.bool_value for each in told.variants}
    assert (("production", 2), ("staging", 2)) == (
        (production.environment, production.version),
        (staging.environment, staging.version),
    )
    assert (20_000, "checkout/beta/share") == (production.rules[0].share.parts, production.rules[0].share.salt)
    assert ("on", ["ann"]) == (production.targets[0].variant, production.targets[0].keys)
    assert (True, "off", "off") == (production.enabled, production.off_variant, production.default_serve.variant)


async def test_what_is_told_can_be_sent_back(service: Service) -> None:
    """And changes nothing: reading and writing are each other's reverse."""
    rules = [
        {"id": "split", "serve": {"weights": {"on": 1, "off": 2}, "bucketBy": "email"}, "outside": "default"},
        {"id": "odd", "condition": {"in": [{"var": "n"}, [1, 2.5, None, "x", True]]}, "serve": "on"},
    ]
    needs = [{"flag": "checkout", "variants": ["on"]}]
    whole = flag("whole", rules=rules, default={"weights": {"on": 1}}, prerequisites=needs,
                 metadata={"team": "web", "n": 3, "f": 0.5}, kind="operational", temporary=False, links=["https://x"],
                 expectedLifetimeDays=9, description="d", offVariant="off")  # fmt: skip
    raw = flag("raw", targeting={"if": [{"==": [{"var": "a"}, 1]}, "on"]})
    put(service.shop, PutFlag(whole), PutFlag(raw))
    for key in ("whole", "raw"):
        told = await service("GetFlag", messages.GetFlagRequest(project="shop", key=key))
        fields = ["enabled", "off_variant", "targets", "prerequisites", "rules", "default_serve", "targeting"]
        again = here(
            messages.UpdateFlagConfigRequest, key=key, config=told.configs[0], update_mask=FieldMask(paths=fields)
        )
        shared = ["description", "kind", "temporary", "expected_lifetime_days", "owner", "tags", "links", "metadata"]
        update = messages.UpdateFlagRequest(
            project="shop", flag=told.flag, update_mask=FieldMask(paths=[*shared, "variants"])
        )

        assert common.OUTCOME_UNCHANGED == (await service("UpdateFlagConfig", again)).result.outcome
        assert common.OUTCOME_UNCHANGED == (await service("UpdateFlag", update)).result.outcome


async def test_a_flag_is_created_everywhere_and_off(service: Service) -> None:
    """In one commit; it is on only where that was said."""
    request = messages.CreateFlagRequest(project="shop", flag=messages.Flag(key="new"), enabled_in=["staging"])
    reply = await service("CreateFlag", request)

    assert {"production": 3, "staging": 3} == reply.result.revisions
    assert {"production": False, "staging": True} == {each.environment: each.enabled for each in reply.configs}
    config = reply.configs[0]
    assert ("off", "on", ["on", "off"]) == (
        config.off_variant,
        config.default_serve.variant,
        [each.key for each in reply.flag.variants],
    )


async def test_numbers_are_exact(service: Service) -> None:
    """Whole numbers are integers by themselves, up to what every client can hold."""
    big = 2**53 - 1
    made = messages.Flag(key="big", variants=variants(most=big, least=-big))
    reply = await service("CreateFlag", messages.CreateFlagRequest(project="shop", flag=made))

    assert (evaluation.VALUE_TYPE_INTEGER, big) == (reply.flag.type, reply.flag.variants[0].value.int_value)
    too_big = messages.Flag(key="bigger", variants=variants(most=2**53 + 2))
    status, message = await service.refused("CreateFlag", messages.CreateFlagRequest(project="shop", flag=too_big))
    assert "INVALID_ARGUMENT" == status and "9007199254740994" in message


async def test_a_flag_with_objects_is_created_where_that_is_wanted(service: Service) -> None:
    """With a configuration of its own, in some environments."""
    layout = messages.Variant(key="wide")
    layout.value.object_value.update({"columns": 3})
    config = messages.FlagConfig(
        default_serve=messages.Serve(variant="wide"), rules=[rule("r", serve=messages.Serve(variant="wide"))]
    )
    made = messages.Flag(key="layout", variants=[layout], kind=messages.FLAG_KIND_EXPERIMENT)
    request = messages.CreateFlagRequest(project="shop", flag=made, config=config, environments=["staging"])
    reply = await service("CreateFlag", request)

    assert ["staging"] == [each.environment for each in reply.configs]
    assert {"columns": 3} == dict(reply.flag.variants[0].value.object_value)


async def test_what_is_wrong_is_told_whole(service: Service) -> None:
    """Each problem with its path, as google.rpc.BadRequest has them."""
    wrong = messages.FlagConfig(
        default_serve=messages.Serve(variant="none"), rules=[rule("r", condition=condition({"ends_wiht": []}))]
    )
    request = messages.CreateFlagRequest(project="shop", flag=messages.Flag(key="new"), config=wrong)
    status, message = await service.refused("CreateFlag", request)

    assert "INVALID_ARGUMENT" == status
    assert "/config/default: variant 'none' does not exist" in message
    assert "/config/rules/0/condition: unknown operator 'ends_wiht'" in message


async def test_a_key_is_taken_once(service: Service) -> None:
    """Also when only another environment has it."""
    made = messages.Flag(key="checkout")
    refused = await service.refused("CreateFlag", messages.CreateFlagRequest(project="shop", flag=made))

    assert ("ALREADY_EXISTS", True) == (refused[0], "flag 'checkout' exists already in 'shop'" in refused[1])


async def test_a_repeated_request_gets_its_first_answer(service: Service) -> None:
    """Creating, archiving and deleting can be sent again."""
    options = [common.WriteOptions(request_id=f"r{number}") for number in range(3)]
    create = messages.CreateFlagRequest(project="shop", flag=messages.Flag(key="new"), options=options[0])
    archive = messages.ArchiveFlagRequest(project="shop", key="new", options=options[1])
    delete = messages.DeleteFlagRequest(project="shop", key="new", options=options[2])
    for method, request in (("CreateFlag", create), ("ArchiveFlag", archive), ("DeleteFlag", delete)):
        first = await service(method, request)
        again = await service(method, request)

        assert first.result.revisions == again.result.revisions
    assert "new" not in stored(service.shop).flags


async def test_shared_fields_are_updated_by_mask(service: Service) -> None:
    """In every environment, and only what the mask names."""
    changed = messages.Flag(key="checkout", owner="mobile", description="not in the mask")
    request = messages.UpdateFlagRequest(project="shop", flag=changed, update_mask=FieldMask(paths=["owner"]))
    reply = await service("UpdateFlag", request)

    assert ("mobile", "", ["a", "b"]) == (reply.flag.owner, reply.flag.description, reply.flag.tags)
    assert {"production": 3, "staging": 3} == reply.result.revisions


@pytest.mark.parametrize("paths", [[], ["type"], ["archived_at"], ["nonsense"]])
async def test_a_mask_names_what_can_be_updated(service: Service, paths: list[str]) -> None:
    """The refusal lists it."""
    request = messages.UpdateFlagRequest(
        project="shop", flag=messages.Flag(key="checkout"), update_mask=FieldMask(paths=paths)
    )
    status, message = await service.refused("UpdateFlag", request)

    assert ("INVALID_ARGUMENT", True) == (status, "description, kind" in message)


async def test_who_was_slower_is_told(service: Service) -> None:
    """By the version of the shared part, and by that of the configuration."""
    told = await service("GetFlag", messages.GetFlagRequest(project="shop", key="checkout"))
    update = messages.UpdateFlagRequest(
        project="shop",
        flag=messages.Flag(key="checkout", owner="x"),
        update_mask=FieldMask(paths=["owner"]),
        options=common.WriteOptions(expected_version=told.flag.version),
    )
    add = here(
        messages.AddRuleRequest, rule=rule("new"), options=common.WriteOptions(expected_version=told.configs[0].version)
    )
    await service("AddRule", add)
    await service("UpdateFlag", update)
    update.flag.owner, add.rule.id = "y", "newer"
    slow = [await service.refused("UpdateFlag", update), await service.refused("AddRule", add)]

    assert ["ABORTED", "ABORTED"] == [status for status, _ in slow]


async def test_variants_are_added_replaced_and_removed(service: Service) -> None:
    """Another value only where that is allowed, and none that is referred to goes; the refusal says where."""
    add = messages.SetVariantsRequest(project="shop", key="checkout", put=variants(maybe=True))
    replace = messages.SetVariantsRequest(project="shop", key="checkout", put=variants(maybe=False))
    remove = messages.SetVariantsRequest(project="shop", key="checkout", remove=["on"])
    await service("SetVariants", add)
    status, message = await service.refused("SetVariants", replace)
    assert ("INVALID_ARGUMENT", True) == (status, "would also be served in staging" in message)
    replace.replace_variants = True
    await service("SetVariants", replace)
    status, message = await service.refused("SetVariants", remove)

    assert "INVALID_ARGUMENT" == status
    assert "/flags/checkout/rules/0/serve: variant 'on' does not exist" in message
    assert "in environment 'staging': variant 'on' does not exist" in message
    reply = await service("SetVariants", messages.SetVariantsRequest(project="shop", key="checkout", remove=["maybe"]))
    assert ["on", "off"] == [each.key for each in reply.flag.variants]


async def test_a_value_of_another_type_is_refused(service: Service) -> None:
    """With its path."""
    request = messages.SetVariantsRequest(project="shop", key="checkout", put=variants(text="x"))
    status, message = await service.refused("SetVariants", request)

    assert ("INVALID_ARGUMENT", True) == (status, "/flags/checkout/variants/text" in message)


async def test_archived_flags_are_off_and_left_alone(service: Service) -> None:
    """Until they are restored; lists have them only when asked."""
    archived = await service("ArchiveFlag", messages.ArchiveFlagRequest(project="shop", key="checkout"))
    status, message = await service.refused("AddRule", here(messages.AddRuleRequest, rule=rule("x")))
    listed = await service("ListFlags", messages.ListFlagsRequest(project="shop"))
    only = messages.FlagFilter(archived=messages.FlagFilter.ARCHIVED_ONLY)
    listed_too = await service("ListFlags", messages.ListFlagsRequest(project="shop", filter=only))

    assert {"production": 3, "staging": 3} == archived.result.revisions
    assert ("FAILED_PRECONDITION", True) == (status, "is archived" in message)
    assert (0, 1) == (listed.total_size, listed_too.total_size)
    restored = await service("RestoreFlag", messages.RestoreFlagRequest(project="shop", key="checkout"))
    assert not restored.flag.HasField("archived_at")
    assert ["flag 'checkout' comes back on in production, staging"] == restored.result.warnings


async def test_a_flag_that_is_required_anywhere_is_not_archived(service: Service) -> None:
    """Also when only an environment that comes later requires it; nothing is done then."""
    needy = flag("needy", prerequisites=[{"flag": "checkout", "variants": ["on"]}])
    put(service.shop, PutFlag(needy), environment="staging")
    status, message = await service.refused("ArchiveFlag", messages.ArchiveFlagRequest(project="shop", key="checkout"))

    assert ("FAILED_PRECONDITION", True) == (status, "required by 'needy'" in message)
    assert "archivedAt" not in (stored(service.shop).flags["checkout"] or {})


async def test_only_an_archived_flag_is_deleted_unasked(service: Service) -> None:
    """And never one that others require: they are named."""
    request = messages.DeleteFlagRequest(project="shop", key="checkout")
    status, message = await service.refused("DeleteFlag", request)
    assert ("FAILED_PRECONDITION", True) == (status, "is not archived" in message)
    put(service.shop, PutFlag(flag("needy", prerequisites=[{"flag": "checkout", "variants": ["on"]}])))
    request.force = True
    status, message = await service.refused("DeleteFlag", request)
    assert ("FAILED_PRECONDITION", True) == (status, "flag 'needy' would miss it" in message)
    await service("DeleteFlag", messages.DeleteFlagRequest(project="shop", key="needy", force=True))
    await service("DeleteFlag", request)

    assert {} == stored(service.shop).flags == stored(service.shop, "staging").flags


async def test_a_damaged_flag_is_told_as_such(service: Service) -> None:
    """The rest of a list is there all the same."""
    put(service.shop, PutFlag(flag("sound")))
    with behind_our_back(service.shop) as connection:
        connection.execute("UPDATE flag SET document = 'x' WHERE key = 'checkout'")
    told = await service("GetFlag", messages.GetFlagRequest(project="shop", key="checkout"))
    listed = await service("ListFlags", messages.ListFlagsRequest(project="shop", with_configs=True))

    assert "not a JSON object" in told.flag.problem
    assert ["checkout", "sound"] == [each.flag.key for each in listed.flags]


@pytest.mark.parametrize("table", ["flag", "flag_config"])
async def test_a_damaged_flag_is_killed_whatever_protects_it(service: Service, table: str) -> None:
    """By the operator, in a frozen environment that asks for approvals; whoever may edit must wait."""
    window = FreezeWindow(NOW - timedelta(days=1), NOW + timedelta(days=1), "Holidays")
    put(service.shop, UpdateEnvironment(freeze_windows=(window,), approval_policy=ApprovalPolicy(2)))
    with behind_our_back(service.shop) as connection:
        connection.execute(f"UPDATE {table} SET document = 'x' WHERE key = 'checkout'")
    kill = messages.KillFlagsRequest(project="shop", environment="production", keys=["checkout"])
    disable = messages.DisableFlagsRequest(project="shop", environment="production", keys=["checkout"])
    refused, _ = await service.refused("DisableFlags", disable, by="stager")
    result = (await service("KillFlags", kill, by="operator")).result

    assert "PERMISSION_DENIED" == refused
    assert common.OUTCOME_APPLIED == result.outcome
    assert ["production"] == list(result.revisions)


@pytest.mark.parametrize("method", ["GetFlag", "ListFlags", "ExportFlags"])
async def test_what_is_not_there_is_not_found(service: Service, method: str) -> None:
    """A project, an environment; or nothing was said at all."""
    request = getattr(messages, f"{method}Request")
    more = {"key": "checkout"} if method == "GetFlag" else {}
    asked: list[Callable[[], Awaitable[tuple[str, str]]]] = [
        lambda: service.refused(method, request(**more)),
        lambda: service.refused(method, request(project="shop", environment="none", **more)),
    ]

    assert ["INVALID_ARGUMENT", "NOT_FOUND"] == [(await each())[0] for each in asked]


def struct_of(**fields: Any) -> Struct:
    """A struct."""
    message = Struct()
    message.update(fields)
    return message


async def test_metadata_is_kept_as_it_was_sent(service: Service) -> None:
    """Whole numbers are whole numbers; what is neither text, number nor boolean is refused."""
    changed = messages.Flag(key="checkout", metadata=struct_of(team="web", n=3, f=0.5, yes=True))
    request = messages.UpdateFlagRequest(project="shop", flag=changed, update_mask=FieldMask(paths=["metadata"]))
    reply = await service("UpdateFlag", request)
    document = stored(service.shop).flags["checkout"] or {}

    assert {"team": "web", "n": 3, "f": 0.5, "yes": True} == document["metadata"] == dict(reply.flag.metadata)
    assert isinstance(document["metadata"]["n"], int)
    request.flag.metadata.update({"list": [1]})
    assert "INVALID_ARGUMENT" == (await service.refused("UpdateFlag", request))[0]
