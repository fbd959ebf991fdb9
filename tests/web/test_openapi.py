"""The served description against the routes, and against what is answered."""

import tomllib
from pathlib import Path
from typing import Any, Final

import jsonschema_rs
import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from server.web.openapi import PATH, description
from tests.fakes import holder_of, snapshot_of
from tests.web.asking import BULK, SINGLE, app_of, client_of, post, sample

OPENAPI: Final[dict[str, Any]] = description()
ROOT: Final = Path(__file__).parents[2]
OF_THE_WHOLE_SERVER: Final = {("/metrics", "GET")}
"""Described, and added by server/app.py."""


async def test_is_served() -> None:
    """As it is written, as JSON."""
    async with client_of(app_of()) as client:
        response = await client.get(PATH)

    assert (OPENAPI, "application/json") == (response.json(), response.headers["content-type"])


def test_describes_every_route() -> None:
    """What is served is described, with its methods, and nothing else is."""
    app = app_of()
    assert isinstance(app, Starlette)
    served = {
        (route.path.replace(":path}", "}"), method)
        for route in app.routes
        if isinstance(route, Route)
        for method in (route.methods or set()) - {"HEAD"}
    }

    described = {
        (path, method.upper())
        for path, methods in OPENAPI["paths"].items()
        # What tools ask for has tests of its own.
        if not path.startswith("/v1/")
        for method in methods
    }
    assert served == described - OF_THE_WHOLE_SERVER


def test_has_the_version_of_the_project() -> None:
    """The description is of this version."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    assert project["version"] == OPENAPI["info"]["version"]


def test_every_reference_leads_somewhere() -> None:
    """No part of the document refers to one that is not there."""

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            if "$ref" in node:
                target: Any = OPENAPI
                for step in node["$ref"].removeprefix("#/").split("/"):
                    target = target[step]
            for each in node.values():
                walk(each)
        elif isinstance(node, list):
            for each in node:
                walk(each)

    walk(OPENAPI)


def complaints(path: str, status: int, body: Any) -> list[str]:
    """What the description of a reply has against it."""
    response = OPENAPI["paths"][path]["post"]["responses"][str(status)]
    if "$ref" in response:
        response = OPENAPI["components"]["responses"][response["$ref"].rpartition("/")[2]]
    schema = {**response["content"]["application/json"]["schema"], "components": OPENAPI["components"]}
    return [str(error) for error in jsonschema_rs.Draft202012Validator(schema).iter_errors(body)]


@pytest.mark.parametrize("key", [*sorted(set(sample().flags) - {"group/flag ü?#"}), "missing"])
async def test_single_answers_are_as_described(key: str) -> None:
    """Each kind of answer is one of those that the description has for its status."""
    response = await post(SINGLE + key)

    assert [] == complaints("/ofrep/v1/evaluate/flags/{key}", response.status_code, response.json())


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"{}", {}),
        (b"{}", {"flagd-selector": "flagSetId=default/production"}),
        (b"{", {}),
        (b"{}", {"flagd-selector": "a=b"}),
        (b"{}", {"content-type": "text/plain"}),
        (b"{}" + b" " * 1024 * 1024, {}),
    ],
)
async def test_bulk_answers_are_as_described(body: bytes, headers: dict[str, str]) -> None:
    """The same for all flags together, and for each refusal."""
    response = await post(BULK, body, headers=headers)

    assert [] == complaints("/ofrep/v1/evaluate/flags", response.status_code, response.json())


async def test_an_answer_that_is_not_as_described_is_found() -> None:
    """The comparison can fail."""
    answer = (await post(BULK, app=app_of(holder_of(snapshot_of())))).json()

    assert complaints("/ofrep/v1/evaluate/flags", 200, {**answer, "flags": [{"key": "x"}]})
