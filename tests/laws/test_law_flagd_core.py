"""Where JsonLogic is one language, openfeature-flagd-core answers as the reference does.

Its known differences are corners with names; a run that comes through one is not compared.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given

from server.core.environments import Bucketing
from server.core.evaluation.compiler import compile_rule
from server.core.json import Json
from tests import strategies
from tests.laws.agreement import same_value
from tests.laws.corners import CORNERS, Observer
from tests.laws.sizes import tried
from tests.oracle import javascript as js
from tests.vectors.tables import cases, table

Ask = Callable[[Json, dict[str, Any]], dict[str, Any]]
WORKER = Path(__file__).parent / "flagd_core_worker.py"
RECORD = Path(__file__).parents[2] / "server" / "decisions" / "0002-jsonlogic-corners.md"
NOW = strategies.TIMESTAMP


@pytest.fixture(scope="module")
def ask() -> Iterator[Ask]:
    """Ask the other implementation, in a process of its own."""
    pytest.importorskip("json_logic")
    with subprocess.Popen([sys.executable, WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdin is not None
        assert worker.stdout is not None
        to_worker, from_worker = worker.stdin, worker.stdout

        def question(rule: Json, context: dict[str, Any]) -> dict[str, Any]:
            to_worker.write(json.dumps({"rule": rule, "context": context, "flag_key": "flag", "now": NOW}) + "\n")
            to_worker.flush()
            answer: dict[str, Any] = json.loads(from_worker.readline())
            return answer

        yield question


@tried(500, long=20_000)
@given(strategies.rules(), strategies.contexts())
def test_flagd_core_agrees(ask: Ask, rule: Json, context: dict[str, Any]) -> None:
    """Outside the named corners both give the same value, with v3 bucketing."""
    context.setdefault("targetingKey", None)  # As flagd-core does to every context.
    injected = js.to_javascript({**context, "$flagd": {"flagKey": "flag", "timestamp": NOW}})
    observer = Observer(injected, flag_key="flag", bucketing="v3", segments={})
    expected = js.to_javascript(js.to_json(observer.apply(js.to_javascript(rule), injected)))
    assume(not observer.reached)
    answered = ask(rule, context)

    assert "value" in answered, answered
    assert same_value(expected, js.to_javascript(js.to_json(js.to_javascript(answered["value"])))), answered


def test_every_corner_is_recorded() -> None:
    """A corner that is set apart is a row of the decision record."""
    text = RECORD.read_text(encoding="utf-8")

    assert [] == [name for name in CORNERS if f"`{name}`" not in text]


@cases("corners.json")
def test_corner(ask: Ask, row: list[Any]) -> None:
    """Each corner is real: the reference and the compiler give JavaScript's answer, flagd-core another one."""
    corner, rule, context, expected, expected_of_core = row
    context.setdefault("targetingKey", None)
    injected = js.to_javascript({**context, "$flagd": {"flagKey": "flag", "timestamp": NOW}})
    observer = Observer(injected, flag_key="flag", bucketing="v3", segments={})
    reference = observer.apply(js.to_javascript(rule), injected)
    compiled = compile_rule(rule, flag_key="flag", bucketing=Bucketing.V3)(context, NOW)
    answered = ask(rule, context)
    of_core = answered["value"] if "value" in answered else answered["error"].partition(":")[0]

    assert corner in observer.reached
    assert [expected] * 2 == [js.to_json(reference), js.to_json(js.to_javascript(compiled))]
    assert expected_of_core == ("NaN" if of_core != of_core else of_core)
    assert json.dumps(expected) != json.dumps(expected_of_core)  # In Python true equals 1.


def test_every_corner_has_an_example() -> None:
    """What is set apart is shown."""
    assert set(CORNERS) == {row[0] for row in table("corners.json")["cases"]}
