"""Serve the description of the HTTP interface, which is written by hand beside this module."""

from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

PATH: Final = "/openapi.json"
DOCUMENT: Final = Path(__file__).with_name("openapi.json")


def openapi_route() -> Route:
    """GET /openapi.json."""
    document = DOCUMENT.read_bytes()

    async def openapi(_request: Request) -> Response:
        """The document as it is."""
        return Response(document, media_type="application/json")

    return Route(PATH, openapi)
