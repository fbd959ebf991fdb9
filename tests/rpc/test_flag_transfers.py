"""FlagService: flags that go from one place to another, and who may do what."""

from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from protos.flagstaff.v1 import common_pb2 as common
from protos.flagstaff.v1 import flags_pb2 as messages
from server.core.changes import PutFlag, PutSegment
from tests.rpc.flag_service import Service, rule, the_config
from tests.store.definitions import flag, put, segment, stored


async def test_configurations_are_copied_in_one_commit(service: Service) -> None:
    """A preview tells the same; on or off stays as it is, unless it is to come along."""
    put(service.shop, PutFlag(flag("more", default="on")), environment="staging")
    await service(
        "DisableFlags", messages.DisableFlagsRequest(project="shop", environment="production", keys=["checkout"])
    )
    await service(
        "AddRule", messages.AddRuleRequest(project="shop", environment="staging", key="checkout", rule=rule("new"))
    )
    request = messages.CopyFlagConfigsRequest(
        project="shop", environment="production", from_environment="staging", options=common.WriteOptions(dry_run=True)
    )
    preview = await service("CopyFlagConfigs", request)
    request.options.dry_run = False
    done = await service("CopyFlagConfigs", request)

    assert preview.result.changes == done.result.changes
    assert ({"production": 4}, False) == (done.result.revisions, (await the_config(service, key="more")).enabled)
    config = await the_config(service)
    assert (["beta", "new"], False) == ([each.id for each in config.rules], config.enabled)
    request.with_state = True
    await service("CopyFlagConfigs", request)
    assert (await the_config(service, key="more")).enabled


async def test_a_copy_may_bring_its_segments(service: Service) -> None:
    """Without them it is refused where they are not there."""
    put(service.shop, PutSegment(segment("vip", {"$ref": "beta"})), environment="staging")
    put(
        service.shop,
        PutFlag(flag("more", rules=[{"id": "r", "condition": {"$ref": "vip"}, "serve": "on"}])),
        environment="staging",
    )
    request = messages.CopyFlagConfigsRequest(
        project="shop", environment="production", from_environment="staging", keys=["more"]
    )
    status, message = await service.refused("CopyFlagConfigs", request)
    assert ("INVALID_ARGUMENT", True) == (status, "segment 'vip' does not exist" in message)
    request.with_segments = True
    await service("CopyFlagConfigs", request)

    assert "vip" in stored(service.shop).segments


async def test_a_copy_that_would_deal_units_anew_is_refused(service: Service) -> None:
    """Rules of the same id go on hashing what they hash there; who wants another attribute says so."""
    for environment, attribute in (("staging", "company"), ("production", "targetingKey")):
        shared = {"id": "r", "serve": "on", "share": {"percent": 10, "bucketBy": attribute}}
        put(service.shop, PutFlag(flag("more", rules=[shared])), environment=environment)
    request = messages.CopyFlagConfigsRequest(
        project="shop", environment="production", from_environment="staging", keys=["more"]
    )
    status, message = await service.refused("CopyFlagConfigs", request)

    assert ("INVALID_ARGUMENT", True) == (status, "/flags/more/rules/0/share/bucketBy" in message), message
    request.rerandomise = True
    await service("CopyFlagConfigs", request)
    assert "company" == (await the_config(service, key="more")).rules[0].share.bucket_by


async def test_a_copy_needs_the_right_to_read_its_source(service: Service) -> None:
    """And to edit where it goes."""
    to_staging = messages.CopyFlagConfigsRequest(project="shop", environment="staging", from_environment="production")
    to_production = messages.CopyFlagConfigsRequest(
        project="shop", environment="production", from_environment="staging"
    )
    refused = [await service.refused("CopyFlagConfigs", each, by="stager") for each in (to_staging, to_production)]

    assert ["PERMISSION_DENIED"] * 2 == [status for status, _ in refused]


async def test_what_all_environments_share_needs_the_right_to_all(service: Service) -> None:
    """An editor of one may edit there, and create a flag there alone."""
    mine = messages.CreateFlagRequest(project="shop", flag=messages.Flag(key="mine"), environments=["staging"])
    await service("CreateFlag", mine, by="stager")
    await service(
        "AddRule",
        messages.AddRuleRequest(project="shop", environment="staging", key="checkout", rule=rule("x")),
        by="stager",
    )
    everywhere = messages.CreateFlagRequest(project="shop", flag=messages.Flag(key="all"))
    update = messages.UpdateFlagRequest(
        project="shop", flag=messages.Flag(key="checkout"), update_mask=FieldMask(paths=["owner"])
    )
    guess = messages.ArchiveFlagRequest(project="shop", key="does-not-exist")
    for method, request in (("CreateFlag", everywhere), ("UpdateFlag", update), ("ArchiveFlag", guess)):
        assert "PERMISSION_DENIED" == (await service.refused(method, request, by="stager"))[0]


