"""Evaluate flags with the official Python flagd provider, as a client driver (see ../README.md).

A process of its own: the provider brings its own generated stubs, which cannot be loaded beside ours.
"""

import json
import sys
from importlib.metadata import version
from typing import Any

from openfeature import api
from openfeature.client import OpenFeatureClient
from openfeature.contrib.provider.flagd import FlagdProvider
from openfeature.contrib.provider.flagd.config import CacheType, ResolverType
from openfeature.evaluation_context import EvaluationContext


def main() -> None:
    """Connect as the first line says, then answer one line with one line until the input ends."""
    config = json.loads(sys.stdin.readline())
    error = _connect(config)
    _say({"ready": error is None, "error": error, "client": f"python {version('openfeature-provider-flagd')}"})
    client = api.get_client()
    for line in sys.stdin:
        request = json.loads(line)
        _say({"id": request["id"], **_evaluate(client, request)})
    api.shutdown()


def _connect(config: dict[str, Any]) -> str | None:
    provider = FlagdProvider(
        resolver_type=ResolverType.RPC,
        host=config["host"],
        port=config["port"],
        tls=False,
        selector=config.get("selector"),
        cache=CacheType(config.get("cache", "disabled")),
        deadline_ms=config["deadlineMs"],
    )
    try:
        api.set_provider_and_wait(provider)
    except Exception as error:  # An official client evaluates in the ERROR state too, so the driver goes on and tells.
        return f"{type(error).__name__}: {error}"
    return None


def _evaluate(client: OpenFeatureClient, request: dict[str, Any]) -> dict[str, Any]:
    evaluate = getattr(client, f"get_{request['type'].lower()}_details")
    details = evaluate(request["key"], request["default"], _context(request["context"]))
    return {
        "value": details.value,
        "variant": details.variant,
        "reason": details.reason,
        "errorCode": details.error_code,
        "errorMessage": details.error_message,
        "metadata": dict(details.flag_metadata),
    }


def _context(attributes: dict[str, Any]) -> EvaluationContext:
    # Only a text fits the typed field. Anything else goes along as an attribute, which the provider writes over it.
    if isinstance(attributes.get("targetingKey"), str):
        return EvaluationContext(attributes.pop("targetingKey"), attributes)
    return EvaluationContext(None, attributes)


def _say(message: dict[str, Any]) -> None:
    print(json.dumps(message), flush=True)


if __name__ == "__main__":
    main()
