"""Evaluate flags with bare flagd.evaluation.v2 calls and our own stubs, as a client driver (see ../README.md).

No provider stands between: response metadata and gRPC statuses are seen as they were sent.
"""

import json
import sys
from typing import Any, Final

import grpc
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message import Message

from protos.flagd.evaluation.v2 import evaluation_pb2 as messages
from protos.flagd.evaluation.v2.evaluation_pb2_grpc import ServiceStub

METHODS: Final = {"Boolean": "Boolean", "String": "String", "Integer": "Int", "Float": "Float", "Object": "Object"}
ERROR_CODES: Final = {
    grpc.StatusCode.NOT_FOUND: "FLAG_NOT_FOUND",
    grpc.StatusCode.INVALID_ARGUMENT: "TYPE_MISMATCH",
    grpc.StatusCode.DATA_LOSS: "PARSE_ERROR",
}
"""What every provider makes of a status; all others are GENERAL."""


def main() -> None:
    """Connect as the first line says, then answer one line with one line until the input ends."""
    config = json.loads(sys.stdin.readline())
    with grpc.insecure_channel(f"{config['host']}:{config['port']}") as channel:
        error = _connect(channel, config["deadlineMs"] / 1000)
        _say({"ready": error is None, "error": error, "client": f"grpcio {grpc.__version__}"})
        stub = ServiceStub(channel)
        for line in sys.stdin:
            request = json.loads(line)
            _say({"id": request["id"], **_answer(stub, request, config=config)})


def _connect(channel: grpc.Channel, timeout_s: float) -> str | None:
    try:
        grpc.channel_ready_future(channel).result(timeout=timeout_s)
    except grpc.FutureTimeoutError:
        return f"no connection within {timeout_s} s"
    return None


def _answer(stub: ServiceStub, request: dict[str, Any], *, config: dict[str, Any]) -> dict[str, Any]:
    if request["op"] == "evaluateMany":
        return {"answers": [_evaluate(stub, question, config=config) for question in request["questions"]]}
    return _evaluate(stub, request, config=config)


def _evaluate(stub: ServiceStub, request: dict[str, Any], *, config: dict[str, Any]) -> dict[str, Any]:
    name = METHODS[request["type"]]
    message = getattr(messages, f"Resolve{name}Request")(flag_key=request["key"])
    ParseDict(request["context"], message.context)
    selector = config.get("selector")
    headers = [("flagd-selector", selector)] if selector else []
    try:
        response = getattr(stub, f"Resolve{name}")(message, timeout=config["deadlineMs"] / 1000, metadata=headers)
    except grpc.RpcError as error:
        return _failure(error, request["default"])
    return {
        "value": _plain(response.value) if response.HasField("value") else request["default"],
        "variant": response.variant if response.HasField("variant") else None,
        "reason": response.reason,
        "errorCode": None,
        "errorMessage": None,
        "metadata": MessageToDict(response.metadata),
        "status": "OK",
        "absent": not response.HasField("value"),
    }


def _failure(error: Any, default: Any) -> dict[str, Any]:
    return {
        "value": default,
        "variant": None,
        "reason": "ERROR",
        "errorCode": ERROR_CODES.get(error.code(), "GENERAL"),
        "errorMessage": error.details(),
        "metadata": {},
        "status": error.code().name,
        "absent": True,
    }


def _plain(value: Any) -> Any:
    return MessageToDict(value) if isinstance(value, Message) else value


def _say(message: dict[str, Any]) -> None:
    print(json.dumps(message), flush=True)


if __name__ == "__main__":
    main()
