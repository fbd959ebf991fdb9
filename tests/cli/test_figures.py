"""Figures and log lines of `flagstaff serve`, as an operator gets them."""

import json
import signal
import time
import urllib.error
import urllib.request
from typing import Any

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families

from protos.flagstaff.v1 import evaluation_pb2 as messages
from protos.flagstaff.v1.evaluation_pb2_grpc import EvaluationServiceStub
from tests.cli.servers import TIMEOUT_S, Start, serving, stopped

EVALUATE = "/ofrep/v1/evaluate/flags"


def http(told: dict[str, Any], path: str, *, body: bytes | None = None, **headers: str) -> Any:
    """Ask over HTTP; the reply, also when it is a refusal."""
    url = f"http://127.0.0.1:{told['http_port']}{path}"
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(url, data=body, headers={"content-type": "application/json", **named})
    try:
        return urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        return error


def scraped(told: dict[str, Any]) -> dict[str, list[tuple[dict[str, str], float]]]:
    """(labels, value) of every sample, by its name."""
    with http(told, "/metrics") as reply:
        text = reply.read().decode()
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def call(told: dict[str, Any], key: str) -> messages.EvaluateResponse:
    """Ask over gRPC."""
    with grpc.insecure_channel(f"127.0.0.1:{told['grpc_port']}") as channel:
        reply: messages.EvaluateResponse = EvaluationServiceStub(channel).Evaluate(
            messages.EvaluateRequest(flag_key=key), timeout=TIMEOUT_S
        )
        return reply


def test_evaluations_of_every_door_are_counted(start: Start) -> None:
    """By protocol, under the flag set's name."""
    told = serving(start("--demo", "--json"))
    call(told, "button-colour")
    http(told, f"{EVALUATE}/banner", body=b'{"context": {"targetingKey": "alice"}}').close()
    http(told, EVALUATE, body=b'{"context": {"targetingKey": "alice"}}').close()
    figures = scraped(told)

    counted: dict[str, float] = {}
    for labels, value in figures["flagstaff_evaluations_total"]:
        assert "default/production" == labels["flag_set"]
        counted[labels["protocol"]] = counted.get(labels["protocol"], 0) + value
    assert {"flagstaff": 1, "ofrep": 8} == counted
    assert [({"flag_set": "default/production"}, 7)] == figures["flagstaff_flags"]
    assert [({"method": "/flagstaff.v1.EvaluationService/Evaluate", "status": "OK"}, 1)] == [
        each for each in figures["flagstaff_rpc_calls_total"] if "grpc." not in each[0]["method"]
    ]


@pytest.mark.parametrize("workers", [2])
def test_one_scrape_shows_all_workers(start: Start, workers: int) -> None:
    """Whichever of them is asked; what was counted is there, wherever it was."""
    told = serving(start("--demo", "--json", f"--workers={workers}"))
    for _ in range(4):
        call(told, "button-colour")
    until = time.monotonic() + TIMEOUT_S
    while (figures := scraped(told))["flagstaff_workers"] != [({}, workers)] and time.monotonic() < until:
        time.sleep(0.05)

    assert {"0", "1"} == {labels["worker"] for labels, _ in figures["flagstaff_ready"]}
    assert 4 == sum(value for _, value in figures["flagstaff_evaluations_total"])


def test_a_refused_request_has_a_line(start: Start) -> None:
    """With the id that the caller sent and got back, and with nothing of what it asked."""
    process = start("--demo", "--json", "--log-json")
    path, body = f"{EVALUATE}/s3cret?token=s3cret", b'{"context": {"a": "s3cret"}}'
    with http(serving(process), path, body=body, x_request_id="my-id") as reply:
        told = reply.headers["x-request-id"]
    _, _, err = stopped(process)

    lines = [json.loads(line) for line in err.splitlines()]
    (line,) = [each for each in lines if each["logger"] == "flagstaff.requests"]
    assert ("my-id", "my-id", "404") == (told, line["request_id"], line["status"])
    assert "s3cret" not in err


def test_the_access_log_has_every_request(start: Start) -> None:
    """Where it is asked for."""
    process = start("--demo", "--json", "--log-json", "--access-log")
    told = serving(process)
    call(told, "button-colour")
    http(told, "/readyz").close()
    _, _, err = stopped(process)

    lines = [json.loads(line) for line in err.splitlines()]
    assert {("/flagstaff.v1.EvaluationService/Evaluate", "OK"), ("GET /readyz", "200")} <= {
        (each["method"], each["status"]) for each in lines if each["logger"] == "flagstaff.requests"
    }


def test_a_server_that_stood_still_is_not_ready(start: Start) -> None:
    """Health says no when its loop comes to itself, and yes again when it has kept up for a while."""
    process = start("--demo", "--json", "--log-json", "--max-lag=0.5", "--max-lag-for=1")
    told = serving(process)

    def wait_for(status: int) -> int:
        until = time.monotonic() + TIMEOUT_S
        while time.monotonic() < until:
            with http(told, "/readyz") as reply:
                if reply.status == status:
                    return status
            time.sleep(0.02)
        return 0

    process.send_signal(signal.SIGSTOP)
    time.sleep(2)
    process.send_signal(signal.SIGCONT)

    assert (503, 200) == (wait_for(503), wait_for(200))
    _, _, err = stopped(process)
    messages = [json.loads(line)["message"] for line in err.splitlines()]
    assert "the event loop is too late: health says NOT_SERVING" in messages
