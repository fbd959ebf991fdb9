"""Have schemathesis ask a real server what our own description, and OFREP's, allow and forbid."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.conformance.processes import HOST, FlagSetFile, Server, ServerOf
from tests.conformance.test_clients import FLAGS
from tests.conformance.testbed import read

EXAMPLES: Final = 15
"""For each operation; the coverage phase adds a case for each keyword of the description."""

TOOL_EXAMPLES: Final = 3
TIMEOUT_S: Final = 300
RESPONSES: Final = ("not_a_server_error", "content_type_conformance", "response_schema_conformance")
REQUESTS: Final = (
    "status_code_conformance",
    "response_headers_conformance",
    "negative_data_rejection",
    "unsupported_method",
    "allow_header_conformance",
)
"""Not: that all valid data is accepted, for a well-formed selector may name a flag set that is not there."""

STREAMING: Final = "/ofrep/v1/events"
"""Its answer never ends, so nobody can read it whole."""

TOOLS: Final = "^/v1/"
"""What tools may ask changes flags."""

OFREP: Final = Path(__file__).parent / "protocols" / "ofrep-0.3.0.yaml"


@pytest.fixture
def server(server_of: ServerOf) -> Server:
    """The server of the clients' questions."""
    return server_of("clients", [FlagSetFile(read(FLAGS))])


@pytest.mark.parametrize("mode", ["positive", "negative"])
def test_our_description_holds(server: Server, tmp_path: Path, mode: str) -> None:
    """No 5xx, no answer that is not as described, nothing taken that the description forbids."""
    location = f"{address(server)}/openapi.json"

    own = ("--exclude-path", STREAMING, "--exclude-path-regex", TOOLS)
    run(location, "--mode", mode, *own, checks=[*RESPONSES, *REQUESTS], folder=tmp_path)


@pytest.mark.parametrize("mode", ["positive", "negative"])
def test_what_tools_may_ask_is_as_described(server: Server, tmp_path: Path, mode: str) -> None:
    """The same for actions and what they are chosen from, whatever an input holds."""
    location = f"{address(server)}/openapi.json"
    own = ("--include-path-regex", TOOLS)

    run(location, "--mode", mode, *own, checks=[*RESPONSES, *REQUESTS], folder=tmp_path, examples=TOOL_EXAMPLES)


def test_ofrep_holds(server: Server, tmp_path: Path) -> None:
    """Answers are what the protocol's own description says, to any request that it allows."""
    (tmp_path / "ofrep.json").write_text(json.dumps(mended_ofrep()), encoding="utf-8")

    run("ofrep.json", "--url", address(server), "--mode", "positive", checks=RESPONSES, folder=tmp_path)


def test_a_wrong_description_is_found(server: Server, tmp_path: Path) -> None:
    """The comparison can fail."""
    document = mended_ofrep()
    document["components"]["schemas"]["bulkEvaluationSuccess"]["required"] = ["nothing of this name"]
    (tmp_path / "wrong.json").write_text(json.dumps(document), encoding="utf-8")

    with pytest.raises(AssertionError, match="nothing of this name"):
        run("wrong.json", "--url", address(server), "--mode", "positive", checks=RESPONSES, folder=tmp_path)


def mended_ofrep() -> dict[str, Any]:
    """OFREP's description, with two faults of its own mended."""
    document: dict[str, Any] = yaml.safe_load(OFREP.read_text(encoding="utf-8"))
    success = document["components"]["schemas"]["evaluationSuccess"]["allOf"]
    # OpenFeature's reason DEFAULT is missing, which flagd and other servers send.
    success[0]["properties"]["reason"]["enum"].append("DEFAULT")
    # Its codeDefaultFlag has no conditions, so "exactly one of" them can never be.
    success[1]["anyOf"] = success[1].pop("oneOf")
    return document


def address(server: Server) -> str:
    """Of the HTTP port."""
    return f"http://{HOST}:{server.ports.http}"


def run(
    location: str, *options: str, checks: list[str] | tuple[str, ...], folder: Path, examples: int = EXAMPLES
) -> None:
    """Run schemathesis. Errors: AssertionError with all that it found."""
    command = [sys.executable, "-m", "schemathesis.cli", "run", location, "--no-color", "--seed", "1", *options]
    command += ["--max-examples", str(examples), "--phases", "examples,coverage,fuzzing", "--checks", ",".join(checks)]
    command += ["--suppress-health-check", "all", "--generation-database", "none"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=TIMEOUT_S)
    assert 0 == done.returncode, done.stdout + done.stderr
