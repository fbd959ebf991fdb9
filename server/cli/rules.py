"""The commands `flagstaff rule ...`: what is done by itself when something happens."""

import json
from typing import TYPE_CHECKING, Annotated, Final

import typer

from server.cli.files import read_file
from server.cli.flag.arguments import json_or_text, named_values
from server.cli.options import given, group
from server.cli.output import EXIT_REFUSED, print_table
from server.cli.remote import ABOUT_SERVERS, Place, Remote, remote_read, remote_write
from server.cli.rule_printing import does_text, on_text, print_tried, state_text
from server.core.errors import InvalidRequest

if TYPE_CHECKING:
    from protos.flagstaff.v1 import rules_pb2 as messages
    from protos.flagstaff.v1.rules_pb2_grpc import RuleServiceStub

HELP: Final = f"""If this happens, then that is done: by an action, or by a delivery to an endpoint.

A rule acts as who wrote it last, and never does what they may not. {ABOUT_SERVERS}

\b
  flagstaff rule create "Tell of stale flags" --on flag.stale --deliver ep_1a2b3c
  flagstaff rule create "No breaches" --on guard.breached --do kill_flag --input flag_key="{{{{ data.flag_key }}}}"
  flagstaff rule try rule_1a2b3c --event evt_4d5e6f
  flagstaff rule runs rule_1a2b3c
"""

CREATE_HELP: Final = """Make a rule; it answers what happens from then on.

Inputs may be Liquid templates over the event, such as {{ data.flag_key }}; flagstaff event types NAME shows its fields.

\b
  flagstaff rule create "Tell of stale flags" --on flag.potentially_stale --on flag.stale --deliver ep_1a2b3c
  flagstaff rule create "No old banners" --on flag.stale --do archive_flag --input flag_key="{{ data.flag_key }}"
  flagstaff rule create --preset stale-notice --deliver ep_1a2b3c
"""

UPDATE_HELP: Final = """Change what a rule answers or does; what is not given stays. It acts as you from then on.

\b
  flagstaff rule update rule_1a2b3c --on flag.stale --where "data.days_since_change > `90`"
  flagstaff rule update rule_1a2b3c --per-minute 10 --expected-version 3
"""

LIST_HELP: Final = """List rules.

\b
  flagstaff rule list
  flagstaff rule list --project shop --json
"""

SHOW_HELP: Final = """Show one rule, and how it does.

\b
  flagstaff rule show rule_1a2b3c
  flagstaff rule show rule_1a2b3c --json
"""

DELETE_HELP: Final = """Delete a rule, and what it did; the audit trail keeps that.

\b
  flagstaff rule delete rule_1a2b3c
  flagstaff rule delete rule_1a2b3c --dry-run
"""

ENABLE_HELP: Final = """Let a rule answer what happens from now on.

\b
  flagstaff rule enable rule_1a2b3c
  flagstaff rule enable rule_1a2b3c --reason "Its endpoint is back"
"""

DISABLE_HELP: Final = """Let a rule answer nothing any more; what waits is dropped.

\b
  flagstaff rule disable rule_1a2b3c
  flagstaff rule disable rule_1a2b3c --reason "It is too eager"
"""

TRY_HELP: Final = """Say what a rule would do because of an event; nothing is done. Ends with 1 where that is nothing.

\b
  flagstaff rule try rule_1a2b3c --event evt_4d5e6f
  flagstaff rule try rule_1a2b3c --event-file event.json          with "type" and "data", or - for standard input
"""

RUNS_HELP: Final = """List what a rule does and has done, the newest event first.

\b
  flagstaff rule runs rule_1a2b3c
  flagstaff rule runs rule_1a2b3c --limit 500 --json
"""

PRESETS_HELP: Final = """List rules to begin with.

\b
  flagstaff rule presets
  flagstaff rule presets --json
"""

app = group(HELP)

Id = Annotated[str, typer.Argument(metavar="ID", help="The rule's id.")]
On = Annotated[list[str] | None, given("--on", "A type of event, such as flag.stale or release.*. Repeatable.")]
In = Annotated[list[str] | None, given("--in", "An environment where it happens; else any. Repeatable.")]
Tags = Annotated[list[str] | None, given("--tag", "The flag has this tag. Repeatable: one of them.")]
Owners = Annotated[list[str] | None, given("--owner", "The flag is owned by them. Repeatable: one of them.")]
Where = Annotated[str | None, given("--where", "JMESPath over the event, such as data.to_percent > `50`.")]
Do = Annotated[str | None, given("--do", "The action that is done, as ListActions has them.")]
Inputs = Annotated[list[str] | None, given("--input", "NAME=VALUE of the action, JSON or a text. Repeatable.")]
Because = Annotated[str | None, given("--because", "The reason in the audit trail; may be a template.")]
To = Annotated[str | None, given("--deliver", "The endpoint that gets the event.")]
Description = Annotated[str | None, given("--description", "What it is for.")]
PerMinute = Annotated[int | None, given("--per-minute", "Runs that are begun in a minute; further ones wait.", min=1)]


