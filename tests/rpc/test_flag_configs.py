"""FlagService: how flags are configured in one environment."""

import pytest

from protos.flagstaff.v1 import common_pb2 as common
from protos.flagstaff.v1 import flags_pb2 as messages
from protos.flagstaff.v1 import simulation_pb2 as simulation
from server.core.changes import PutFlag, UpdateEnvironment
from server.core.environments import ApprovalPolicy
from tests.rpc.flag_service import Service, condition, here, rule, the_config
from tests.rpc.managing import called
from tests.store.definitions import behind_our_back, flag, put, stored


async def test_flags_are_switched_in_one_environment(service: Service) -> None:
    """Several in one commit; the other environment's stay."""
    put(service.shop, PutFlag(flag("more")))
    off = await service(
        "DisableFlags",
        messages.DisableFlagsRequest(project="shop", environment="production", keys=["checkout", "more"]),
    )
    on = messages.EnableFlagsRequest(project="shop", environment="production", keys=["checkout"])

    assert {"production": 4} == off.result.revisions
    assert (False, True) == ((await the_config(service)).enabled, (await the_config(service, "staging")).enabled)
    await service("EnableFlags", on)
    assert (await the_config(service)).enabled


async def test_an_operator_may_only_kill(service: Service) -> None:
    """In one environment, or wherever the flag is; not turn on, and not look."""
    kill = messages.KillFlagsRequest(project="shop", environment="production", keys=["checkout"])
    await service("KillFlags", kill, by="operator")
    assert (False, True) == ((await the_config(service)).enabled, (await the_config(service, "staging")).enabled)
    everywhere = messages.KillFlagsRequest(project="shop", everywhere=True, keys=["checkout"])
    reply = await service("KillFlags", everywhere, by="operator")

    assert ({"staging": 3}, False) == (reply.result.revisions, (await the_config(service, "staging")).enabled)
    enable = messages.EnableFlagsRequest(project="shop", environment="production", keys=["checkout"])
    get = messages.GetFlagRequest(project="shop", key="checkout")
    for method, request in (("EnableFlags", enable), ("GetFlag", get)):
        assert "PERMISSION_DENIED" == (await service.refused(method, request, by="operator"))[0]


async def test_a_kill_passes_what_stops_others(service: Service) -> None:
    """A freeze, and a definition that is damaged."""
    with behind_our_back(service.shop) as connection:
        connection.execute("UPDATE flag_config SET document = '{\"rules\": 7}' WHERE environment = 'production'")
        window = '{"from": "2020-01-01T00:00:00Z", "until": "2030-01-01T00:00:00Z", "reason": "sale"}'
        connection.execute("UPDATE environment SET protection_document = ?", [f'{{"freezeWindows": [{window}]}}'])
    add = messages.AddRuleRequest(project="shop", environment="staging", key="checkout", rule=rule("x"))
    assert "FAILED_PRECONDITION" == (await service.refused("AddRule", add))[0]
    kill = messages.KillFlagsRequest(project="shop", everywhere=True, keys=["checkout"])
    reply = await service("KillFlags", kill, by="operator")

    assert {"production": 3, "staging": 3} == reply.result.revisions
    told = await the_config(service)
    assert (False, True) == (told.enabled, "/rules" in told.problem)


@pytest.mark.parametrize("request_", [
    messages.KillFlagsRequest(project="shop", keys=["checkout"]),
    messages.KillFlagsRequest(project="shop", environment="production", everywhere=True, keys=["checkout"]),
    messages.KillFlagsRequest(project="shop", environment="production"),
])  # fmt: skip
async def test_a_kill_says_where_and_what(service: Service, request_: messages.KillFlagsRequest) -> None:
    """Nothing is guessed."""
    assert "INVALID_ARGUMENT" == (await service.refused("KillFlags", request_))[0]


async def test_rules_come_go_and_move(service: Service) -> None:
    """Each by its id; the others stay."""

    async def order() -> list[str]:
        return [each.id for each in (await the_config(service)).rules]

    first = messages.RulePosition(before="beta")
    await service(
        "AddRule", here(messages.AddRuleRequest, rule=rule("vip", condition=condition({"==": [1, 1]})), position=first)
    )
    assert ["vip", "beta"] == await order()
    await service("MoveRule", here(messages.MoveRuleRequest, rule_id="vip"))
    assert ["beta", "vip"] == await order()
    await service("ReorderRules", here(messages.ReorderRulesRequest, rule_ids=["vip", "beta"]))
    assert ["vip", "beta"] == await order()
    await service("RemoveRule", here(messages.RemoveRuleRequest, rule_id="vip"))
    assert ["beta"] == await order()


