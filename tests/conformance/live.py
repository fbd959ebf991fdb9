"""Say how a provider is set up for each of the testbed's kinds, and hold what a watching provider needs."""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tests.conformance.certificates import Certificates
from tests.conformance.processes import Ports
from tests.conformance.testbed import ROOT
from tests.ports import low_ports

READY_TIMEOUT_S: Final = 30.0
EVENT_TIMEOUT_S: Final = 30.0
SETTLE_S: Final = 0.25
"""After a start the server names all flags to who connects; this is not the change that a scenario makes."""

COMMON: Final[Mapping[str, Any]] = {
    # Twice the official suite's 1,000: a call during an outage has to end within it, and machines are busy.
    "deadlineMs": 2_000,
    "streamDeadlineMs": 0,
    "retryBackoffMs": 1_000,
    "retryBackoffMaxMs": 1_000,
    "retryGracePeriod": 2,
    # The provider's own default, which is not the drivers'.
    "cache": "lru",
    "wait": False,
}
"""The options of the official Python provider's own run of the suite."""

CONFIGS: Final[Mapping[str, str]] = {
    "stable": "default",
    "ssl": "ssl",
    "metadata": "metadata",
    "syncpayload": "sync-payload",
}
"""Kinds of provider that have a server: the launchpad's configuration for each."""


def options_of(kind: str, mode: str, *, port: int, certificates: Certificates) -> dict[str, Any]:
    """The options of a provider of a kind; what the scenario sets goes over them."""
    options = {**COMMON, "resolver": mode, "port": port}
    if kind == "ssl":
        options |= {"tls": True, "certPath": str(certificates.authority)}
    return options


def port_of(mode: str, ports: Ports) -> int:
    """Where a provider of a mode looks."""
    return ports.sync if mode == "in-process" else ports.grpc


def unavailable_port() -> int:
    """A port where nobody listens."""
    return low_ports(1)[0]


@contextmanager
def forbidding_server(log: Path) -> Iterator[int]:
    """A server that answers every call with PERMISSION_DENIED; the port."""
    command = [sys.executable, "-m", "tests.conformance.forbidden"]
    with (
        log.open("wb") as errors,
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors) as process,
    ):
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()
