"""Run a real Prometheus, which scrapes each second what is given to it."""

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

HOST: Final = "127.0.0.1"
START_TIMEOUT_S: Final = 60.0


def program() -> str | None:
    """Where it is installed; None where it is not."""
    return shutil.which("prometheus")


def require() -> None:
    """Skip a test where there is none; in CI there is always one."""
    if program() is None:
        if os.environ.get("CI") == "true":
            pytest.fail("there is no prometheus; scripts/_environment.sh installs it")
        pytest.skip("there is no prometheus; apt-get install prometheus")


@contextmanager
def running(folder: Path, *, target: str = "") -> Iterator[str]:
    """The address of one that keeps its data in `folder` and scrapes `host:port`, or nothing."""
    found = program()
    assert found is not None, "there is no prometheus"
    jobs = [{"job_name": "tests", "static_configs": [{"targets": [target]}]}] if target else []
    config = {"global": {"scrape_interval": "1s"}, "scrape_configs": jobs}
    # JSON is YAML, too.
    (folder / "prometheus.yml").write_text(json.dumps(config))
    with socket.socket() as free:
        free.bind((HOST, 0))
        port = free.getsockname()[1]
    listen = ["--storage.tsdb.path", str(folder / "prometheus"), f"--web.listen-address={HOST}:{port}"]
    process = subprocess.Popen(
        [found, f"--config.file={folder}/prometheus.yml", *listen],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        url = f"http://{HOST}:{port}"
        _wait_until_ready(url)
        yield url
    finally:
        process.terminate()
        process.wait(30)


def _wait_until_ready(url: str) -> None:
    until = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < until:
        try:
            if urllib.request.urlopen(f"{url}/-/ready", timeout=5).status == 200:
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"Prometheus was not ready within {START_TIMEOUT_S} s")
