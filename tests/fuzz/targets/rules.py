"""Feed rules of any shape to check, lowering, compiler and evaluation: what is accepted answers, and in time."""

from server.core.definitions.flagsets import check_flag_set
from server.core.definitions.problems import Problems
from server.core.definitions.targeting import check_rule
from server.core.environments import Bucketing, Environment
from server.core.evaluation.snapshots import build_snapshot
from server.core.flags import Flag, FlagConfig, FlagDefinition, ValueType
from server.core.flagsets import FlagSet
from server.core.segments import Segment
from tests.fuzz.checks import check_answers
from tests.fuzz.draw import Draw

VARIANTS = {"on": "1", "off": "2", "true": "3"}
SEGMENTS = {
    "s0": Segment("s0", condition={"ends_with": [{"var": "email"}, "@shop.example"]}),
    "x": Segment("x", keys=("u1", "u2")),
    "on": Segment("on", condition={"or": [{"$ref": "s0"}, {"$ref": "x"}]}),
}


def test_one(data: bytes) -> None:
    """The first byte chooses leniency, bucketing and default; a rule and two contexts follow."""
    draw = Draw(data)
    kind = draw.byte()
    lenient = bool(kind & 1)
    bucketing = Bucketing.V3 if kind & 2 else Bucketing.V2
    rule = draw.rule()
    contexts = [draw.context(), draw.context()]
    problems = Problems(lenient=lenient)
    check_rule(rule, path="/targeting", problems=problems, variants=VARIANTS)
    config = FlagConfig(default=None if kind & 4 else "on", targeting=rule, lenient=lenient)
    flag_set = FlagSet(
        Environment("shop", "live", bucketing=bucketing),
        {"flag": FlagDefinition(Flag("flag", ValueType.STRING, VARIANTS), config)},
        SEGMENTS,
    )
    if problems.errors or any(not problem.warning for problem in check_flag_set(flag_set)):
        # It can still be in the database: then the flag answers ERROR, or soundly.
        check_answers(build_snapshot(flag_set, revision=1), contexts, seconds_max=None)
        return
    snapshot = build_snapshot(flag_set, revision=1)
    assert not snapshot.flags["flag"].quarantine, snapshot.flags["flag"].quarantine
    check_answers(snapshot, contexts)