async def test_documents_are_imported_and_exported(service: Service) -> None:
    """Ours and flagd's; what is exported and imported again changes nothing."""
    exported = await service("ExportFlags", messages.ExportFlagsRequest(project="shop"))
    assert ["production", "staging"] == [each.environment for each in exported.exports]
    again = messages.ImportFlagsRequest(project="shop", environment="staging", document=exported.exports[1].document)
    reply = await service("ImportFlags", again)
    assert (common.OUTCOME_UNCHANGED, 1) == (reply.result.outcome, reply.unchanged)
    flagd = await service(
        "ExportFlags",
        messages.ExportFlagsRequest(project="shop", environment="staging", format=messages.DOCUMENT_FORMAT_FLAGD),
    )
    other = messages.ImportFlagsRequest(
        project="shop", environment="production", document=flagd.exports[0].document, replace=True
    )
    reply = await service("ImportFlags", other)

    assert (messages.DOCUMENT_FORMAT_FLAGD, ["checkout"]) == (reply.format, list(reply.updated))
    assert b'"state"' in flagd.exports[0].document


async def test_an_import_is_all_or_nothing(service: Service) -> None:
    """Problems have their paths; what is not in the document goes only when asked."""
    wrong = messages.ImportFlagsRequest(project="shop", environment="staging", document=b'{"flags": {"x": {}}}')
    status, message = await service.refused("ImportFlags", wrong)
    assert ("INVALID_ARGUMENT", True) == (status, "/flags/x/variants: the flag has no variants" in message)
    document = b'{"bucketing": "v3", "flags": {"x": {"variants": {"a": 1}}}}'
    request = messages.ImportFlagsRequest(project="shop", environment="staging", document=document, replace=True)
    reply = await service("ImportFlags", request)

    assert (["x"], ["checkout"]) == (list(reply.created), list(reply.removed))
    assert "the document's bucketing v3 is not taken over" in reply.result.warnings[0]


async def test_who_may_only_read_writes_nothing(service: Service) -> None:
    """Every writing method refuses a reader."""
    for name, method in messages.DESCRIPTOR.services_by_name["FlagService"].methods_by_name.items():
        if name in ("GetFlag", "ListFlags", "ExportFlags"):
            continue
        request = getattr(messages, method.input_type.name)(project="shop")
        fields = method.input_type.fields_by_name
        if "environment" in fields:
            request.environment = "production"
        status, _ = await service.refused(name, _filled(request), by="reader")
        assert "PERMISSION_DENIED" == status, name


def _filled(request: Any) -> Any:
    """A request about flag `checkout` that would do something."""
    fields = request.DESCRIPTOR.fields_by_name
    if "key" in fields:
        request.key = "checkout"
    if "keys" in fields:
        request.keys.append("checkout")
    if "flag" in fields:
        request.flag.key = "checkout" if "update_mask" in fields else "new"
    if "update_mask" in fields:
        request.update_mask.paths.append("enabled" if "config" in fields else "owner")
    if "rule" in fields:
        request.rule.CopyFrom(rule("x"))
    if "rule_id" in fields:
        request.rule_id = "beta"
    if "document" in fields:
        request.document = b'{"flags": {}}'
    if "from_environment" in fields:
        request.from_environment = "staging"
    return request


async def test_several_environments_are_one_commit(service: Service) -> None:
    """A variant that all documents drop goes at once; one that an environment without a document serves does not."""
    for name in ("production", "staging"):
        served = flag("more", variants={"on": True, "off": False, "new": True}, default="new")
        put(service.shop, PutFlag(served), environment=name)
    document = b'{"flags": {"more": {"variants": {"on": true, "off": false}, "default": "on"}}}'
    request = messages.ImportFlagsRequest(project="shop", environment="production", document=document)
    status, message = await service.refused("ImportFlags", request)

    assert ("INVALID_ARGUMENT", True) == (status, "in environment 'staging'" in message), message
    request.others.add(environment="staging", document=document)
    reply = await service("ImportFlags", request)
    assert [("production", ["more"]), ("staging", ["more"])] == [
        (each.environment, list(each.updated)) for each in reply.environments
    ]
    assert all(any("default new -> on" in line for line in each.changes) for each in reply.environments)
    shared = await service("GetFlag", messages.GetFlagRequest(project="shop", key="more"))
    assert ["on", "off"] == [each.key for each in shared.flag.variants]


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"environment": "production", "document": b"{}"}, "two documents for environment 'production'"),
        ({"environment": "staging"}, "others[0] needs an environment and a document"),
        ({"environment": "staging", "document": b"[", "name": "s.json"}, "s.json"),
        ({"environment": "none", "document": b'{"flags": {}}'}, "environment 'shop/none' does not exist"),
    ],
)
async def test_what_further_documents_may_not_be(service: Service, other: dict[str, Any], said: str) -> None:
    """For one place once, and sound."""
    request = messages.ImportFlagsRequest(project="shop", environment="production", document=b'{"flags": {}}')
    request.others.add(**other)

    assert said in (await service.refused("ImportFlags", request))[1]