async def test_a_replaced_rule_keeps_who_is_in(service: Service) -> None:
    """Its salt stays, unless another one is asked for by name."""
    wider = rule("beta", share=messages.Share(parts=50_000))
    reply = await service("ReplaceRule", here(messages.ReplaceRuleRequest, rule=wider))
    share = reply.configs[0].rules[0].share
    assert (50_000, "checkout/beta/share") == (share.parts, share.salt)
    wider.share.salt = "another"
    status, message = await service.refused("ReplaceRule", here(messages.ReplaceRuleRequest, rule=wider))

    assert ("INVALID_ARGUMENT", True) == (status, "salt would change" in message)
    anew = await service("ReplaceRule", here(messages.ReplaceRuleRequest, rule=wider, rerandomise=True))
    assert "another" == anew.configs[0].rules[0].share.salt


@pytest.mark.parametrize(
    ("given", "path"),
    [
        (rule(""), "/rule/id"),
        (rule("x", share=messages.Share(parts=100_001)), "/rule/share/percent"),
        (messages.Rule(id="x"), "/rule"),
        (rule("x", condition=condition({"nonsense": 1})), "/rule/condition"),
    ],
)
async def test_a_wrong_rule_says_where(service: Service, given: messages.Rule, path: str) -> None:
    """By the path within the rule."""
    status, message = await service.refused("AddRule", here(messages.AddRuleRequest, rule=given))

    assert ("INVALID_ARGUMENT", True) == (status, f"{path}:" in message)


async def test_targets_come_and_go(service: Service) -> None:
    """One that is added leaves the variant that it had."""
    request = here(
        messages.SetTargetsRequest, add=[messages.Target(variant="off", keys=["ann", "bob"])], remove=["eve"]
    )
    reply = await service("SetTargets", request)

    assert {"off": ["ann", "bob"]} == {each.variant: list(each.keys) for each in reply.configs[0].targets}


async def test_the_rest_is_set_by_name(service: Service) -> None:
    """Off variant, default and prerequisites, each by itself; what is not there is refused."""
    put(service.shop, PutFlag(flag("base")))
    await service("SetOffVariant", here(messages.SetOffVariantRequest))
    split = messages.Split(weights=[messages.Weight(variant="on", weight=1), messages.Weight(variant="off", weight=3)])
    await service("SetDefaultRule", here(messages.SetDefaultRuleRequest, serve=messages.Serve(split=split)))
    wanted = messages.Prerequisite(flag_key="base", variants=["on"])
    await service("SetPrerequisites", here(messages.SetPrerequisitesRequest, prerequisites=[wanted]))
    config = await the_config(service)

    assert not config.HasField("off_variant")
    assert "checkout/default/split" == config.default_serve.split.salt
    assert [wanted] == list(config.prerequisites)
    strange = messages.Prerequisite(flag_key="none", variants=["on"])
    status, message = await service.refused(
        "SetPrerequisites", here(messages.SetPrerequisitesRequest, prerequisites=[strange])
    )
    assert ("INVALID_ARGUMENT", True) == (status, "flag 'none' does not exist" in message)


async def test_a_dry_run_changes_nothing(service: Service) -> None:
    """And tells what would happen."""
    before = stored(service.shop)
    request = here(messages.AddRuleRequest, rule=rule("x"), options=common.WriteOptions(dry_run=True))
    reply = await service("AddRule", request)

    assert common.OUTCOME_WOULD_APPLY == reply.result.outcome and reply.result.changes
    assert not reply.HasField("flag")
    assert before == stored(service.shop)


async def test_writes_can_be_simulated(service: Service) -> None:
    """As they would be sent."""
    proposal = simulation.SimulateRequest(project="shop")
    proposal.write.Pack(here(messages.ReplaceRuleRequest, rule=rule("beta", share=messages.Share(parts=90_000))))
    reply = await called(
        service.channel, "/flagstaff.v1.SimulationService/Simulate", proposal, simulation.SimulateResponse
    )

    assert (True, True) == (reply.applicable, reply.environments[0].flags[0].moved > 0)


async def test_a_protected_environment_asks_others_first(service: Service) -> None:
    """Edits become change requests and change nothing yet; a kill passes at once."""
    put(service.shop, UpdateEnvironment(approval_policy=ApprovalPolicy(approvals=1)))
    before = stored(service.shop)
    add = await service("AddRule", here(messages.AddRuleRequest, rule=rule("x")), by="editor")
    archive = messages.ArchiveFlagRequest(project="shop", key="checkout")
    archived = await service("ArchiveFlag", archive, by="editor")
    create = messages.CreateFlagRequest(project="shop", flag=messages.Flag(key="new"))
    created = await service("CreateFlag", create, by="editor")

    assert [common.OUTCOME_REQUESTED] * 3 == [each.result.outcome for each in (add, archived, created)]
    assert all(each.result.change_request and not each.HasField("flag") for each in (add, archived, created))
    assert before == stored(service.shop)
    kill = messages.KillFlagsRequest(project="shop", environment="production", keys=["checkout"])
    killed = await service("KillFlags", kill, by="operator")
    assert (common.OUTCOME_APPLIED, False) == (killed.result.outcome, (await the_config(service)).enabled)
