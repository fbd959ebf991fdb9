"""Evaluate flags with the official Python flagd provider, as a client driver (see ../README.md).

A process of its own: the provider brings its own generated stubs, which cannot be loaded beside ours.
"""

import json
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Mapping
from enum import Enum
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import grpc
from openfeature import api
from openfeature.client import OpenFeatureClient
from openfeature.contrib.provider.flagd import FlagdProvider
from openfeature.contrib.provider.flagd.config import CacheType, Config, ResolverType
from openfeature.evaluation_context import EvaluationContext
from openfeature.event import EventDetails, ProviderEvent

EVENTS: Final = {
    "ready": ProviderEvent.PROVIDER_READY,
    "error": ProviderEvent.PROVIDER_ERROR,
    "stale": ProviderEvent.PROVIDER_STALE,
    "change": ProviderEvent.PROVIDER_CONFIGURATION_CHANGED,
}
CONVERTERS: Final[Mapping[str, Callable[[str], Any]]] = {"cache": CacheType, "resolver": ResolverType}
NOT_OPTIONS: Final = {"wait", "token"}


class Events:
    """The events that the application's handlers got, in their order; each is handed out once."""

    def __init__(self) -> None:
        self._arrived = threading.Condition()
        self._events: list[dict[str, Any]] = []
        self._next = 0

    def handler(self, name: str) -> Callable[[EventDetails], None]:
        """A handler as an application registers it."""

        def handle(details: EventDetails) -> None:
            code = details.error_code and details.error_code.value
            event = {"type": name, "flags": details.flags_changed or [], "errorCode": code, "message": details.message}
            with self._arrived:
                self._events.append(event)
                self._arrived.notify_all()

        return handle

    def forget(self) -> None:
        """Pass over all that has come."""
        with self._arrived:
            self._next = len(self._events)

    def take(self, name: str, timeout_s: float) -> dict[str, Any] | None:
        """The next event of a type, after whatever was taken before; what lies between is passed over."""
        deadline = time.monotonic() + timeout_s
        with self._arrived:
            while True:
                for place in range(self._next, len(self._events)):
                    if self._events[place]["type"] == name:
                        self._next = place + 1
                        return self._events[place]
                if not self._arrived.wait(deadline - time.monotonic()):
                    return None


def main() -> None:
    """Connect as the first line says, then answer one line with one line until the input ends."""
    config = json.loads(sys.stdin.readline())
    error = _connect(config) if "port" in config else None
    ready = "port" in config and config.get("wait", True) and error is None
    _say({"ready": ready, "error": error, "client": f"python {version('openfeature-provider-flagd')}"})
    client, events = api.get_client(), Events()
    for line in sys.stdin:
        request = json.loads(line)
        _say({"id": request["id"], **_answer(client, events, request=request)})
    api.shutdown()


def _connect(config: dict[str, Any]) -> str | None:
    options = _options({name: value for name, value in config.items() if name not in NOT_OPTIONS})
    options["resolver_type"] = options.pop("resolver", ResolverType.RPC)
    if "token" in config:
        authority = Path(options.pop("cert_path")).read_bytes()
        options["channel_credentials"] = grpc.composite_channel_credentials(
            grpc.ssl_channel_credentials(authority), grpc.access_token_call_credentials(config["token"])
        )
    provider = FlagdProvider(**{"tls": False, "cache": CacheType.DISABLED, **options})
    try:
        (api.set_provider_and_wait if config.get("wait", True) else api.set_provider)(provider)
    except Exception as error:  # An official client evaluates in the ERROR state too, so the driver goes on and tells.
        return f"{type(error).__name__}: {error}"
    return None


def _answer(client: OpenFeatureClient, events: Events, *, request: dict[str, Any]) -> dict[str, Any]:
    match request["op"]:
        case "evaluate":
            return _evaluate(client, request)
        case "evaluateMany":
            return {"answers": [_evaluate(client, question) for question in request["questions"]]}
        case "handle":
            client.add_handler(EVENTS[request["event"]], events.handler(request["event"]))
            return {}
        case "take":
            return {"event": events.take(request["event"], request["timeoutMs"] / 1000)}
        case "forget":
            events.forget()
            return {}
        case "status":
            return {"status": client.get_provider_status().value}
        case "config":
            return _config(request["environment"], request["options"])
        case unknown:
            return {"error": f"unknown op {unknown!r}"}


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


def _config(environment: dict[str, str], options: dict[str, Any]) -> dict[str, Any]:
    """What the provider makes of its environment variables and options, by the options' own names."""
    before = dict(os.environ)
    os.environ.update(environment)
    try:
        made = Config(**_options(options))
    except AttributeError as error:
        return {"config": None, "error": str(error)}
    finally:
        os.environ.clear()
        os.environ.update(before)
    return {"config": {_camel(name): _plain(value) for name, value in vars(made).items()}}


def _options(given: Mapping[str, Any]) -> dict[str, Any]:
    return {_snake(name): _typed(name, value) for name, value in given.items() if value is not None}


def _typed(name: str, value: Any) -> Any:
    convert = CONVERTERS.get(name)
    return convert(value) if convert else value


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else value


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(map(str.title, others))


def _say(message: dict[str, Any]) -> None:
    print(json.dumps(message), flush=True)


if __name__ == "__main__":
    main()
