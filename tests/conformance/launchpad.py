"""Start, stop, restart and change a real server over HTTP, with the calls that the providers' own suites make.

    POST /start?config=default|metadata|ssl|sync-payload    serve with a configuration, and wait until it does
    POST /stop                                              kill
    POST /restart?seconds=N                                 kill, and start again N seconds later; returns at once
    POST /change                                            commit another default of `changing-flag`, then return

The four calls of flagd-testbed's launchpad. The server keeps its ports and its database, one SQLite file, throughout.
"""

import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlsplit

from tests.conformance import testbed
from tests.conformance.certificates import Certificates
from tests.conformance.processes import HOST, FlagSetFile, Ports, Server, import_flags, serve_database
from tests.ports import low_ports

CALL_TIMEOUT_S: Final = 120.0
CHANGING_FLAG: Final = "changing-flag"
ENRICHED: Final = ("--context-value", "injectedmetadata=set")


class Launchpad:
    """One server on fixed ports over one database: started, killed and started again."""

    def __init__(self, folder: Path, *, bucketing: str, certificates: Certificates) -> None:
        self.ports = Ports(*low_ports(3))
        self.changing = "foo"
        """The value of the flag that the suites watch."""

        self._folder, self._bucketing = folder, bucketing
        self._database = f"sqlite:///{folder / 'flags.db'}"
        self._configs: Mapping[str, tuple[str, ...]] = {
            "default": ENRICHED,
            "metadata": ("--project", "combined"),
            "ssl": (*ENRICHED, "--tls-cert", str(certificates.server), "--tls-key", str(certificates.key)),
            "sync-payload": (*ENRICHED, "--disable-sync-metadata"),
        }
        self._config = "default"
        self._server: Server | None = None
        self._is_untouched = True
        self._restarting: threading.Timer | None = None
        self._lock = threading.RLock()
        for number, flag_set in enumerate(flag_sets(bucketing)):
            import_flags(folder / f"flags-{number}.json", flag_set, database=self._database)

    @property
    def server(self) -> Server:
        """The server that runs. Errors: AssertionError when none does."""
        assert self._server is not None, "the server is stopped"
        return self._server

    def start(self, config: str) -> None:
        """Serve with a configuration, anew unless nothing has happened to the one that runs.

        Errors: KeyError on an unknown configuration; AssertionError with the log when it does not come up.
        """
        options = self._configs[config]
        with self._lock:
            if self._server is not None and (config, True) == (self._config, self._is_untouched):
                return
            self.stop()
            self._config, self._is_untouched = config, True
            self._server = serve_database(self._folder, self._database, ports=self.ports, options=options)

    def stop(self) -> None:
        """Kill the server, and forget a start that was to come."""
        with self._lock:
            if self._restarting is not None:
                self._restarting.cancel()
                self._restarting = None
            if self._server is not None:
                self._server.kill()
                self._server = None

    def restart(self, seconds: float) -> None:
        """Kill the server, and start it again after a time, in the background."""
        with self._lock:
            self.stop()
            self._restarting = threading.Timer(seconds, self._start_again)
            self._restarting.daemon = True
            self._restarting.start()

    def change(self) -> None:
        """Commit another default of the flag that the suites watch; the running server has to notice by itself."""
        with self._lock:
            # A server tells clients that come back what changed lately: a later scenario must not hear of this.
            self._is_untouched = False
            flag = testbed.all_flags()["flags"][CHANGING_FLAG]
            self.changing = flag["defaultVariant"] = "bar" if self.changing == "foo" else "foo"
            change = FlagSetFile({"flags": {CHANGING_FLAG: flag}}, source=testbed.ALL_SOURCE, bucketing=self._bucketing)
            import_flags(self._folder / "change.json", change, database=self._database)

    def _start_again(self) -> None:
        with self._lock:
            # Else another start, or a stop, came first.
            if self._restarting is threading.current_thread():
                self.start(self._config)


def flag_sets(bucketing: str) -> list[FlagSetFile]:
    """What the testbed serves, a project for each file: a client that names no flag set gets default/production."""
    return [
        FlagSetFile(testbed.all_flags(), source=testbed.ALL_SOURCE, bucketing=bucketing),
        FlagSetFile(testbed.selector_flags(), "selector", source=testbed.SELECTOR_SOURCE, bucketing=bucketing),
        FlagSetFile(testbed.combined_flags(), "combined", source=testbed.COMBINED_SOURCE, bucketing=bucketing),
    ]


@dataclass(frozen=True, slots=True)
class ServedLaunchpad:
    """A launchpad that listens."""

    url: str
    launchpad: Launchpad

    def post(self, call: str) -> None:
        """Make one of the four calls. Errors: AssertionError with what the launchpad said when it failed."""
        request = urllib.request.Request(f"{self.url}/{call}", method="POST")
        try:
            with urllib.request.urlopen(request, timeout=CALL_TIMEOUT_S) as response:
                response.read()
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(error.read().decode()) from None


@contextmanager
def serve(launchpad: Launchpad, *, port: int = 0) -> Iterator[ServedLaunchpad]:
    """Listen for the four calls for as long as the block runs; the server is killed at its end."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            """Answer 200 when it is done, 400 to what is no call, 500 with the reason when it failed."""
            url = urlsplit(self.path)
            arguments = {name: values[-1] for name, values in parse_qs(url.query).items()}
            try:
                _call(launchpad, url.path, arguments)
            except (KeyError, ValueError) as error:
                self._answer(400, f"no such call: {self.path} ({error})")
            except AssertionError as error:
                self._answer(500, str(error))
            else:
                self._answer(200, "done")

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing: the test's own output tells."""

        def _answer(self, status: int, text: str) -> None:
            body = text.encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with ThreadingHTTPServer((HOST, port), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield ServedLaunchpad(f"http://{HOST}:{server.server_port}", launchpad)
        finally:
            server.shutdown()
            thread.join()
            launchpad.stop()


def _call(launchpad: Launchpad, path: str, arguments: Mapping[str, str]) -> None:
    match path:
        case "/start":
            launchpad.start(arguments.get("config", "default"))
        case "/stop":
            launchpad.stop()
        case "/restart":
            launchpad.restart(float(arguments.get("seconds", 5)))
        case "/change":
            launchpad.change()
        case _:
            raise KeyError(path)
