"""Count what each suite runs, and write it down as the README has it."""

from collections import Counter
from typing import Final

from tests.conformance.suites import EVALUATOR, OTHER_MODE, RUNS, SUITES, Suite, tags_of_cases

FEATURES: Final = (
    EVALUATOR, "targeting", "evaluation", "disabled", "metadata", "selector", "config", "connection", "events",
    "rpc-caching", "contextEnrichment", "sync-payload",
)  # fmt: skip


def counts_of(suite: Suite, feature: str) -> Counter[str]:
    """The cases of one feature by why they are left out; RUNS counts those that run."""
    return Counter(suite.why_not(feature, tags) for tags in tags_of_cases(feature))


def as_markdown() -> str:
    """Two tables: how many cases each client passes, and why the others are not among them."""
    return "\n".join([*_passed(), "", *_left_out()])


def _passed() -> list[str]:
    lines = [f"| cases | all | {' | '.join(SUITES)} |", "|---" * (len(SUITES) + 2) + "|"]
    for feature in FEATURES:
        cells = [
            str(counts_of(suite, feature)[RUNS]) if feature in suite.features else "-" for suite in SUITES.values()
        ]
        lines.append(f"| {feature} | {len(tags_of_cases(feature))} | {' | '.join(cells)} |")
    all_runs = [sum(counts_of(suite, feature)[RUNS] for feature in suite.features) for suite in SUITES.values()]
    failing = [len(suite.differences) for suite in SUITES.values()]
    total = sum(len(tags_of_cases(feature)) for feature in FEATURES)
    lines.append(f"| run | {total} | {' | '.join(map(str, all_runs))} |")
    lines.append(f"| of these expected to fail | | {' | '.join(map(str, failing))} |")
    return lines


def _left_out() -> list[str]:
    lines = ["| client | cases left out | why |", "|---|---|---|"]
    for name, suite in SUITES.items():
        counts: Counter[str] = sum((counts_of(suite, feature) for feature in suite.features), Counter())
        for tag, reason in suite.excluded.items():
            if counts[tag]:
                lines.append(f"| {name} | {counts[tag]} `@{tag}` | {reason} |")
        if counts[OTHER_MODE]:
            lines.append(f"| {name} | {counts[OTHER_MODE]} | for another mode of a provider |")
        for reason, count in Counter(suite.differences.values()).items():
            lines.append(f"| {name} | {count}, run and expected to fail | {reason} |")
    return lines


if __name__ == "__main__":
    print(as_markdown())