@app.command("create", help=CREATE_HELP)
@remote_write(Place.PROJECT, versioned=False)
def create(
    server: Remote,
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="What it is called.")] = "",
    *,
    on: On = None,
    in_: In = None,
    tag: Tags = None,
    owner: Owners = None,
    where: Where = None,
    do: Do = None,
    input: Inputs = None,
    because: Because = None,
    deliver: To = None,
    description: Description = None,
    per_minute: PerMinute = None,
    preset: Annotated[str, given("--preset", "Begin with one of `flagstaff rule presets`.")] = "",
    disabled: Annotated[bool, given("--disabled", "It does nothing until it is enabled.")] = False,
) -> None:
    """Make it."""
    from protos.flagstaff.v1 import rules_pb2 as messages

    rule = messages.AutomationRule(name=name, description=description or "", per_minute=per_minute or 0)
    _set_when(rule, on, in_, tag, owner, where)
    _set_then(rule, do, input, because, deliver)
    request = messages.CreateRuleRequest(
        project=server.project, rule=rule, preset=preset, disabled=disabled, options=server.options()
    )
    reply = _stub(server).CreateRule(request)
    server.done(reply, f"rule {reply.rule.id} is there")


@app.command("update", help=UPDATE_HELP)
@remote_write(Place.PROJECT)
def update(
    server: Remote,
    id: Id,
    *,
    name: Annotated[str | None, given("--name", "What it is called.")] = None,
    on: On = None,
    in_: In = None,
    tag: Tags = None,
    owner: Owners = None,
    where: Where = None,
    do: Do = None,
    input: Inputs = None,
    because: Because = None,
    deliver: To = None,
    description: Description = None,
    per_minute: PerMinute = None,
) -> None:
    """Set what is given; of what it answers and of what it does, the whole."""
    from protos.flagstaff.v1 import rules_pb2 as messages

    rule = messages.AutomationRule(id=id, name=name or "", description=description or "", per_minute=per_minute or 0)
    _set_when(rule, on, in_, tag, owner, where)
    _set_then(rule, do, input, because, deliver)
    request = messages.UpdateRuleRequest(project=server.project, rule=rule, options=server.options())
    said = {"name": name, "description": description, "per_minute": per_minute}
    request.update_mask.paths.extend(field for field, value in said.items() if value is not None)
    if any(each is not None for each in (on, in_, tag, owner, where)):
        request.update_mask.paths.append("when")
    if rule.WhichOneof("then") is not None:
        request.update_mask.paths.append("then")
    if not request.update_mask.paths:
        raise typer.BadParameter("nothing is given that could be changed")
    server.done(_stub(server).UpdateRule(request), f"rule {id} is changed")


@app.command("list", help=LIST_HELP)
@remote_read(Place.PROJECT)
def list_rules(server: Remote) -> None:
    """Read as many pages as it takes and list them."""
    from protos.flagstaff.v1 import rules_pb2 as messages

    whole = messages.ListRulesResponse()
    request = messages.ListRulesRequest(project=server.project, page_size=500)
    while True:
        page = _stub(server).ListRules(request)
        whole.rules.extend(page.rules)
        whole.total_size, request.page_token = page.total_size, page.next_page_token
        if not request.page_token:
            break
    if not server.prints(whole):
        rows = [[each.id, each.name, on_text(each), does_text(each), state_text(each)] for each in whole.rules]
        print_table(("id", "name", "on", "does", "state"), rows)
        typer.echo(f"\n{len(rows)} rule{'s' * (len(rows) != 1)} in {server.project}")


@app.command("show", help=SHOW_HELP)
@remote_read(Place.PROJECT)
def show(server: Remote, id: Id) -> None:
    """Ask for one rule and tell all of it."""
    from protos.flagstaff.v1 import rules_pb2 as messages

    reply = _stub(server).GetRule(messages.GetRuleRequest(project=server.project, id=id))
    if server.prints(reply):
        return
    rule = reply.rule
    typer.echo(f"{rule.id}: {rule.name}, {state_text(rule)}, version {rule.version}")
    if rule.description:
        typer.echo(f"  {rule.description}")
    typer.echo(f"  on {on_text(rule)}")
    for what, values in (("in", rule.when.environments), ("tag", rule.when.tags), ("owner", rule.when.owners)):
        if values:
            typer.echo(f"  {what} {', '.join(values)}")
    if rule.when.expression:
        typer.echo(f"  where {rule.when.expression}")
    typer.echo(f"  does {does_text(rule)}")
    typer.echo(f"  acts as {rule.author}; {rule.waiting} runs wait")


