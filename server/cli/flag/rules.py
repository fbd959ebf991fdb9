"""The commands `flagstaff flag rule ...`: who gets what, by conditions and shares."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from server.cli.flag import arguments
from server.cli.flag.arguments import Key, read_config, stub
from server.cli.flag.configs import BucketBy, Rerandomise, Split
from server.cli.instants import read_instant
from server.cli.options import given, group
from server.cli.remote import Remote, remote_write
from server.core.errors import NotFound

if TYPE_CHECKING:
    from protos.flagstaff.v1 import flags_pb2 as messages

HELP: Final = """Change a flag's rules in one environment; they are asked in their order, after individual targets.

\b
  flagstaff flag rule add new-ui beta --segment beta --share 10% --serve on
  flagstaff flag rule update new-ui beta --share 25%
  flagstaff flag rule move new-ui beta --before everybody
  flagstaff flag rule remove new-ui beta
"""

ADD_HELP: Final = """Add a rule, at the end unless it is said where.

\b
  flagstaff flag rule add new-ui beta --segment beta --serve on
  flagstaff flag rule add new-ui eu --if '{"in": [{"var": "country"}, ["DE", "FR"]]}' --serve on --before beta
  flagstaff flag rule add banner half --share 50% --outside default --split welcome=1,sale=1
  flagstaff flag rule add banner sale --serve sale --from 2026-11-27T00:00+01:00 --until 2026-12-01T00:00+01:00
"""

UPDATE_HELP: Final = """Change a rule where it stands; what is not given stays, and so does who is in its share.

\b
  flagstaff flag rule update new-ui beta --share 25%
  flagstaff flag rule update new-ui beta --share none --serve on --description "Launched"
  flagstaff flag rule update new-ui beta --share 1% --then 10%@2026-12-01T09:00Z --then 100%@2026-12-02T09:00Z

Steps by the clock are part of the flag: all who evaluate it, here and in their own process, take them at that very
second, also while no server runs. A new --share takes steps away that are not given again.
"""

REMOVE_HELP: Final = """Take a rule away.

\b
  flagstaff flag rule remove new-ui beta
  flagstaff flag rule remove new-ui beta --environment staging --dry-run
"""

MOVE_HELP: Final = """Put a rule elsewhere among the others; at the end when it is not said where.

\b
  flagstaff flag rule move new-ui beta --before everybody
  flagstaff flag rule move new-ui beta
"""

ORDER_HELP: Final = """Put all rules into an order; each of them must be named once.

\b
  flagstaff flag rule order new-ui staff beta everybody
  flagstaff flag rule order new-ui staff beta everybody --environment staging
"""

app = group(HELP)


class OutsideName(StrEnum):
    """What happens outside of a share, as an option's choices."""

    NEXT = "next"
    DEFAULT = "default"


RuleId = Annotated[str, typer.Argument(metavar="RULE", help="The rule's id.")]
Condition = Annotated[str | None, given("--if", "Who is meant: a condition in JsonLogic.")]
Segments = Annotated[list[str] | None, given("--segment", "Who is meant: units of this segment. Repeatable: of any.")]
Share = Annotated[str | None, given("--share", "How many of them, such as 12.5%; `none` lets in all.")]
Then = Annotated[
    list[str] | None,
    given("--then", "What the share becomes by the clock, such as 25%@2026-12-01T09:00Z. Repeatable; `none`: stays."),
]
From = Annotated[str | None, given("--from", "When the rule begins; `none`: it has begun.")]
Until = Annotated[str | None, given("--until", "When it ends; `none`: never.")]
Serves = Annotated[str | None, given("--serve", "The variant that they get.")]
OutsideShare = Annotated[
    OutsideName | None, given("--outside", "What those outside of the share get: the next rule, or the default.")
]
Description = Annotated[str | None, given("--description", "What it is for.")]
Before = Annotated[str | None, given("--before", "The rule that comes next.")]
After = Annotated[str | None, given("--after", "The rule that it follows.")]


@app.command("add", help=ADD_HELP)
@remote_write()
def add(
    server: Remote,
    key: Key,
    rule_id: RuleId,
    *,
    condition: Condition = None,
    segment: Segments = None,
    share: Share = None,
    then: Then = None,
    serve: Serves = None,
    split: Split = None,
    bucket_by: BucketBy = None,
    outside: OutsideShare = None,
    starts_at: From = None,
    ends_at: Until = None,
    description: Description = None,
    before: Before = None,
    after: After = None,
) -> None:
    """Add it."""
    from protos.flagstaff.v1 import flags_pb2 as messages

    rule = messages.Rule(id=rule_id)
    _say_who(rule, condition, segment)
    _say_what(rule, share, arguments.serve(serve, split, bucket_by), bucket_by)
    _say_when(rule, then, starts_at, ends_at)
    _say_more(rule, outside, description)
    if not rule.HasField("serve"):
        raise typer.BadParameter("a rule serves something: give --serve or --split")
    request = messages.AddRuleRequest(
        project=server.project,
        environment=server.environment,
        key=key,
        rule=rule,
        position=arguments.position(before, after),
        options=server.options(),
    )
    server.done(stub(server).AddRule(request), f"rule {rule_id} of {key} added")


