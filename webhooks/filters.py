"""Say which events an endpoint wants.

A filter is read where it is written and compiled once. Its parts must all hold; a part that is empty asks for nothing,
and of the values of one part any will do.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from webhooks import limits
from webhooks.errors import EvaluationFailed, InvalidSetting, Problem
from webhooks.expressions import Expression, compile_expression, is_true
from webhooks.words import suggestion

ALL: Final = "*"
REST: Final = ".*"
ONLY_BY_NAME: Final = "webhook."
"""Types that only those get who name them, whole or as `webhook.*`: what happens to endpoints is not told to all."""

LISTS: Final = ("event_types", "environments", "tags", "owners")
EXPRESSION: Final = "expression"
FIELDS: Final = (*LISTS, EXPRESSION)
SHOWN_CHARS: Final = 80


@dataclass(frozen=True, slots=True)
class Filter:
    """What somebody wants; nothing said: every event."""

    event_types: tuple[str, ...] = ()
    """Names, `flag.*` for all that begin so, `*` for all."""

    environments: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    owners: tuple[str, ...] = ()
    expression: str = ""
    """JMESPath over the envelope."""


@dataclass(frozen=True, slots=True)
class Match:
    """Whether an event is wanted; a problem says why its expression gave no answer, which counts as no."""

    wanted: bool
    problem: str = ""


NO: Final = Match(False)
YES: Final = Match(True)


@dataclass(frozen=True, slots=True)
class Compiled:
    """A filter that is ready to be asked."""

    filter: Filter
    wants_all: bool
    names: frozenset[str]
    beginnings: tuple[str, ...]
    """With their dot: `flag.`."""

    environments: frozenset[str]
    tags: frozenset[str]
    owners: frozenset[str]
    expression: Expression | None

    def matches(self, envelope: Mapping[str, Any], tags: Iterable[str] = (), owners: Iterable[str] = ()) -> Match:
        """Whether an event is wanted, given the tags and owners of what it is about."""
        if not (
            self.wants_type(envelope["type"])
            and (not self.environments or not self.environments.isdisjoint(places(envelope)))
            and (not self.tags or not self.tags.isdisjoint(tags))
            and (not self.owners or not self.owners.isdisjoint(owners))
        ):
            return NO
        if self.expression is None:
            return YES
        try:
            return YES if is_true(self.expression.value(envelope)) else NO
        except EvaluationFailed as error:
            return Match(False, f"expression: {error}")

    def wants_type(self, type_: str) -> bool:
        """Whether events of a type may be wanted at all."""
        if type_ in self.names or type_.startswith(self.beginnings):
            return True
        return self.wants_all and not type_.startswith(ONLY_BY_NAME)


def places(envelope: Mapping[str, Any]) -> set[str]:
    """The environments that an event is about: its own, or those that its data name where it is about several."""
    environment = envelope.get("environment")
    if environment:
        return {environment}
    data = envelope.get("data") or {}
    flags = (str(each).partition("/")[0] for each in data.get("flags") or ())
    return {*map(str, data.get("environments") or ()), *flags}


def read_filter(given: object, known_types: Collection[str], path: str = "/filter") -> Filter:
    """A filter from plain JSON: event_types, environments, tags and owners are lists of texts, expression a text.

    Errors: InvalidSetting with every problem: types that `known_types` has not, values that are no texts, expressions
    that are no JMESPath.
    """
    if not isinstance(given, Mapping):
        raise InvalidSetting.at(path, 'expected an object such as {"event_types": ["flag.*"]}')
    problems = [
        Problem(path, f"a filter has no {str(name)[:SHOWN_CHARS]!r}{suggestion(str(name), FIELDS)}")
        for name in given
        if name not in FIELDS
    ]
    lists = {name: _texts(given.get(name), f"{path}/{name}", problems) for name in LISTS}
    problems += _type_problems(given.get("event_types"), known_types, f"{path}/event_types")
    expression = given.get(EXPRESSION)
    if expression is not None and not isinstance(expression, str):
        problems.append(Problem(f"{path}/{EXPRESSION}", "expected a text such as data.to_percent > `50`"))
        expression = None
    if expression:
        try:
            compile_expression(expression, f"{path}/{EXPRESSION}")
        except InvalidSetting as error:
            problems += error.problems
    if problems:
        raise InvalidSetting(problems)
    return Filter(**lists, expression=expression or "")


def filter_json(filter_: Filter) -> dict[str, Any]:
    """A filter as it is kept and shown; `read_filter` reads it again."""
    return {**{name: list(getattr(filter_, name)) for name in LISTS}, EXPRESSION: filter_.expression}


def compile_filter(filter_: Filter) -> Compiled:
    """A filter that is ready to be asked. Errors: InvalidSetting for an expression that is no JMESPath."""
    types = filter_.event_types
    return Compiled(
        filter=filter_,
        wants_all=not types or ALL in types,
        names=frozenset(each for each in types if not each.endswith(ALL)),
        beginnings=tuple(each.removesuffix(ALL) for each in types if each.endswith(REST)),
        environments=frozenset(filter_.environments),
        tags=frozenset(filter_.tags),
        owners=frozenset(filter_.owners),
        expression=compile_expression(filter_.expression, f"/filter/{EXPRESSION}") if filter_.expression else None,
    )


def _texts(given: Any, path: str, problems: list[Problem]) -> tuple[str, ...]:
    """A list of texts, each once; what is wrong with it goes to the problems."""
    if given is None:
        return ()
    if not isinstance(given, list | tuple):
        problems.append(Problem(path, 'expected a list of texts such as ["x"]'))
        return ()
    if len(given) > limits.FILTER_VALUES_MAX:
        problems.append(Problem(path, f"{len(given)} entries, at most {limits.FILTER_VALUES_MAX} are allowed"))
        return ()
    most = limits.FILTER_VALUE_CHARS_MAX
    kept: list[str] = []
    for place, each in enumerate(given):
        if not isinstance(each, str) or not 0 < len(each) <= most:
            problems.append(Problem(f"{path}/{place}", f"expected a text of 1 to {most} characters"))
        else:
            kept.append(each)
    return tuple(dict.fromkeys(kept))


def _type_problems(types: Any, known: Collection[str], path: str) -> Iterator[Problem]:
    for place, type_ in enumerate(types if isinstance(types, list | tuple) else ()):
        if not isinstance(type_, str) or type_ == ALL or type_ in known:
            continue
        beginning = type_.removesuffix(ALL)
        if type_.endswith(REST) and any(name.startswith(beginning) for name in known):
            continue
        groups = {f"{name.partition('.')[0]}{REST}" for name in known}
        close = suggestion(type_, groups if type_.endswith(ALL) else known)
        message = f"no event is called {type_[:SHOWN_CHARS]!r}{close or '; `flag.*` stands for all that begin so'}"
        yield Problem(f"{path}/{place}", message)