@app.command("delete", help=DELETE_HELP)
@remote_write(Place.PROJECT)
def delete(server: Remote, id: Id) -> None:
    """Take it away."""
    from protos.flagstaff.v1 import rules_pb2 as messages

    request = messages.DeleteRuleRequest(project=server.project, id=id, options=server.options())
    server.done(_stub(server).DeleteRule(request), f"rule {id} is gone")


@app.command("enable", help=ENABLE_HELP)
@remote_write(Place.PROJECT)
def enable(server: Remote, id: Id) -> None:
    """Let it answer."""
    from protos.flagstaff.v1 import rules_pb2 as messages

    request = messages.EnableRuleRequest(project=server.project, id=id, options=server.options())
    server.done(_stub(server).EnableRule(request), f"rule {id} is enabled")


@app.command("disable", help=DISABLE_HELP)
@remote_write(Place.PROJECT)
def disable(server: Remote, id: Id) -> None:
    """Let it rest."""
    from protos.flagstaff.v1 import rules_pb2 as messages

    request = messages.DisableRuleRequest(project=server.project, id=id, options=server.options())
    server.done(_stub(server).DisableRule(request), f"rule {id} is disabled")


@app.command("try", help=TRY_HELP)
@remote_read(Place.PROJECT)
def try_rule(
    server: Remote,
    id: Id,
    *,
    event: Annotated[str, given("--event", "An event of the project, by its id.")] = "",
    event_file: Annotated[str, given("--event-file", "A file with an event as it is told, or - .")] = "",
) -> None:
    """Ask what it would do."""
    from protos.flagstaff.v1 import rules_pb2 as messages

    request = messages.TryRuleRequest(project=server.project, id=id, event_id=event)
    if event_file:
        try:
            request.event.update(json.loads(read_file(event_file)))
        except (ValueError, TypeError, AttributeError):
            raise InvalidRequest(f"{event_file} is not a JSON object") from None
    reply = _stub(server).TryRule(request)
    if not server.prints(reply):
        print_tried(reply)
    if not reply.wanted or reply.problem:
        raise typer.Exit(EXIT_REFUSED)


@app.command("runs", help=RUNS_HELP)
@remote_read(Place.PROJECT)
def runs(
    server: Remote, id: Id, *, limit: Annotated[int, given("--limit", "Runs to list at most.", min=1)] = 100
) -> None:
    """Read as many pages as it takes and list them."""
    from protos.flagstaff.v1 import rules_pb2 as messages
    from server.cli.documents import enum_name

    whole = messages.ListRuleRunsResponse()
    request = messages.ListRuleRunsRequest(project=server.project, id=id)
    while True:
        request.page_size = min(500, limit - len(whole.runs))
        page = _stub(server).ListRuleRuns(request)
        whole.runs.extend(page.runs)
        request.page_token = page.next_page_token
        if not request.page_token or len(whole.runs) >= limit:
            break
    if server.prints(whole):
        return
    rows = [
        [
            str(each.sequence),
            each.event_type,
            each.event_id,
            enum_name(messages.RunState.DESCRIPTOR, each.state),
            str(each.attempts),
            each.result,
        ]
        for each in whole.runs
    ]
    print_table(("event", "type", "id", "state", "attempts", "result"), rows)


@app.command("presets", help=PRESETS_HELP)
@remote_read(Place.SERVER)
def presets(server: Remote) -> None:
    """List them."""
    from protos.flagstaff.v1 import rules_pb2 as messages

    reply = _stub(server).ListRulePresets(messages.ListRulePresetsRequest())
    if not server.prints(reply):
        print_table(
            ("preset", "on", "does", "what for"),
            [[each.key, on_text(each.rule), does_text(each.rule), each.description] for each in reply.presets],
        )


def _set_when(
    rule: "messages.AutomationRule",
    on: list[str] | None,
    environments: list[str] | None,
    tags: list[str] | None,
    owners: list[str] | None,
    where: str | None,
) -> None:
    rule.when.event_types.extend(on or ())
    rule.when.environments.extend(environments or ())
    rule.when.tags.extend(tags or ())
    rule.when.owners.extend(owners or ())
    rule.when.expression = where or ""


def _set_then(
    rule: "messages.AutomationRule", do: str | None, inputs: list[str] | None, because: str | None, deliver: str | None
) -> None:
    if deliver is not None:
        if do is not None or inputs or because:
            raise typer.BadParameter("--deliver and --do are given; give one of them")
        rule.deliver.endpoint_id = deliver
    elif do is not None:
        rule.act.action, rule.act.reason = do, because or ""
        values = named_values(inputs or (), "NAME=VALUE, such as flag_key=new-ui")
        rule.act.inputs.update({name: json_or_text(text) for name, text in values.items()})
    elif inputs or because:
        raise typer.BadParameter("--input and --because belong to an action; name it with --do")


def _stub(server: Remote) -> "RuleServiceStub":
    from protos.flagstaff.v1.rules_pb2_grpc import RuleServiceStub

    return RuleServiceStub(server.channel)
