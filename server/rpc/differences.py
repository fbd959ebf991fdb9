"""Write differences as clients get them."""

import json

from protos.flagstaff.v1 import differences_pb2 as messages
from server.core.descriptions.differences import Difference
from server.core.json import Json


def difference_message(difference: Difference, *, full: bool) -> messages.Difference:
    """A difference, with both sides when it is full."""
    message = messages.Difference(path=difference.path, text=difference.text)
    if full and difference.before is not None:
        message.before = _text(difference.before)
    if full and difference.after is not None:
        message.after = _text(difference.after)
    return message


def _text(value: Json) -> str:
    return json.dumps(value, separators=(",", ":"))
