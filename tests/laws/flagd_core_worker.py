"""Answer rules with openfeature-flagd-core, one JSON line in, one out, in a process of its own.

Its protocol stubs cannot be loaded beside ours. The clock is in the question, as everywhere.
"""

import json
import logging
import sys
from typing import Any

from json_logic import jsonLogic  # type: ignore[import-untyped]  # It publishes no types.
from openfeature.contrib.tools.flagd.core.targeting.targeting import OPERATORS


def answer(question: dict[str, Any]) -> dict[str, Any]:
    """The rule's value, or what was raised."""
    context = {**question["context"], "$flagd": {"flagKey": question["flag_key"], "timestamp": question["now"]}}
    try:
        value = jsonLogic(question["rule"], context, OPERATORS)
        json.dumps(value)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}
    return {"value": value}


def main() -> None:
    """Answer until the questions end."""
    logging.disable()
    for line in sys.stdin:
        sys.stdout.write(json.dumps(answer(json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
