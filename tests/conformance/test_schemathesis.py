"""Have schemathesis ask a real server what its own description allows and forbids."""

import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.conformance.processes import HOST, FlagSetFile, ServerOf
from tests.conformance.test_clients import FLAGS
from tests.conformance.testbed import read

EXAMPLES: Final = 15
"""For each operation; the coverage phase adds a case for each keyword of the description."""

TIMEOUT_S: Final = 300
CHECKS: Final = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "unsupported_method",
    "allow_header_conformance",
)
"""Not: that all valid data is accepted, for a well-formed selector may name a flag set that is not there."""

STREAMING: Final = "/ofrep/v1/events"
"""Its answer never ends, so nobody can read it whole."""


@pytest.mark.parametrize("mode", ["positive", "negative"])
def test_finds_nothing(server_of: ServerOf, tmp_path: Path, mode: str) -> None:
    """No 5xx, no answer that is not as described, nothing taken that the description forbids."""
    server = server_of("clients", [FlagSetFile(read(FLAGS))])
    location = f"http://{HOST}:{server.ports.http}/openapi.json"
    command = [sys.executable, "-m", "schemathesis.cli", "run", location, "--no-color", "--seed", "1", "--mode", mode]
    command += ["--max-examples", str(EXAMPLES), "--phases", "examples,coverage,fuzzing", "--checks", ",".join(CHECKS)]
    command += ["--exclude-path", STREAMING, "--suppress-health-check", "all", "--generation-database", "none"]

    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=TIMEOUT_S)

    assert 0 == done.returncode, done.stdout + done.stderr
