"""Put together what is served over HTTP: OFREP, its events, health, and the description of it all."""

import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from server.core.access import Action
from server.core.context import Enrichment
from server.live.holder import Holder
from server.live.watch import Hub
from server.operations.counts import Seen, unseen
from server.operations.gate import Gate
from server.web.access import by_query, by_selector, guarded
from server.web.cors import cors
from server.web.events import KEEP_ALIVE_S, STREAMS_MAX, Events
from server.web.ofrep import BulkEvaluation, Ofrep, SingleEvaluation
from server.web.ofrep_replies import EVALUATE_PATH, EVENTS_PATH
from server.web.openapi import PATH as OPENAPI_PATH
from server.web.openapi import openapi_route


@dataclass(frozen=True, slots=True)
class WebOptions:
    """What an operator can set for HTTP."""

    cors_origins: Sequence[str] = ()
    """Origins whose pages may ask; none, unless they are named."""

    max_staleness_s: float | None = None
    """How long the database may be gone before the server is not ready any more; None: for ever."""

    enrichment: Enrichment = field(default_factory=Enrichment)
    event_streams_max: int = STREAMS_MAX
    keep_alive_s: float = KEEP_ALIVE_S


_DEFAULTS = WebOptions()


def make_app(
    holder: Holder,
    hub: Hub,
    *,
    clock: Callable[[], float],
    leaving: Callable[[], bool],
    options: WebOptions = _DEFAULTS,
    seen: Seen = unseen,
    gate: Gate | None = None,
    more_routes: Sequence[BaseRoute] = (),
) -> Starlette:
    """The ASGI application over what `holder` serves; `leaving` tells whether the server is about to stop.

    Without a gate nobody is asked who they are.

    Units: clock gives seconds since 1970, UTC.
    """
    ofrep = Ofrep(holder, clock=clock, enrichment=options.enrichment, seen=seen)
    events = Events(
        holder,
        hub,
        clock=clock,
        chance=random.random,
        streams_max=options.event_streams_max,
        keep_alive_s=options.keep_alive_s,
    )
    entered = partial(guarded, gate=gate, action=Action.EVALUATE, place=by_selector)
    # Which flag sets there are is nobody's business who may not evaluate.
    tells_all = gate is None or gate.identity.needs_no_look(Action.EVALUATE)
    application = Starlette(
        routes=[
            # Looked at in this order: what is asked most stands first. A key may have slashes.
            Route(f"{EVALUATE_PATH}/{{key:path}}", entered(SingleEvaluation(ofrep)), methods=["POST"]),
            Route(EVALUATE_PATH, entered(BulkEvaluation(ofrep)), methods=["POST"]),
            Route(EVENTS_PATH, guarded(events, gate, Action.EVALUATE, place=by_query), methods=["GET"]),
            *_health_routes(holder, clock, leaving, options.max_staleness_s, tells_all=tells_all),
            openapi_route(),
            *more_routes,
        ],
        middleware=[cors(options.cors_origins, headers=options.enrichment.headers)] if options.cors_origins else [],
        exception_handlers={HTTPException: _refused, Exception: _failed},
    )
    # A path with one slash too many is no other path's name.
    application.router.redirect_slashes = False
    return application


def _health_routes(
    holder: Holder,
    clock: Callable[[], float],
    leaving: Callable[[], bool],
    max_staleness_s: float | None,
    *,
    tells_all: bool,
) -> list[Route]:
    async def healthz(_request: Request) -> Response:
        """The process answers."""
        return JSONResponse({"status": "ok"})

    async def readyz(_request: Request) -> Response:
        """Flags can be evaluated and are fresh enough: 200, else 503. Says also which revisions, and how stale."""
        serving = holder.serving
        stale_s = None if serving.stale_since is None else max(0.0, clock() - serving.stale_since)
        fresh = stale_s is None or max_staleness_s is None or stale_s <= max_staleness_s
        ready = holder.ready and fresh and not leaving()
        body: dict[str, Any] = {
            "ready": ready,
            "staleSince": serving.stale_since,
            # Which of several workers has answered.
            "pid": os.getpid(),
        }
        if tells_all:
            snapshots = serving.snapshots.items()
            if serving.stale_because:
                body["staleBecause"] = serving.stale_because
            body["flagSets"] = {name: {"revision": each.revision, "flags": len(each.flags)} for name, each in snapshots}
        return JSONResponse(body, status_code=200 if ready else 503)

    return [Route("/healthz", healthz), Route("/readyz", readyz)]


async def _refused(request: Request, error: Exception) -> Response:
    """What no route takes, as JSON."""
    assert isinstance(error, HTTPException)
    method, path = request.method, request.url.path[:80]
    details = {
        404: f"there is nothing at {path}; {OPENAPI_PATH} tells what there is",
        405: f"{method} is not a method of {path}; {OPENAPI_PATH} tells which there are",
    }.get(error.status_code, error.detail)
    return JSONResponse({"errorDetails": details}, status_code=error.status_code, headers=error.headers)


async def _failed(_request: Request, _error: Exception) -> Response:
    """What nobody expected. Starlette raises it again behind the answer, so that it is logged."""
    return JSONResponse({"errorDetails": "internal error; the server's log says more"}, status_code=500)
