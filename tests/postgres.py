"""Run a real PostgreSQL server for the tests: a cluster of their own, thrown away afterwards.

FLAGSTAFF_TEST_POSTGRES_URL names another server instead, with a user who may make databases. Where there is neither
that nor Debian's postgresql, the tests that need one are skipped; in CI that is a failure.
"""

import atexit
import ctypes
import functools
import itertools
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import URL, make_url

from tests.ports import low_ports

HOST: Final = "127.0.0.1"
URL_VARIABLE: Final = "FLAGSTAFF_TEST_POSTGRES_URL"
START_S: Final = 180.0
"""Long enough to recover from a crash on a busy disk."""

_SETTINGS: Final = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "32MB",
    "autovacuum_naptime": "1s",
    "lc_messages": "C",
    # Ours must not depend on it.
    "timezone": "Asia/Kolkata",
}
_NO_WAITING_FOR_THE_DISK: Final = {"fsync": "off", "full_page_writes": "off"}
_PR_SET_PDEATHSIG: Final = 1


class NoServer(Exception):
    """There is no PostgreSQL on this machine."""


@dataclass(slots=True)
class Cluster:
    """A server with a directory and a port of its own."""

    directory: Path
    binaries: Path
    settings: dict[str, str]
    user: str | None
    port: int = 0
    password: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> URL:
        """Its own database; others are beside it."""
        return URL.create("postgresql+psycopg", "flagstaff", self.password, HOST, self.port, "postgres")

    def make(self) -> None:
        """Lay the cluster down, with a language's order of texts, which ours must not depend on."""
        secret = self.directory / "password"
        secret.write_text(self.password)
        if self.user:
            shutil.chown(self.directory, self.user)
            shutil.chown(secret, self.user)
        locale = ("--locale-provider=icu", "--icu-locale=en", "--locale=C.UTF-8", "--encoding=UTF8")
        self._run("initdb", "--auth=scram-sha-256", "--username=flagstaff", f"--pwfile={secret}", "--no-sync", *locale)

    def start(self) -> None:
        """Start it and wait until it answers; its port stays the same from the first start on."""
        for _ in range(5):
            self.port = self.port or low_ports(1)[0]
            if self._start():
                return
            self.port = 0
        raise RuntimeError(f"the server does not start:\n{(self.directory / 'log').read_text()[-2_000:]}")

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop it. SIGINT ends connections and writes a checkpoint, SIGQUIT leaves all to recovery."""
        if self.process is not None and self.process.poll() is None:
            self.freeze(False)
            self.process.send_signal(how)
            self.process.wait(START_S)
        self.process = None

    def freeze(self, frozen: bool) -> None:
        """Stop all its processes in the middle of what they do, or let them go on."""
        assert self.process is not None
        for pid in [self.process.pid, *_children(self.process.pid)]:
            try:
                os.kill(pid, signal.SIGSTOP if frozen else signal.SIGCONT)
            except ProcessLookupError:
                continue

    def logged(self) -> str:
        """What the server wrote."""
        return (self.directory / "log").read_text(errors="replace")

    def _start(self) -> bool:
        options = [f"-c{name}={value}" for name, value in {**self.settings, "port": str(self.port)}.items()]
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [self.binaries / "postgres", "-D", self.directory / "data", *options],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", user=self.user,
                env=_environment(),
                preexec_fn=_end_with_us,  # noqa: PLW1509  (one call of libc, which takes no lock)
            )  # fmt: skip
        until = time.monotonic() + START_S
        while time.monotonic() < until and self.process.poll() is None:
            try:
                connect(self.url).close()
            except psycopg.OperationalError:
                time.sleep(0.02)
            else:
                return True
        return False

    def _run(self, name: str, *options: str) -> None:
        done = subprocess.run(
            [self.binaries / name, "-D", self.directory / "data", *options],
            capture_output=True, text=True, cwd="/", user=self.user, env=_environment(), check=False,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{name} failed: {done.stdout}{done.stderr}")


@contextmanager
def new_cluster(*, durable: bool = True, **settings: str) -> Iterator[Cluster]:
    """A running cluster of one's own, gone afterwards. Errors: NoServer."""
    binaries = _binaries()
    user = _other_user() if os.getuid() == 0 else None
    directory = Path(tempfile.mkdtemp(prefix="flagstaff-postgres-"))
    cluster = Cluster(
        directory, binaries, {**_SETTINGS, **({} if durable else _NO_WAITING_FOR_THE_DISK), **settings}, user
    )
    try:
        cluster.make()
        cluster.start()
        yield cluster
    finally:
        cluster.stop(signal.SIGQUIT)
        shutil.rmtree(directory, ignore_errors=True)


@functools.cache
def server_url() -> URL:
    """The server that this process's tests share, started when it is first asked for. Errors: NoServer."""
    given = os.environ.get(URL_VARIABLE)
    if given:
        return make_url(given).set(drivername="postgresql+psycopg")
    cluster = new_cluster(durable=False)
    url = cluster.__enter__().url
    atexit.register(cluster.__exit__, None, None, None)
    return url


def required_url() -> URL:
    """The shared server for a test, which is skipped where there is none; in CI there must be one."""
    try:
        return server_url()
    except NoServer as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error))
        pytest.skip(str(error))


_numbers: Final = itertools.count(1)


def create_database(server: URL, *, template: str = "template0") -> URL:
    """A new database on a server, empty or as the template is."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    with connect(server) as connection:
        statement = "CREATE DATABASE {} TEMPLATE {}" + (" ENCODING 'UTF8'" if template == "template0" else "")
        connection.execute(sql.SQL(statement).format(sql.Identifier(name), sql.Identifier(template)))
    return server.set(database=name)


def drop_database(url: URL) -> None:
    """Delete it, whoever is connected."""
    with connect(url.set(database="postgres")) as connection:
        name = sql.Identifier(url.database or "")
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))


def connect(url: URL, **options: Any) -> psycopg.Connection:
    """A plain connection, as somebody with another program would have it; every statement is committed by itself."""
    return psycopg.connect(
        host=url.host, port=url.port, user=url.username, password=url.password, dbname=url.database,
        connect_timeout=5, autocommit=True, **options,
    )  # fmt: skip


def text_of(url: URL) -> str:
    """The address with its password, as an option."""
    return url.render_as_string(hide_password=False)


def _binaries() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    on_path = shutil.which("initdb")
    if found or on_path:
        return (found[-1] if found else Path(on_path or "")).parent
    raise NoServer(f"there is no PostgreSQL server: install Debian's postgresql, or name one by {URL_VARIABLE}")


def _other_user() -> str:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    raise NoServer("a PostgreSQL server does not run as root, and there is no user postgres or nobody")


def _children(pid: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            continue
        if parent == pid:
            found.append(int(path.parent.name))
    return found


def _end_with_us() -> None:
    # A test run that is killed leaves no server behind.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGQUIT)


def _environment() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C.UTF-8"}
