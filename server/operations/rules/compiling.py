"""Make ready what a rule waits for and asks for, and make a request of an event."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from server.core.actions.catalogue import CATALOGUE as ACTIONS
from server.core.actions.inputs import all_inputs, read_inputs
from server.core.actions.values import ENVIRONMENT, PROJECT, Asked, Causation, Shape
from server.core.announcing.catalogue import API_VERSION
from server.core.announcing.catalogue import CATALOGUE as EVENTS
from server.core.definitions.problems import pointer
from server.core.errors import InvalidDefinition, Problem
from server.core.json import Json
from server.core.rules.rules import PER_MINUTE_MAX, Act, Definition, Deliver, Wanted
from webhooks.errors import InvalidSetting, RenderFailed
from webhooks.filters import Compiled, Filter, compile_filter, filter_json, read_filter
from webhooks.templates import Template, compile_template
from webhooks.words import suggestion

ABOUT_RULES: Final = "rule."
"""Types that a rule answers only where it names them: what becomes of rules must not keep rules busy."""

NAME_CHARS_MAX: Final = 200
DESCRIPTION_CHARS_MAX: Final = 4_096
REASON_CHARS_MAX: Final = 1_000
DEPTH_MAX: Final = 8
TEXT: Final = "text/plain"
_MARKS: Final = ("{{", "{%")
_TEXT_SHAPES: Final = (Shape.TEXT, Shape.INSTANT)

Part: TypeAlias = Template | Json | list[Any] | dict[str, Any]
"""A value with templates where texts are to be made of the event."""


@dataclass(frozen=True, slots=True)
class Ready:
    """A rule that is ready to be asked."""

    definition: Definition
    filter: Compiled
    inputs: Mapping[str, Part] = field(default_factory=dict)
    reason: Part = ""

    def wants(self, envelope: Mapping[str, Any], tags: Sequence[str], owners: Sequence[str]) -> tuple[bool, str]:
        """Whether it answers an event; and why its expression gave no answer, which counts as no."""
        type_ = envelope["type"]
        if type_.startswith(ABOUT_RULES) and not self._names(type_):
            return False, ""
        match = self.filter.matches(envelope, tags, owners)
        return match.wanted, match.problem

    def _names(self, type_: str) -> bool:
        return type_ in self.filter.names or type_.startswith(self.filter.beginnings)


def make_ready(definition: Definition) -> Ready:
    """Compile a definition that was accepted. Errors: WebhookError for one that this version cannot read."""
    compiled = compile_filter(Filter(**_when(definition.when)))
    if isinstance(definition.then, Deliver):
        return Ready(definition, compiled)
    inputs = {name: _compile(value, pointer("/then/inputs", name)) for name, value in definition.then.inputs.items()}
    return Ready(definition, compiled, inputs, _compile(definition.then.reason, "/then/reason"))


def check_definition(definition: Definition, project: str) -> Ready:
    """Refuse what would never work: unknown events, actions and inputs, templates that fail on an example.

    Errors: InvalidDefinition with every problem.
    """
    problems = list(_plain_problems(definition))
    try:
        read_filter(filter_json(Filter(**_when(definition.when))), EVENTS, "/when")
    except InvalidSetting as error:
        problems += [Problem(each.path, each.message) for each in error.problems]
    if not definition.when.event_types:
        problems.append(Problem("/when/event_types", "name types of events, such as flag.stale or release.*"))
    if problems:
        raise InvalidDefinition(problems)
    try:
        ready = make_ready(definition)
    except InvalidSetting as error:
        raise InvalidDefinition([Problem(each.path, each.message) for each in error.problems]) from None
    if isinstance(definition.then, Act):
        problems += _act_problems(ready, definition.then, project)
    if problems:
        raise InvalidDefinition(problems)
    return ready


def asked_of(ready: Ready, envelope: Mapping[str, Any], rule_id: str) -> Asked:
    """What a rule asks for because of an event. Errors: InvalidDefinition; RenderFailed, which says where."""
    act = ready.definition.then
    assert isinstance(act, Act)
    type_ = ACTIONS[act.action]
    shapes = {each.name: each.shape for each in all_inputs(type_)}
    inputs: dict[str, Json] = {
        name: _shaped(part, _render(part, envelope, pointer("/then/inputs", name)), shapes.get(name))
        for name, part in ready.inputs.items()
    }
    inputs[PROJECT] = envelope["project"]
    if type_.in_environment is not False and ENVIRONMENT not in inputs and envelope.get("environment"):
        inputs[ENVIRONMENT] = envelope["environment"]
    read = read_inputs(type_, inputs)
    reason = str(_render(ready.reason, envelope, "/then/reason"))[:REASON_CHARS_MAX]
    return Asked(
        act.action,
        read,
        reason=reason or f"rule {ready.definition.name}: {envelope['type']}",
        cause=str(envelope["id"]),
        idempotency_key=f"{rule_id}:{envelope['id']}",
        causation=Causation(str(envelope["id"]), int(envelope.get("hops") or 0)),
    )


def example_of(type_: str, project: str) -> dict[str, Any]:
    """An event of a type as it may come."""
    return {
        "id": "evt_0000000000000000000000000000beef",
        "type": type_,
        "timestamp": "2026-11-25T09:00:00.000Z",
        "api_version": API_VERSION,
        "project": project,
        "environment": "production",
        "sequence": 1,
        "actor": {"type": "token", "id": "example", "name": "example"},
        "causation_id": None,
        "hops": 0,
        "links": {},
        "data": dict(EVENTS[type_].example),
    }


def wanted_types(ready: Ready) -> list[str]:
    """The types of events that a rule may answer."""
    return [
        name
        for name in EVENTS
        if ready.filter.wants_type(name) and not (name.startswith(ABOUT_RULES) and name not in ready.filter.names)
    ]


def _plain_problems(definition: Definition) -> Iterator[Problem]:
    if not 0 < len(definition.name) <= NAME_CHARS_MAX or "\0" in definition.name:
        yield Problem("/name", f"expected a text of 1 to {NAME_CHARS_MAX} characters")
    if len(definition.description) > DESCRIPTION_CHARS_MAX:
        yield Problem("/description", f"expected a text of at most {DESCRIPTION_CHARS_MAX} characters")
    if not 1 <= definition.per_minute <= PER_MINUTE_MAX:
        yield Problem("/per_minute", f"expected 1 to {PER_MINUTE_MAX}, not {definition.per_minute}")
    then = definition.then
    if isinstance(then, Deliver):
        if not then.endpoint_id:
            yield Problem("/then/endpoint_id", "name an endpoint, such as ep_1a2b3c")
        return
    type_ = ACTIONS.get(then.action)
    if type_ is None:
        yield Problem(
            "/then/action",
            f"there is no action {then.action[:80]!r}{suggestion(then.action, ACTIONS) or ''}; ListActions lists them",
        )
    elif not type_.writes:
        yield Problem("/then/action", f"{then.action} changes nothing, so a rule has no use for it")
    if PROJECT in then.inputs:
        yield Problem("/then/inputs/project", "a rule acts in its own project; leave it out")
    if len(then.reason) > REASON_CHARS_MAX:
        yield Problem("/then/reason", f"expected a text of at most {REASON_CHARS_MAX} characters")


def _act_problems(ready: Ready, act: Act, project: str) -> list[Problem]:
    """What goes wrong on an example of each type of event that the rule answers."""
    found: dict[tuple[str, str], list[str]] = {}
    for type_ in wanted_types(ready):
        try:
            asked_of(ready, example_of(type_, project), "rule")
        except InvalidDefinition as error:
            for each in error.problems:
                found.setdefault((f"/then/inputs{each.path}", each.message), []).append(type_)
        except RenderFailed as error:
            path, _, message = str(error).partition(": ")
            found.setdefault((path, message), []).append(type_)
    # What an example holds in a template's place need not be what comes: only what is written is held against it.
    templates = {pointer("/then/inputs", name) for name, part in ready.inputs.items() if _has_template(part)}
    return [
        Problem(path, f"{_listed(types)}: {message}")
        for (path, message), types in found.items()
        if path not in templates or ("needs it" not in message and "expected" not in message)
    ]


def _listed(types: Sequence[str]) -> str:
    return types[0] if len(types) == 1 else f"{types[0]} and {len(types) - 1} more types"


def _when(when: Wanted) -> dict[str, Any]:
    return {
        "event_types": when.event_types,
        "environments": when.environments,
        "tags": when.tags,
        "owners": when.owners,
        "expression": when.expression,
    }


def _compile(value: Json, path: str, depth: int = 0) -> Part:
    if depth > DEPTH_MAX:
        raise InvalidSetting.at(path, f"nested deeper than {DEPTH_MAX}")
    if isinstance(value, str):
        return compile_template(value, TEXT, path) if any(mark in value for mark in _MARKS) else value
    if isinstance(value, list):
        return [_compile(each, f"{path}/{place}", depth + 1) for place, each in enumerate(value)]
    if isinstance(value, Mapping):
        return {name: _compile(each, pointer(path, name), depth + 1) for name, each in value.items()}
    return value


def _has_template(part: Part) -> bool:
    if isinstance(part, list):
        return any(_has_template(each) for each in part)
    if isinstance(part, dict):
        return any(_has_template(each) for each in part.values())
    return isinstance(part, Template)


def _render(part: Part, envelope: Mapping[str, Any], path: str) -> Json:
    if isinstance(part, Template):
        try:
            return part.render(envelope).decode()
        except RenderFailed as error:
            raise RenderFailed(f"{path}: {error}") from None
    if isinstance(part, list):
        return [_render(each, envelope, f"{path}/{place}") for place, each in enumerate(part)]
    if isinstance(part, dict):
        return {name: _render(each, envelope, pointer(path, name)) for name, each in part.items()}
    return part


def _shaped(part: Part, value: Json, shape: Shape | None) -> Json:
    """What a template made, as a value of its input's shape where it is one."""
    if not isinstance(part, Template) or not isinstance(value, str) or shape in (None, *_TEXT_SHAPES):
        return value
    try:
        shaped: Json = json.loads(value)
    except (ValueError, RecursionError):
        return value
    return shaped
