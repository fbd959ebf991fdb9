"""`flagstaff metric ...` against a server process."""

from pathlib import Path

import pytest

from tests.cli.conftest import SAMPLES, Ran, Run
from tests.cli.servers import Start, serving


@pytest.fixture
def metric(run: Run, start: Start, tmp_path: Path) -> Run:
    """The commands, with a server over the sample shop."""
    assert 0 == run("import", SAMPLES).code
    told = serving(start("--json"))

    def call(*arguments: str) -> Ran:
        return run("metric", *arguments, FLAGSTAFF_SERVER=f"127.0.0.1:{told['grpc_port']}")

    return call


def test_metrics_are_made_recorded_and_looked_at(metric: Run) -> None:
    """From the first definition to the last sum."""
    made = metric("create", "errors", "--kind", "ratio", "--better", "lower")
    metric("create", "latency", "--kind", "mean", "--unit", "ms")
    listed = metric("list")
    changed = metric("update", "latency", "--description", "Of the checkout")
    shown = metric("show", "latency")
    recorded = metric("record", "errors", "1", "0", "--denominator", "2", "--denominator", "2")
    sums = metric("sums", "errors")
    as_json = metric("sums", "errors", "--json")
    unknown = metric("record", "error", "1")
    deleted = metric("delete", "errors")

    assert "metric errors is there\n" == made.out
    assert "errors" in listed.out and listed.out.endswith("\n2 metrics\n")
    assert "metric latency is changed\n" == changed.out
    assert "latency: mean, higher is better, in ms; version 2\nOf the checkout\n" == shown.out
    assert "recorded 2 observations of errors\n" == recorded.out
    assert ["2", "0.25"] == sums.out.splitlines()[-1].split()[-2:]
    assert 0.25 == as_json.json["sums"][0]["value"]
    assert (1, "error: not taken: /series/0/metric: there is no metric 'error'; did you mean 'errors'?\n") == (
        unknown.code,
        unknown.err,
    )
    assert "metric errors is gone\n" == deleted.out
