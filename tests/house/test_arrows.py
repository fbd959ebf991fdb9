"""Imports between rooms follow the arrows."""

from pathlib import Path

import pytest

from tests.house.sources import imported_modules, python_files, read

# From the outermost room to the innermost; a room may import what stands in a later line, never in its own or above.
LAYERS = (
    ("server.__main__",),
    ("server.cli",),
    # It runs what app makes, in several processes.
    ("server.workers",),
    ("server.app", "server.manager"),
    # The part of both that connects what is managed.
    ("server.managing",),
    # Read what rpc and web listen and decide with, which they get as arguments; and set up the process.
    ("server.tls", "server.keys", "server.memory", "server.collector", "server.running"),
    ("server.rpc", "server.web", "server.scheduling"),
    ("server.operations",),
    ("server.live",),
    ("server.store",),
    ("webhooks", "server.core"),
)
# Rooms beside the chain: who may import them, and what they may import.
SETTINGS = ("server.settings", "server.telemetry")
MAY_IMPORT_SETTINGS = (
    *("server.app", "server.manager", "server.managing", "server.workers", "server.cli"),
    *SETTINGS,
)
# Packages that few rooms keep to themselves. The command line is a client of what rpc serves: both speak its messages.
KEPT = {"protos": ("server.rpc", "server.cli"), "apscheduler": ("server.scheduling",)}

DEPTH = {room: depth for depth, rooms in enumerate(LAYERS) for room in rooms}


@pytest.mark.parametrize("name", python_files("server", "webhooks"))
def test_imports_follow_the_arrows(name: str) -> None:
    """`cli -> workers -> app -> rpc, web, scheduling -> operations -> live -> store -> webhooks, core`; never back."""
    assert [] == arrow_problems(name, read(name))


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("server/core/flags.py", "from server.store import tables"),
        ("server/core/flags.py", "from webhooks import signing"),
        ("server/core/evaluation/lowering.py", "from ...store import tables"),
        ("server/store/flags.py", "import server.live.holder"),
        ("server/operations/flags.py", "from server import rpc"),
        ("server/rpc/flags.py", "from server.web import app"),
        ("server/scheduling/jobs.py", "def late() -> None:\n    import server.rpc.table"),
        ("server/app.py", "from server.cli.main import main"),
        ("server/operations/evaluate.py", "from server.settings import Settings"),
        ("server/settings.py", "from server.store import engine"),
        ("server/operations/evaluate.py", "from protos.flagstaff.v1 import evaluation_pb2"),
        ("server/web/ofrep.py", "import protos.flagstaff.v1.evaluation_pb2"),
        ("server/operations/schedules.py", "import apscheduler.triggers.cron"),
        ("webhooks/outbox.py", "from server.core.errors import NotFound"),
        ("server/rpc/flags.py", "import tests.reference"),
        ("server/lost.py", "import json"),
        ("server/core/flags.py", "import server"),
    ],
)
def test_a_forbidden_import_is_found(name: str, source: str) -> None:
    """Every kind of wrong arrow is seen, however the import is written."""
    assert 1 == len(arrow_problems(name, source))


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("server/cli/serve.py", "from server.app import serve\nfrom server.core.errors import NotFound"),
        ("server/cli/remote.py", "from protos.flagstaff.v1 import common_pb2"),
        ("server/rpc/evaluation.py", "from protos.flagstaff.v1 import evaluation_pb2\nimport grpc"),
        ("server/rpc/doors/grpcio.py", "from server.rpc.call import Call\nfrom ..table import Table"),
        ("server/store/commit.py", "from webhooks.outbox import add\nfrom server.core import events"),
        ("server/scheduling/scheduler.py", "from apscheduler.schedulers.asyncio import AsyncIOScheduler"),
        ("server/core/definitions/flags.py", "from server.core import json\nfrom . import checks"),
    ],
)
def test_an_allowed_import_passes(name: str, source: str) -> None:
    """A room may import any room further in, itself, and what it keeps to itself."""
    assert [] == arrow_problems(name, source)


def arrow_problems(name: str, source: str) -> list[str]:
    """One line for every import of a file that goes against the arrows."""
    module = ".".join(Path(name).with_suffix("").parts)
    room = room_of(module)
    if room is None:
        # The top of the package belongs to no room, so it may hold nothing but its docstring.
        return [] if module == "server.__init__" and not source.count("import ") else [f"{name} stands in no room"]
    return [
        f"{name}:{line}: {room} may not import {imported}"
        for line, imported in imported_modules(name, source)
        if not allowed(room, imported)
    ]


def allowed(room: str, imported: str) -> bool:
    """Whether a file of this room may import this module."""
    top = imported.partition(".")[0]
    if top in KEPT:
        return room in KEPT[top]
    if top not in ("server", "webhooks", "tests", "scripts"):
        return True
    other = room_of(imported)
    if other is None:
        return False
    if other == room:
        return True
    if other in SETTINGS:
        return room in MAY_IMPORT_SETTINGS
    if room in SETTINGS:
        return other == "server.core"
    return DEPTH[other] > DEPTH[room]


def room_of(module: str) -> str | None:
    """The room that a module stands in."""
    return next((room for room in (*DEPTH, *SETTINGS) if f"{module}.".startswith(f"{room}.")), None)
