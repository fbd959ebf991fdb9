"""A local issuer as a process of its own."""

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import pytest

from tests.house.sources import ROOT

TIMEOUT_S: Final = 60.0


@dataclass(frozen=True)
class Running:
    """Where the issuer is."""

    address: str

    def post(self, path: str, body: Any) -> Any:
        """Ask it for something that only tests ask for."""
        request = urllib.request.Request(self.address + path, json.dumps(body).encode())
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as reply:
            return json.load(reply)

    def fetched(self) -> int:
        """How often its discovery document was fetched."""
        with urllib.request.urlopen(f"{self.address}/fetched", timeout=TIMEOUT_S) as reply:
            return int(json.load(reply)["count"])

    def token(
        self, *, key: str = "rsa", algorithm: str = "", header: Any = None, without: str = "", **claims: Any
    ) -> str:
        """A token that is good unless its claims say otherwise."""
        now = int(time.time())
        good = {"iss": self.address, "aud": "flagstaff", "sub": "ann", "iat": now, "exp": now + 600, **claims}
        good.pop(without, None)
        asked = {"claims": good, "key": key, "algorithm": algorithm, "header": header or {}}
        token: str = self.post("/token", asked)["token"]
        return token


@pytest.fixture
def issuer(started: Running) -> Running:
    """An issuer that works and has the keys that it began with."""
    started.post("/break", False)
    started.post("/keys", ["rsa", "ec", "ed"])
    return started


@pytest.fixture(scope="session")
def started() -> Iterator[Running]:
    """An issuer that ends with the tests."""
    command = [sys.executable, "-m", "tests.oidc.issuer"]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None and process.stdout is not None
    try:
        yield Running(process.stdout.readline().strip())
    finally:
        process.stdin.close()
        process.wait(TIMEOUT_S)
        process.stdout.close()


def wait_until(true: Callable[[], bool]) -> None:
    """Wait for what a thread or another process is to do."""
    until = time.monotonic() + TIMEOUT_S
    while not true():
        assert time.monotonic() < until
        time.sleep(0.02)
