"""Serve actions over HTTP: `GET /v1/actions` describes them, `POST /v1/actions/NAME` has one done.

The body is one flat JSON object: the action's inputs, and how it is asked for (reason, dry_run, expected_version).
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeAlias

from starlette.routing import Route

from server.core.access import Action, Principal
from server.core.actions.catalogue import CATALOGUE
from server.core.actions.schemas import OPTIONS, input_schema
from server.core.actions.values import ActionType, Asked, Causation, Done, Status, done_json
from server.core.errors import InvalidDefinition, Problem
from server.core.json import Json
from server.core.limits import TEXT_CHARS_MAX
from server.operations.gate import Gate
from server.web.api import Answer, Endpoint, Incoming, answered
from server.web.replies import Reply
from server.web.requests import Headers, text_header

PATH: Final = "/v1/actions"
KEY_HEADER: Final = "idempotency-key"
CAUSATION_HEADER: Final = "flagstaff-causation"
HOPS_HEADER: Final = "flagstaff-hops"

HOPS_READ_MAX: Final = 1_000
CAUSATION_CHARS_MAX: Final = 100

Run: TypeAlias = Callable[[Asked, Principal], Awaitable[Done]]


def action_routes(run: Run, gate: Gate) -> list[Route]:
    """The routes; one for each action, so that figures and descriptions name it."""
    return [
        Route(PATH, Endpoint(_list, gate, Action.IDENTIFY), methods=["GET"]),
        *(
            Route(
                f"{PATH}/{type_.name}",
                Endpoint(_runs(type_, run), gate, type_.permission, reads_body=True),
                methods=["POST"],
            )
            for type_ in CATALOGUE.values()
        ),
    ]


async def _list(_request: Incoming) -> Reply:
    items = [
        {
            "name": type_.name,
            "title": type_.title,
            "description": type_.says,
            "permission": type_.permission.value,
            "writes": type_.writes,
            "schema": input_schema(type_),
        }
        for type_ in CATALOGUE.values()
    ]
    return answered(200, {"items": items})


def _runs(type_: ActionType, run: Run) -> Answer:
    async def answer(request: Incoming) -> Reply:
        body = request.object()
        done = await run(read_asked(type_.name, body, request.headers), request.principal)
        return done_reply(done)

    return answer


def done_reply(done: Done) -> Reply:
    """What became of an action; 202 where it waits for others, or for its time."""
    waits = done.status in (Status.PENDING_APPROVAL, Status.SCHEDULED)
    return answered(202 if waits else 200, done_json(done))


def read_asked(name: str, body: Mapping[str, Json], headers: Headers) -> Asked:
    """An action as a body and headers ask for it. Errors: InvalidDefinition with what is wrong with its options."""
    options = {key: value for key, value in body.items() if key in OPTIONS and value is not None}
    problems = [
        Problem(f"/{key}", f"expected {expected}")
        for key, value in options.items()
        for expected, fits in [_OPTIONS[key]]
        if not fits(value)
    ]
    causation = _causation(options, headers, problems)
    if problems:
        raise InvalidDefinition(problems)
    return Asked(
        name,
        {key: value for key, value in body.items() if key not in OPTIONS},
        reason=options.get("reason", ""),
        cause=options.get("cause", ""),
        dry_run=options.get("dry_run", False),
        expected_version=int(options.get("expected_version", 0)),
        idempotency_key=text_header(headers, KEY_HEADER) or "",
        causation=causation,
    )


def _causation(options: Mapping[str, Json], headers: Headers, problems: list[Problem]) -> Causation:
    """What led to a request: the body's word, and the headers' where the body has none."""
    hops = options.get("hops")
    if hops is None:
        given = text_header(headers, HOPS_HEADER) or "0"
        if not (given.isascii() and given.isdigit() and len(given) <= len(str(HOPS_READ_MAX))):
            problems.append(Problem("/hops", "the header Flagstaff-Hops is no whole number"))
            given = "0"
        hops = int(given)
    named = options.get("causation_id") or text_header(headers, CAUSATION_HEADER) or ""
    return Causation(str(named)[:CAUSATION_CHARS_MAX], int(hops) if isinstance(hops, int | float) else 0)


def _is_whole(value: Json) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and float(value).is_integer()


def _is_text(value: Json) -> bool:
    return isinstance(value, str) and len(value) <= TEXT_CHARS_MAX


_TEXT: Final = (f"a text of up to {TEXT_CHARS_MAX} characters", _is_text)
_OPTIONS: Final[Mapping[str, tuple[str, Callable[[Any], bool]]]] = {
    "reason": _TEXT,
    "cause": _TEXT,
    "causation_id": (
        f"a text of up to {CAUSATION_CHARS_MAX} characters",
        lambda value: isinstance(value, str) and len(value) <= CAUSATION_CHARS_MAX,
    ),
    "dry_run": ("true or false", lambda value: isinstance(value, bool)),
    "expected_version": (
        "a whole number from -1 to 2^53 - 1",
        lambda value: _is_whole(value) and -1 <= value < 2**53,
    ),
    "hops": (f"0 to {HOPS_READ_MAX}", lambda value: _is_whole(value) and 0 <= value <= HOPS_READ_MAX),
}
