"""Serve the description of the HTTP interface: what is written by hand beside this module, and the actions'."""

import json
from pathlib import Path
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from server.web.openapi_actions import action_paths, action_schemas

PATH: Final = "/openapi.json"
DOCUMENT: Final = Path(__file__).with_name("openapi.json")


def description() -> dict[str, Any]:
    """The whole document."""
    document: dict[str, Any] = json.loads(DOCUMENT.read_text(encoding="utf-8"))
    components = document["components"]
    return {
        **document,
        "paths": {**document["paths"], **action_paths()},
        "components": {**components, "schemas": {**components["schemas"], **action_schemas()}},
    }


def openapi_route() -> Route:
    """GET /openapi.json."""
    document = json.dumps(description(), separators=(",", ":"), ensure_ascii=False).encode()

    async def openapi(_request: Request) -> Response:
        """The document as it is."""
        return Response(document, media_type="application/json")

    return Route(PATH, openapi)
