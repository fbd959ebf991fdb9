"""Evaluate one flag by OFREP: every status and body."""

import json
from typing import Any, Final

import pytest

from server.core.environments import Environment
from server.core.evaluation.snapshots import build_snapshot
from server.core.flags import Flag, FlagConfig, FlagDefinition, ValueType
from server.core.flagsets import FlagSet
from server.core.resolution import Resolution
from server.live.holder import Holder
from tests.fakes import DEFAULT_SET, answer, holder_of, snapshot_of, static_flag
from tests.web.asking import SINGLE, app_of, post, sample

ANSWERS: Final[dict[str, tuple[int, dict[str, Any]]]] = {
    "boolean": (200, {"key": "boolean", "reason": "STATIC", "value": True, "variant": "on"}),
    "text": (200, {"key": "text", "reason": "STATIC", "value": "", "variant": "none"}),
    "object": (
        200,
        {
            "key": "object", "reason": "STATIC", "value": {"deep": [1, 1.0, None]}, "variant": "set",
            "metadata": {"owner": "shop", "level": 2},
        },
    ),
    # Without a value, the caller's own default holds.
    "disabled": (200, {"key": "disabled", "reason": "DISABLED"}),
    "off": (200, {"key": "off", "reason": "DISABLED", "value": False, "variant": "off"}),
    "no-default": (200, {"key": "no-default", "reason": "DEFAULT"}),
    "parse": (400, {"key": "parse", "errorCode": "PARSE_ERROR", "errorDetails": "operator 'x' is unknown"}),
    "general": (400, {"key": "general", "errorCode": "GENERAL", "errorDetails": "no variant 'y'"}),
    # OFREP knows no TYPE_MISMATCH: the client compares types.
    "mismatch": (400, {"key": "mismatch", "errorCode": "GENERAL", "errorDetails": "is a list"}),
    "keyless": (400, {"key": "keyless", "errorCode": "TARGETING_KEY_MISSING", "errorDetails": "send a targetingKey"}),
    "missing": (
        404,
        {
            "key": "missing", "errorCode": "FLAG_NOT_FOUND",
            "errorDetails": "flag 'missing' is not in flag set 'default/production'; check its key,"
            " or choose another set",
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("key", ANSWERS)
async def test_answers(key: str) -> None:
    """Each kind of answer has OFREP's status and body."""
    response = await post(SINGLE + key)

    assert ANSWERS[key] == (response.status_code, response.json())
    assert "application/json" == response.headers["content-type"]


@pytest.mark.parametrize(
    ("key", "written"),
    [("float", b'"value":1.0,'), ("whole", b'"value":1.0,'), ("integer", b'"value":10,')],
)
async def test_numbers_have_the_type_of_the_flag(key: str, written: bytes) -> None:
    """A float has a fraction though it is whole, an integer has none: Python's provider compares types."""
    response = await post(SINGLE + key)

    assert written in response.content


@pytest.mark.parametrize(
    ("body", "value"),
    [
        ({"context": {"age": 18}}, True),
        ({"context": {"age": 17.5}}, False),
        ({"context": {}}, False),
        ({"context": None}, False),
        ({}, False),
        ({"other": 1}, False),
    ],
)
async def test_context(body: dict[str, Any], value: bool) -> None:
    """The context decides; one without a targeting key will do, and so will none."""
    response = await post(SINGLE + "adult", body)

    assert (200, value) == (response.status_code, response.json()["value"])


@pytest.mark.parametrize("path", ["group/flag%20%C3%BC%3F%23", "group%2Fflag%20%C3%BC%3F%23"])
async def test_keys_are_percent_encoded(path: str) -> None:
    """A key may have any character; its slash may be encoded or not."""
    response = await post(SINGLE + path)

    assert (200, "group/flag ü?#") == (response.status_code, response.json()["key"])


async def test_an_empty_key_is_of_no_flag() -> None:
    """A path that ends with a slash asks for one flag, and not for all."""
    response = await post(SINGLE)

    assert (404, "", "FLAG_NOT_FOUND") == (
        response.status_code, response.json()["key"], response.json()["errorCode"],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("selector", "status", "code"),
    [
        ("flagSetId=shop/staging", 200, None),
        ("flagSetId=", 200, None),
        ("file.json", 200, None),
        ("source=file.json", 200, None),
        ("flagSetId=shop/none", 404, "FLAG_NOT_FOUND"),
        ("a=b", 400, "GENERAL"),
        ("flagSetId=a,source=b", 400, "GENERAL"),
        ("x" * 513, 400, "GENERAL"),
    ],
)
async def test_selector(selector: str, status: int, code: str | None) -> None:
    """The header chooses the flag set, in flagd's grammar."""
    staging = snapshot_of(static_flag(answer("boolean", False, variant="off")), flag_set="shop/staging")
    holder = holder_of(sample(), staging, aliases={("source", "file.json"): "shop/staging"})

    response = await post(SINGLE + "boolean", app=app_of(holder), headers={"flagd-selector": selector})

    assert (status, code) == (response.status_code, response.json().get("errorCode"))


async def test_selector_is_repeated_in_metadata() -> None:
    """Metadata repeats the selector, under what the flag itself has."""
    response = await post(SINGLE + "object", headers={"flagd-selector": f"flagSetId={DEFAULT_SET}"})

    assert {"flagSetId": DEFAULT_SET, "owner": "shop", "level": 2} == response.json()["metadata"]


async def test_nothing_loaded_yet() -> None:
    """A server that has loaded nothing asks for a moment, in seconds."""
    response = await post(SINGLE + "boolean", app=app_of(Holder(DEFAULT_SET)))

    assert (503, "1") == (response.status_code, response.headers["retry-after"])


async def test_encoded_once() -> None:
    """An answer that is given again is the same bytes, not encoded anew."""
    resolution = answer("boolean", True)
    app = app_of(holder_of(snapshot_of(static_flag(resolution))))

    await post(SINGLE + "boolean", app=app)
    resolution.wire["ofrep"] = (200, b'{"kept":true}')

    assert {"kept": True} == (await post(SINGLE + "boolean", app=app)).json()


@pytest.mark.parametrize("value", [float("nan"), {"x": float("inf")}, {"x": 10**5000}], ids=["nan", "infinite", "long"])
async def test_value_that_json_cannot_carry(value: Any) -> None:
    """Such a value is a failure of its flag, which says so."""
    flag = static_flag(Resolution("flag", ValueType.OBJECT, value, "v", answer("x", 1).reason))

    response = await post(SINGLE + "flag", app=app_of(holder_of(snapshot_of(flag))))

    assert (400, "GENERAL") == (response.status_code, response.json()["errorCode"])


@pytest.mark.parametrize("credentials", [{"authorization": "Bearer x"}, {"x-api-key": "x"}])
async def test_credentials_are_accepted(credentials: dict[str, str]) -> None:
    """Clients that send credentials are answered as others are."""
    response = await post(SINGLE + "boolean", headers=credentials)

    assert 200 == response.status_code


async def test_the_clock_cannot_be_forged() -> None:
    """A context's own `$flagd` is not what rules see."""
    targeting = {"if": [{">": [{"var": "$flagd.timestamp"}, 1_000_000_000]}, "on", "off"]}
    flag = Flag("timed", ValueType.BOOLEAN, {"on": True, "off": False})
    definition = FlagDefinition(flag, FlagConfig(default="off", targeting=targeting))
    flag_set = FlagSet(Environment("default", "production"), {"timed": definition})
    app = app_of(holder_of(build_snapshot(flag_set, revision=1)))

    response = await post(SINGLE + "timed", {"context": {"$flagd": {"timestamp": 0}}}, app=app)

    assert "on" == response.json()["variant"]


async def test_numbers_of_a_context_are_those_of_grpc() -> None:
    """An integer is the same unit of a split as its text, however it came."""
    units: list[dict[str, Any]] = [{"targetingKey": each} for each in (33333, 33333.0, "33333")]
    targeting = {"fractional": [{"cat": ["salt", {"var": "targetingKey"}]}, ["on", 50], ["off", 50]]}
    flag = Flag("half", ValueType.BOOLEAN, {"on": True, "off": False})
    definition = FlagDefinition(flag, FlagConfig(default="off", targeting=targeting))
    app = app_of(
        holder_of(build_snapshot(FlagSet(Environment("default", "production"), {"half": definition}), revision=1))
    )

    answers = {(await post(SINGLE + "half", {"context": unit}, app=app)).text for unit in units}

    assert 1 == len(answers), json.dumps(sorted(answers))
