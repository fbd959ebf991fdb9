"""Evaluate flags with the official Python OFREP provider, as a client driver (see ../README.md)."""

import json
import sys
from importlib.metadata import version
from typing import Any

from openfeature import api
from openfeature.client import OpenFeatureClient
from openfeature.contrib.provider.ofrep import OFREPProvider
from openfeature.evaluation_context import EvaluationContext


def main() -> None:
    """Connect as the first line says, then answer one line with one line until the input ends."""
    config = json.loads(sys.stdin.readline())
    headers = {"flagd-selector": config["selector"]} if "selector" in config else {}
    if "token" in config:
        headers["authorization"] = f"Bearer {config['token']}"
    base_url, timeout_s = f"http://{config['host']}:{config['port']}", config["deadlineMs"] / 1000
    api.set_provider_and_wait(OFREPProvider(base_url, headers_factory=lambda: headers, timeout=timeout_s))
    _say({"ready": True, "error": None, "client": f"ofrep-python {version('openfeature-provider-ofrep')}"})
    client = api.get_client()
    for line in sys.stdin:
        request = json.loads(line)
        _say({"id": request["id"], **_evaluate(client, request)})
    api.shutdown()


def _evaluate(client: OpenFeatureClient, request: dict[str, Any]) -> dict[str, Any]:
    evaluate = getattr(client, f"get_{request['type'].lower()}_details")
    attributes = dict(request["context"])
    details = evaluate(
        request["key"], request["default"], EvaluationContext(attributes.pop("targetingKey", None), attributes)
    )
    return {
        "value": details.value,
        "variant": details.variant,
        "reason": details.reason,
        "errorCode": details.error_code,
        "errorMessage": details.error_message,
        "metadata": dict(details.flag_metadata),
    }


def _say(message: dict[str, Any]) -> None:
    print(json.dumps(message), flush=True)


if __name__ == "__main__":
    main()
