"""What all commands that talk to a server have in common."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from protos.flagstaff.v1 import evaluation_pb2 as messages
from server.cli.channel import read_address, read_token
from server.core.errors import InvalidRequest
from tests.cli.asking import app
from tests.cli.conftest import Ran, ran

OK = messages.EvaluateResponse(
    resolution=messages.Resolution(flag_key="payments", variant="on", reason=messages.REASON_STATIC, int_value=2**60),
    revision=7,
)


@dataclass
class Served:
    """What a server was told, and what it answers."""

    address: str = ""
    answer: Callable[[grpc.ServicerContext], Any] = lambda _context: OK
    metadata: list[dict[str, str]] = field(default_factory=list)
    requests: list[messages.EvaluateRequest] = field(default_factory=list)
    deadlines: list[float] = field(default_factory=list)


@pytest.fixture
def served() -> Iterator[Served]:
    """A server of one method, on a free port."""
    served = Served()

    def evaluate(request: messages.EvaluateRequest, context: grpc.ServicerContext) -> Any:
        served.requests.append(request)
        served.metadata.append({name: str(value) for name, value in context.invocation_metadata()})
        served.deadlines.append(context.time_remaining() or 0.0)
        return served.answer(context)

    handler = grpc.unary_unary_rpc_method_handler(
        evaluate,
        request_deserializer=messages.EvaluateRequest.FromString,
        response_serializer=messages.EvaluateResponse.SerializeToString,
    )
    with ThreadPoolExecutor(2) as threads:
        server = grpc.server(threads)
        methods = grpc.method_handlers_generic_handler("flagstaff.v1.EvaluationService", {"Evaluate": handler})
        server.add_generic_rpc_handlers((methods,))
        served.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        yield served
        server.stop(None).wait()


@dataclass(frozen=True)
class Line:
    """A command line with a file of profiles of its own."""

    config: Path

    def __call__(self, *arguments: str, text: str | None = None, **environment: str) -> Ran:
        """Run a command of tests/cli/asking.py."""
        return ran(app, arguments, text=text, **{"FLAGSTAFF_CONFIG": str(self.config), **environment})


@pytest.fixture
def line(tmp_path: Path) -> Line:
    """Where no profile is known yet."""
    return Line(tmp_path / "profiles.toml")


def _refusing(code: grpc.StatusCode, message: str, *details: Any) -> Callable[[grpc.ServicerContext], Any]:
    packed = []
    for detail in details:
        packed.append(AnyMessage())
        packed[-1].Pack(detail)

    def refuse(context: grpc.ServicerContext) -> Any:
        status = status_pb2.Status(code=code.value[0], message=message, details=packed)
        context.abort_with_status(rpc_status.to_status(status))

    return refuse


def test_a_reply_is_printed(line: Line, served: Served) -> None:
    """For people as the command says, for machines whole: numbers are numbers, enums words."""
    plain = line("ask", "payments", "--server", served.address)
    as_json = line("ask", "payments", "--json", FLAGSTAFF_SERVER=f"http://{served.address}")

    assert (0, "on\n") == (plain.code, plain.out)
    assert {"flagKey": "payments", "variant": "on", "reason": "static", "intValue": 2**60} == {
        name: as_json.json["resolution"][name] for name in ("flagKey", "variant", "reason", "intValue")
    }
    assert (7, "boolValue" in as_json.json["resolution"]) == (as_json.json["revision"], False)


def test_the_place_is_said_by_option_variable_or_profile(line: Line, served: Served) -> None:
    """In this order, then the default."""
    line.config.write_text('[default]\nproject = "shop"\nenvironment = "staging"\n', encoding="utf-8")
    line.config.write_text(line.config.read_text("utf-8") + f'server = "{served.address}"\n', encoding="utf-8")
    line("ask", "payments")
    line("ask", "payments", FLAGSTAFF_ENVIRONMENT="canary")
    line("ask", "payments", "--environment", "production", "--project", "bank", FLAGSTAFF_ENVIRONMENT="canary")
    line("ask", "payments", "--server", served.address)

    expected = ["shop/staging", "shop/canary", "bank/production", "default/production"]
    assert expected == [request.flag_set for request in served.requests]


def test_the_token_travels_with_each_call(line: Line, served: Served, tmp_path: Path) -> None:
    """From a variable, an option, a file, standard input or a profile."""
    (tmp_path / "token").write_text("in-file\n", encoding="ascii")
    at = ("--server", served.address)
    line("ask", "payments", *at, FLAGSTAFF_TOKEN="in-variable")
    line("ask", "payments", *at, "--token", "in-option")
    line("ask", "payments", *at, "--token-file", str(tmp_path / "token"))
    line("ask", "payments", *at, "--token-file", "-", text="in-text\n")
    line.config.write_text(f'[mine]\nserver = "{served.address}"\ntoken = "in-profile"\n', encoding="utf-8")
    line("--profile", "mine", "ask", "payments")
    line("ask", "payments", "--profile", "mine")
    line("ask", "payments", FLAGSTAFF_PROFILE="mine")
    line("ask", "payments", *at)

    told = [each.get("authorization") for each in served.metadata]
    sent = ("variable", "option", "file", "text", "profile", "profile", "profile")
    assert [*(f"Bearer in-{name}" for name in sent), None] == told


def test_a_profiles_token_goes_to_no_other_server(line: Line, served: Served) -> None:
    """Neither unasked, nor when both are named."""
    line.config.write_text('[default]\nserver = "elsewhere:1"\ntoken = "secret"\n', encoding="utf-8")
    line("ask", "payments", "--server", served.address)
    refused = line("--profile", "default", "ask", "payments", "--server", served.address)

    assert [None] == [each.get("authorization") for each in served.metadata]
    assert (1, True) == (refused.code, "is for elsewhere:1" in refused.err)
    assert "secret" not in refused.err


def test_a_token_that_travels_in_the_clear_is_warned_about(line: Line) -> None:
    """Unless it stays on this machine; the token itself is not told."""
    ran = line("ask", "x", "--server", "flags.invalid:1", "--timeout", "0.2", FLAGSTAFF_TOKEN="secret")

    assert "warning: the token goes to flags.invalid:1 unencrypted" in ran.err
    assert "secret" not in ran.err


def test_each_call_has_a_deadline(line: Line, served: Served) -> None:
    """That --timeout says; a header holds it in whole units, rounded up."""
    usual = line("ask", "payments", "--server", served.address)
    longer = line("ask", "payments", "--server", served.address, "--timeout", "5000")

    assert [(0, ""), (0, "")] == [(usual.code, usual.err), (longer.code, longer.err)]
    assert [True, True] == [0 < served.deadlines[0] < 70, 70 < served.deadlines[1] < 5_100], served.deadlines


def test_problems_are_told_a_line_each(line: Line, served: Served) -> None:
    """With their paths, as a local check tells them."""
    violation = error_details_pb2.BadRequest.FieldViolation
    served.answer = _refusing(
        grpc.StatusCode.INVALID_ARGUMENT,
        "two things are wrong",
        error_details_pb2.BadRequest(
            field_violations=[violation(field="/a", description="is odd"), violation(field="/b", description="is not")]
        ),
    )
    ran = line("ask", "payments", "--server", served.address)
    as_json = line("ask", "payments", "--server", served.address, "--json")

    assert (1, "", "/a: is odd\n/b: is not\n2 problems; nothing was changed\n") == (ran.code, ran.out, ran.err)
    told = json.loads(as_json.err)["error"]
    assert ("INVALID_ARGUMENT", "/b") == (told["code"], told["problems"][1]["path"])


def test_a_refusal_is_told_with_what_helps(line: Line, served: Served) -> None:
    """The message, when to ask again, what is missing."""
    wait = error_details_pb2.RetryInfo(retry_delay=Duration(seconds=2))
    served.answer = _refusing(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many requests", wait)
    limited = line("ask", "payments", "--server", served.address)
    served.answer = _refusing(grpc.StatusCode.UNAUTHENTICATED, "nobody knows who calls")
    unknown = line("ask", "payments", "--server", served.address)

    assert (1, "error: too many requests\ntry again in 2 s\n") == (limited.code, limited.err)
    assert (1, True) == (unknown.code, "hint: name a token by --token-file" in unknown.err)


def test_a_server_that_is_not_there_has_its_own_exit_code(line: Line, served: Served) -> None:
    """3, as for a database that a server cannot reach; the message says which server and what helps."""
    nobody = line("ask", "payments", "--server", "127.0.0.1:1")
    served.answer = _refusing(grpc.StatusCode.UNAVAILABLE, "the database is locked", error_details_pb2.RetryInfo())
    no_database = line("ask", "payments", "--server", served.address)

    assert (3, True) == (nobody.code, "is a server running at 127.0.0.1:1?" in nobody.err)
    assert (3, False) == (no_database.code, "is a server running" in no_database.err)


def test_a_method_that_is_not_there_is_of_another_version(line: Line, served: Served) -> None:
    """The hint says so."""
    served.answer = _refusing(grpc.StatusCode.UNIMPLEMENTED, "")
    ran = line("ask", "payments", "--server", served.address)

    assert (1, True) == (ran.code, "of another version" in ran.err)


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        ("APPLIED", "changed in default\n  reason: why\n  expected version: 3\nproduction is at revision 7\n"),
        ("UNCHANGED", "nothing to do: it is so already\n"),
        (
            "WOULD_APPLY",
            "a dry run: nothing was changed; this would be:\n  reason: why\n  expected version: 3\n"
            "production would be at revision 7\n",
        ),
    ],
)
def test_what_became_of_a_change_is_told(line: Line, outcome: str, expected: str) -> None:
    """In a line for each thing that differs; warnings on standard error."""
    ran = line("change", "--outcome", outcome, "--reason", "why", "--expected-version", "3")

    assert (0, expected, "warning: this looks unintended\n") == (ran.code, ran.out, ran.err)


def test_a_change_that_waits_names_its_request(line: Line) -> None:
    """Nothing was changed yet."""
    assert "change request cr-1 waits for approval" in line("change", "--outcome", "REQUESTED").out


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("localhost", ("localhost:8013", False)),
        ("flags.example.com:443", ("flags.example.com:443", False)),
        ("https://flags.example.com/", ("flags.example.com:8013", True)),
        ("http://[::1]:9", ("[::1]:9", False)),
        ("[::1]", ("[::1]:8013", False)),
        ("unix:/run/flags.sock", ("unix:/run/flags.sock", False)),
    ],
)
def test_a_server_is_named_by_its_address(text: str, expected: tuple[str, bool]) -> None:
    """HOST, HOST:PORT or a URL; https asks for TLS."""
    assert expected == read_address(text)


@pytest.mark.parametrize("text", ["", "ftp://x", "https://x/path", "a b"])
def test_what_is_no_address_is_refused(text: str) -> None:
    """The message has it."""
    with pytest.raises(InvalidRequest, match="server"):
        read_address(text)


@pytest.mark.parametrize("text", ["", "two words", "ünlaut", "two\nlines"])
def test_what_is_no_token_is_refused_and_not_told(text: str) -> None:
    """A wrong file would else be printed."""
    with pytest.raises(InvalidRequest) as refused:
        read_token(text)

    assert not text or text not in str(refused.value)
