"""Show a server at work: sample flags, the official Python provider as client, and what to notice."""

import argparse
import json
import queue
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Final

from openfeature import api
from openfeature.client import OpenFeatureClient
from openfeature.contrib.provider.flagd import FlagdProvider
from openfeature.contrib.provider.flagd.config import CacheType
from openfeature.evaluation_context import EvaluationContext

HOST: Final = "127.0.0.1"
PORTS: Final = {"grpc": 8013, "sync": 8015, "http": 8016}
START_TIMEOUT_S: Final = 60.0
FOLLOW_TIMEOUT_S: Final = 10.0
STOP_TIMEOUT_S: Final = 20.0
USERS: Final = [f"user-{number}" for number in range(1_000)]
DEADLINE_MS: Final = 5_000


def main() -> int:
    """Run the demonstration; 1 when an answer is not what it should be."""
    parser = argparse.ArgumentParser(prog="demo", description=__doc__)
    parser.add_argument("--once", action="store_true", help="stop the server after the evaluations")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="flagstaff-demo-") as directory:
        shop = Shop(Path(directory))
        try:
            wrong = Demonstration(shop).run()
            if not options.once and not wrong:
                shop.say_how_to_reach()
                shop.server.wait()
        except KeyboardInterrupt:
            wrong = 0
        finally:
            api.shutdown()
            shop.stop()
    return 1 if wrong else 0


class Shop:
    """A running server with the sample flags, in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.database = f"sqlite:///{directory / 'shop.db'}"
        ports = [f"--{name}-port={port if is_free(port) else 0}" for name, port in PORTS.items()]
        command = self._command("serve", "--demo", "--json", "--log-level=warning", f"--host={HOST}", *ports)
        self.server = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
        assert self.server.stdout is not None
        started = first_line(self.server.stdout)
        if not started:
            self.stop()
            raise SystemExit("the server did not start; its messages stand above")
        self.listening: dict[str, Any] = json.loads(started)

    def flagstaff(self, command: str, *arguments: str) -> str:
        """Run another command of `flagstaff` on the same database; its output."""
        done = subprocess.run(self._command(command, *arguments), capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise SystemExit(f"flagstaff {command} ended with {done.returncode}: {done.stderr}")
        return done.stdout

    def change(self, edit: Callable[[dict[str, Any]], None]) -> str:
        """Export the flags, edit the document, import it again; what the import said."""
        path = self.directory / "flags.json"
        document = json.loads(self.flagstaff("export"))
        edit(document["flags"])
        path.write_text(json.dumps(document), encoding="utf-8")
        return self.flagstaff("import", str(path), "--reason=demonstration")

    def say_how_to_reach(self) -> None:
        """Tell where the server is and what to try."""
        grpc, http = self.listening["grpc_port"], self.listening["http_port"]
        print(f"\nThe server goes on at {HOST}:{grpc} (gRPC) and {HOST}:{http} (HTTP). Try, from another terminal:")
        print(f"  .venv/bin/flagstaff flags --database-url {self.database}")
        print(f"  .venv/bin/flagstaff evaluate new-checkout -k alice --explain --database-url {self.database}")
        print(f"  curl http://{HOST}:{http}/readyz")
        print("Ctrl-C stops it and removes its database.")

    def stop(self) -> None:
        """Ask the server to drain and end, and wait for it."""
        if self.server.poll() is None:
            self.server.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self.server.wait(STOP_TIMEOUT_S)
        if self.server.poll() is None:
            self.server.kill()
            self.server.wait()

    def _command(self, name: str, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "server", name, f"--database-url={self.database}", *arguments]


class Demonstration:
    """What is shown, and how many answers were not what they should be."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.wrong = 0
        self.client = connect(shop.listening["grpc_port"])

    def run(self) -> int:
        """Show everything; the number of wrong answers."""
        self.types()
        self.targeting()
        members = self.share()
        self.split()
        self.wider_share(members)
        self.kill_switch()
        print("\nEvery answer was what it should be." if not self.wrong else f"\n{self.wrong} answers are WRONG.")
        return self.wrong

    def types(self) -> None:
        """One flag of each type."""
        title("Four types of value, by the official provider over gRPC")
        bob = user("bob")
        self.answer("payments", "boolean", bob, True, "nothing to decide: STATIC")
        self.answer("banner", "string", bob, "Welcome to our shop", "no country: the default")
        self.answer("free-shipping-from", "integer", bob, 50, "a whole number")
        self.answer("discount-rate", "float", bob, 0.05, "a number with a fraction")
        self.answer("checkout-layout", "object", bob, {"steps": 3, "express": False}, "an object")

    def targeting(self) -> None:
        """Rules, targets, segments, prerequisites."""
        title("Who gets what, and why")
        app = {"client": {"kind": "app", "version": "2.5.1"}}
        short = {"steps": 1, "express": True, "wallets": ["apple", "google"]}
        self.answer("banner", "string", user("bob", country="FR"), "Bienvenue dans notre boutique", "a rule: FR or BE")
        self.answer("discount-rate", "float", user("carol"), 0.125, "a segment by keys: carol is a VIP")
        self.answer("free-shipping-from", "integer", user("bob", **app), 20, "a rule: the app, version 2.4.0 or later")
        self.answer("new-checkout", "boolean", user("alice"), True, "alice is a target of the flag")
        self.answer(
            "new-checkout", "boolean", user("eve", email="eve@shop.example"), True, "a segment by a condition: staff"
        )
        self.answer("new-checkout", "boolean", user("bob"), False, "bob is outside the 20 % share")
        self.answer(
            "checkout-layout", "object", user("alice"), short, "its prerequisite, new-checkout, is on for alice"
        )

    def share(self) -> set[str]:
        """A share of 20 %, counted; who is in it."""
        title("A share of 20 %, counted over 1,000 users")
        members = self.members()
        self.check(160 <= len(members) <= 240, f"new-checkout is on for {len(members)} of 1,000 users")
        self.check(self.members() == members, "asked again, it is on for exactly the same users")
        return members

    def split(self) -> None:
        """An experiment in two halves."""
        title("A split in two halves")
        arms = [self.value("button-colour", "string", user(name)) for name in USERS]
        blue = arms.count("blue")
        self.check(
            440 <= blue <= 560 and blue + arms.count("green") == len(USERS),
            f"button-colour is blue for {blue} users and green for {len(USERS) - blue}",
        )
        again = [self.value("button-colour", "string", user(name)) for name in USERS]
        self.check(again == arms, "the same user gets the same colour every time")

    def wider_share(self, members: set[str]) -> None:
        """Widening lets people in and throws nobody out."""
        title("The share is widened to 40 %, while the server runs")

        def widen(flags: dict[str, Any]) -> None:
            flags["new-checkout"]["rules"][1]["share"]["percent"] = 40

        self.change(widen)
        others = [name for name in USERS if name not in members]
        self.follow(lambda: any(self.value("new-checkout", "boolean", user(name)) for name in others))
        wider = self.members()
        self.check(
            340 <= len(wider) <= 460 and members <= wider,
            f"new-checkout is on for {len(wider)} users, among them all {len(members)} from before",
        )

    def kill_switch(self) -> None:
        """One flag goes off, and what requires it goes off too."""
        title("The kill switch")
        alice = user("alice")
        self.answer("new-checkout", "boolean", alice, True, "before: alice has the new checkout")

        def turn_off(flags: dict[str, Any]) -> None:
            flags["payments"]["enabled"] = False

        self.change(turn_off)
        self.follow(lambda: self.value("payments", "boolean", alice) is False)
        self.answer("payments", "boolean", alice, False, "off")
        self.answer("new-checkout", "boolean", alice, False, "requires payments, so it is off for alice too")
        self.answer("checkout-layout", "object", alice, {"steps": 3, "express": False}, "requires new-checkout")

    def change(self, edit: Callable[[dict[str, Any]], None]) -> None:
        """Change the flags by an import, and show what it said."""
        said = self.shop.change(edit)
        print(
            "\n".join(["        $ flagstaff import flags.json", *(f"          {line}" for line in said.splitlines())])
        )

    def members(self) -> set[str]:
        """The users that have the new checkout."""
        return {name for name in USERS if self.value("new-checkout", "boolean", user(name))}

    def follow(self, arrived: Callable[[], bool]) -> None:
        """Wait until a change has arrived."""
        since = time.monotonic()
        while not (is_there := arrived()) and time.monotonic() < since + FOLLOW_TIMEOUT_S:
            time.sleep(0.01)
        self.check(is_there, f"the client sees it {time.monotonic() - since:.2f} s after that command ended")

    def answer(self, key: str, type_: str, context: EvaluationContext, wanted: Any, why: str) -> None:
        """Ask, print, compare."""
        # The fallback is never what is wanted, so that it cannot be mistaken for an answer.
        fallback = not wanted if isinstance(wanted, bool) else type(wanted)()
        details = DETAILS[type_](self.client)(key, fallback, context)
        same = details.value == wanted and type(details.value) is type(wanted) and details.error_code is None
        who = " ".join([context.targeting_key or "", *(f"{k}={short(v)}" for k, v in context.attributes.items())])
        reason = str(getattr(details.reason, "value", details.reason))
        line = f"{key:<20}{who:<44}{short(details.value):<44}{reason:<17}{why}"
        self.check(same, line if same else f"{line}; expected {short(wanted)}")

    def value(self, key: str, type_: str, context: EvaluationContext) -> Any:
        """Only the value."""
        return DETAILS[type_](self.client)(key, False if type_ == "boolean" else "", context).value

    def check(self, right: bool, line: str) -> None:
        """Print a line with its mark, and count what is wrong."""
        self.wrong += not right
        print(f"  {'ok   ' if right else 'WRONG'} {line.rstrip()}")


