"""Serve what a tool's user may choose from: `{"items": [{"value": ..., "label": ...}], "next_page_token": ...}`."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final, TypeAlias

from starlette.routing import Route

from server.core.access import Action, Principal
from server.core.actions.choices import LIMIT, LIMIT_MAX, Choices, Question
from server.operations.gate import Gate
from server.web.api import Answer, Endpoint, Incoming, answered
from server.web.replies import Reply

Choose: TypeAlias = Callable[[str, Question, Principal], Awaitable[Choices]]
"""(what, which of it, who asks) -> a page of it."""

PATHS: Final[Mapping[str, tuple[str, Action]]] = {
    "projects": ("/v1/projects", Action.IDENTIFY),
    "environments": ("/v1/projects/{project}/environments", Action.READ),
    "segments": ("/v1/projects/{project}/environments/{environment}/segments", Action.READ),
    "flags": ("/v1/projects/{project}/flags", Action.READ),
    # A flag's key may have slashes.
    "variants": ("/v1/projects/{project}/flags/{flag_key:path}/variants", Action.READ),
    "releases": ("/v1/projects/{project}/releases", Action.READ),
}


def choice_routes(choose: Choose, gate: Gate) -> list[Route]:
    """The routes; each tells what its caller may read."""
    return [
        Route(path, Endpoint(_chooses(what, choose), gate, action), methods=["GET"])
        for what, (path, action) in PATHS.items()
    ]


def _chooses(what: str, choose: Choose) -> Answer:
    async def answer(request: Incoming) -> Reply:
        question = Question(
            project=request.path.get("project", ""),
            environment=request.path.get("environment") or request.query.get("environment", ""),
            flag_key=request.path.get("flag_key", ""),
            search=request.query.get("search", ""),
            limit=request.number("limit", LIMIT, least=1, most=LIMIT_MAX),
            page_token=request.query.get("page_token", ""),
        )
        found = await choose(what, question, request.principal)
        items = [{"value": value, "label": label} for value, label in found.items]
        return answered(200, {"items": items, "next_page_token": found.next_page_token})

    return answer
