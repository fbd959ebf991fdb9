"""Check what `flagstaff serve` is told of webhooks, before anything is started."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from server.core.errors import InvalidRequest

if TYPE_CHECKING:
    from server.settings import Settings


def checked_allow(places: Sequence[str]) -> tuple[str, ...]:
    """Places that webhooks may be sent to. Errors: InvalidRequest for what is no address, network or host."""
    if places:
        from webhooks.addresses import read_allowed
        from webhooks.errors import InvalidSetting

        try:
            read_allowed(places, "--hook-allow")
        except InvalidSetting as error:
            raise InvalidRequest(str(error)) from None
    return tuple(places)


def checked_keys(settings: "Settings") -> None:
    """Keys that are given can be used. Errors: InvalidRequest."""
    from server.keys import read_hook_keys

    read_hook_keys(None, os.environ, file=settings.hook_keys_file, make=False)