DETAILS: Final[Mapping[str, Callable[[OpenFeatureClient], Any]]] = {
    "boolean": lambda client: client.get_boolean_details,
    "string": lambda client: client.get_string_details,
    "integer": lambda client: client.get_integer_details,
    "float": lambda client: client.get_float_details,
    "object": lambda client: client.get_object_details,
}


def connect(port: int) -> OpenFeatureClient:
    """The official provider in RPC mode, without its cache: this server does not yet announce changes to it."""
    api.set_provider_and_wait(FlagdProvider(host=HOST, port=port, cache=CacheType.DISABLED, deadline_ms=DEADLINE_MS))
    return api.get_client()


def user(name: str, **attributes: Any) -> EvaluationContext:
    """Who asks."""
    return EvaluationContext(name, attributes)


def short(value: Any) -> str:
    """A value as compact JSON, cut to fit its column."""
    text = json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else value
    return text if len(text) <= 42 else f"{text[:39]}..."


def title(text: str) -> None:
    """Head a part."""
    print(f"\n{text}")


def is_free(port: int) -> bool:
    """Whether nobody listens on a port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def first_line(stream: IO[bytes]) -> bytes:
    """The first line of a stream; b"" when it ends or takes too long."""
    lines: queue.Queue[bytes] = queue.Queue()
    threading.Thread(target=lambda: lines.put(stream.readline()), daemon=True).start()
    try:
        return lines.get(timeout=START_TIMEOUT_S)
    except queue.Empty:
        return b""


if __name__ == "__main__":
    raise SystemExit(main())
