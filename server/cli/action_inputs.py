"""Read an action's inputs from words of a command line: `key=value`."""

import json
from collections.abc import Sequence
from typing import Any

from server.core.errors import InvalidRequest


def read_inputs(words: Sequence[str]) -> dict[str, Any]:
    """Inputs by name: JSON where a value is some, else text. Errors: InvalidRequest for a word of another shape.

    `percent=25` is a number, `enabled=true` a boolean, `add=["a"]` a list, `flag_key=new-ui` a text; `text="25"`, with
    quotes that the shell leaves, is a text, too.
    """
    inputs: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise InvalidRequest(f"{word!r} is no input; write NAME=VALUE, such as flag_key=new-ui or enabled=true")
        if name in inputs:
            raise InvalidRequest(f"input {name!r} is given twice")
        try:
            inputs[name] = json.loads(value)
        except ValueError:
            inputs[name] = value
    return inputs
