"""Send one message for a test."""

import asyncio
import ssl
from dataclasses import replace
from typing import Any, Final

from webhooks.addresses import read_allowed
from webhooks.client import Client
from webhooks.sender import Outcome, Outgoing, send
from webhooks.signing import new_secret, read_key

TRUSTED: Final = ssl.create_default_context()
LOOPBACK: Final = read_allowed(["127.0.0.1", "::1"])
SECRET: Final = new_secret(b"s" * 32)
BODY: Final = b'{"id":"evt_1"}'
NOW: Final = 1_790_000_000.5
PATIENCE_S: Final = 30.0
"""More than any test needs: what is not over by its own bound fails, however busy the machine is."""

SHORT_S: Final = 0.4


def message(port: int, path: str, **fields: Any) -> Outgoing:
    """A message for a path of the receiver."""
    made = Outgoing(
        url=f"http://127.0.0.1:{port}{path}",
        body=BODY,
        event_id="evt_1",
        attempt=1,
        timeout_s=PATIENCE_S,
        keys=(read_key(SECRET),),
    )
    return replace(made, **fields)


async def tried(client: Client, port: int, path: str, **fields: Any) -> Outcome:
    """What comes of it; the test's patience is another than the attempt's."""
    async with asyncio.timeout(2 * PATIENCE_S):
        return await send(client, message(port, path, **fields), now=NOW)