@app.command("update", help=UPDATE_HELP)
@remote_write()
def update(
    server: Remote,
    key: Key,
    rule_id: RuleId,
    *,
    condition: Condition = None,
    segment: Segments = None,
    share: Share = None,
    then: Then = None,
    serve: Serves = None,
    split: Split = None,
    bucket_by: BucketBy = None,
    outside: OutsideShare = None,
    starts_at: From = None,
    ends_at: Until = None,
    description: Description = None,
    rerandomise: Rerandomise = False,
) -> None:
    """Read it, change what is given, and put it back unless somebody else was quicker."""
    from protos.flagstaff.v1 import flags_pb2 as messages

    config = read_config(server, key)
    rule = next((each for each in config.rules if each.id == rule_id), None)
    if rule is None:
        known = ", ".join(each.id for each in config.rules) or "none"
        raise NotFound(f"rule {rule_id!r} is not in flag {key!r}; it has: {known}")
    _say_who(rule, condition, segment)
    _say_what(rule, share, arguments.serve(serve, split, bucket_by), bucket_by)
    _say_when(rule, then, starts_at, ends_at)
    _say_more(rule, outside, description)
    request = messages.ReplaceRuleRequest(
        project=server.project,
        environment=server.environment,
        key=key,
        rule=rule,
        rerandomise=rerandomise,
        options=server.options(server.asked.expected_version or config.version),
    )
    server.done(stub(server).ReplaceRule(request), f"rule {rule_id} of {key} updated")


@app.command("remove", help=REMOVE_HELP)
@remote_write()
def remove(server: Remote, key: Key, rule_id: RuleId) -> None:
    """Take it away."""
    from protos.flagstaff.v1 import flags_pb2 as messages

    request = messages.RemoveRuleRequest(
        project=server.project, environment=server.environment, key=key, rule_id=rule_id, options=server.options()
    )
    server.done(stub(server).RemoveRule(request), f"rule {rule_id} of {key} removed")


@app.command("move", help=MOVE_HELP)
@remote_write()
def move(server: Remote, key: Key, rule_id: RuleId, *, before: Before = None, after: After = None) -> None:
    """Put it elsewhere."""
    from protos.flagstaff.v1 import flags_pb2 as messages

    request = messages.MoveRuleRequest(
        project=server.project,
        environment=server.environment,
        key=key,
        rule_id=rule_id,
        position=arguments.position(before, after),
        options=server.options(),
    )
    server.done(stub(server).MoveRule(request), f"rule {rule_id} of {key} moved")


@app.command("order", help=ORDER_HELP)
@remote_write()
def order(
    server: Remote, key: Key, rule_ids: Annotated[list[str], typer.Argument(metavar="RULE...", help="Their ids.")]
) -> None:
    """Order them."""
    from protos.flagstaff.v1 import flags_pb2 as messages

    request = messages.ReorderRulesRequest(
        project=server.project, environment=server.environment, key=key, rule_ids=rule_ids, options=server.options()
    )
    server.done(stub(server).ReorderRules(request), f"rules of {key} ordered")


def _say_who(rule: "messages.Rule", condition: str | None, segments: list[str] | None) -> None:
    if condition is not None and segments:
        raise typer.BadParameter('--if and --segment are given; write segments into the condition as {"$ref": KEY}')
    if condition is not None:
        rule.condition.CopyFrom(arguments.json_rule(condition))
    elif segments:
        rule.condition.Clear()
        rule.condition.struct_value.update(_any_of(segments))


def _any_of(segments: list[str]) -> dict[str, Any]:
    named = [{"$ref": key} for key in segments]
    return named[0] if len(named) == 1 else {"or": named}


def _say_what(rule: "messages.Rule", share: str | None, served: "messages.Serve | None", bucket_by: str | None) -> None:
    if share is not None:
        salt, unit = rule.share.salt, bucket_by or rule.share.bucket_by
        rule.ClearField("share")
        wanted = arguments.share(share, unit)
        if wanted is not None:
            # Who is in stays in.
            wanted.salt = salt
            rule.share.CopyFrom(wanted)
    if served is not None:
        rule.serve.CopyFrom(served)


def _say_when(rule: "messages.Rule", then: list[str] | None, starts_at: str | None, ends_at: str | None) -> None:
    if then is not None and not rule.HasField("share"):
        raise typer.BadParameter("--then says what a share becomes, and the rule has none: give --share, such as 1%")
    if then is not None:
        del rule.share.steps[:]
        rule.share.steps.extend(arguments.share_steps(then))
    for name, option, text in (("starts_at", "--from", starts_at), ("ends_at", "--until", ends_at)):
        if text == arguments.NONE:
            rule.ClearField(name)  # type: ignore[arg-type]  # One of two names of fields.
        elif text is not None:
            getattr(rule, name).FromDatetime(read_instant(text, option))


def _say_more(rule: "messages.Rule", outside: OutsideName | None, description: str | None) -> None:
    from protos.flagstaff.v1 import flags_pb2 as messages

    if outside is not None:
        rule.outside = messages.Outside.Value(f"OUTSIDE_{outside.name}")
    if description is not None:
        rule.description = description
