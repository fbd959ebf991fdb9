"""Run a server on the quickest event loop there is, which threads that compute do not keep waiting."""

import asyncio
import contextlib
import sys
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

GIVE_WAY_S: Final = 0.0005
"""So long a thread may keep others waiting. Python's own 5 ms are longer than most calls take, and a call waits for its
turn several times. Measured in one process, both in turn: beside keys that are taken in, half of a loop's wake-ups were
late by 15 ms or more, and are by 0.9; taking them in, and commits, last as long as before."""

Result = TypeVar("Result")


def run_on_loop(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """Run it to its end."""
    sys.setswitchinterval(GIVE_WAY_S)
    run: Any = asyncio.run
    # Uvloop carries more calls a second than asyncio's own loop, where it exists.
    with contextlib.suppress(ImportError):
        import uvloop  # noqa: PLC0415  # Not on every platform.

        run = uvloop.run
    result: Result = run(coroutine)
    return result
