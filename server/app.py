"""Make the parts of a server, connect them, start them and stop them in order."""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from prometheus_client import CollectorRegistry
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from server.collector import collect_seldom
from server.core.json import Json
from server.live.follower import Follower
from server.live.holder import Holder
from server.live.last_known_good import LastKnownGood
from server.live.watch import Hub, SetChange
from server.live.watchdog import Limits, Watchdog
from server.managing import Managing
from server.memory import return_memory
from server.operations.counts import SeenBy, both
from server.operations.requests import RequestLog
from server.rpc.doors.credentials import Proof, credentials
from server.rpc.doors.grpcio import GrpcServer
from server.rpc.drain import Drain
from server.rpc.metrics import measured
from server.rpc.services import make_services
from server.rpc.streams import StreamAge
from server.rpc.table import Table
from server.running import run_on_loop
from server.settings import Settings
from server.telemetry import set_up_tracing
from server.tls import TlsFiles
from server.web.app import WebOptions, make_app
from server.web.limits import limited as limit_http
from server.web.metrics import Sources, make_registry, metrics_route
from server.web.observed import observed
from server.web.peers import Peers
from server.web.server import HttpServer, listen

TRACER: Final = "flagstaff"
TRACES_END_S: Final = 5.0
"""What the last spans get to be sent."""

log = logging.getLogger("flagstaff.app")


@dataclass(frozen=True, slots=True)
class Listening:
    """Where a started server can be reached."""

    host: str
    grpc_port: int
    sync_port: int
    http_port: int
    tls: bool = False


def describe(listening: Listening, holder: Holder) -> dict[str, Json]:
    """What a started server tells of itself, as JSON."""
    snapshots = holder.serving.snapshots
    return {
        "event": "serving",
        "host": listening.host,
        "grpc_port": listening.grpc_port,
        "sync_port": listening.sync_port,
        "http_port": listening.http_port,
        "tls": listening.tls,
        "default_flag_set": holder.default_flag_set,
        "flag_sets": {name: {"revision": each.revision, "flags": len(each.flags)} for name, each in snapshots.items()},
    }


def run(settings: Settings, *, started: Callable[[dict[str, Json]], None], shared_ports: bool = False) -> None:
    """Run `serve` to its end, in a process that gives memory back."""
    return_memory()
    collect_seldom()
    run_on_loop(serve(settings, started=lambda *told: started(describe(*told)), shared_ports=shared_ports))


async def serve(
    settings: Settings, *, started: Callable[[Listening, Holder], None], shared_ports: bool = False
) -> None:
    """Run a server until SIGTERM or SIGINT. `started` is called once it can evaluate.

    SIGHUP reads everything anew from the database. `shared_ports` lets other processes of this user listen on the
    same ports; the system spreads connections over them.
    Errors: AddressUnavailable when a port is taken, InvalidRequest for a database URL that is none or files for TLS
    that do not work.
    """
    tls = _tls(settings)
    loop = asyncio.get_running_loop()
    holder, hub = Holder(settings.flag_set), Hub()
    sources = Sources(holder, hub, RequestLog(slow_s=settings.slow_s, access_log=settings.access_log))
    traces = _Traces(settings)
    managing = Managing(settings, holder, loop)
    services = make_services(
        holder,
        hub,
        clock=time.time,
        reflection=settings.reflection,
        enrichment=settings.enrichment,
        sync_metadata=settings.sync_metadata,
        stream_age=StreamAge(settings.max_connection_age_s),
        seen_by=traces.seen_by(sources.evaluations.counter),
        management=managing.table(),
        recent=managing.recent,
    )
    watchdog = Watchdog(
        holder,
        changed=services.health.refresh,
        measured=sources.loop_lag.add,
        limits=Limits(lag_s=settings.max_lag_s, stalled_after_s=settings.max_lag_for_s),
    )
    ready = asyncio.Event()

    def changed(changes: Sequence[SetChange]) -> None:
        sources.freshness.note(holder.serving.snapshots, now=time.time())
        # Called from the follower's thread, perhaps while the loop is closing.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(ready.set)
            loop.call_soon_threadsafe(services.health.refresh)
            loop.call_soon_threadsafe(hub.publish, changes)

    kept = None if settings.last_known_good is None else LastKnownGood(settings.last_known_good)
    follower = Follower(managing.engine, holder, last_known_good=kept, changed=changed)
    entered = measured(managing.guarded(services.table), sources.calls, log=sources.request_log)
    grpc_server = GrpcServer(traces.table(entered), services.drain, connection_age_s=settings.max_connection_age_s)
    stopping = _signals(loop, reload=follower.reload)
    with listen(settings.host, settings.http_port, reuse_port=shared_ports) as http_socket:
        grpc_port, sync_port = await _start_grpc(grpc_server, settings, tls, reuse_port=shared_ports)
        registry = make_registry(sources)
        peers = await _join_group(settings, registry)
        more = [metrics_route(registry, peers, gate=managing.metrics_gate), *managing.routes()]
        web = _web_app(settings, sources, traces, drain=services.drain, managing=managing, more_routes=more)
        http = HttpServer(web, None if tls is None else tls.context)
        http_task = asyncio.create_task(http.serve(sockets=[http_socket]))
        for start in (follower.start, managing.start, watchdog.start, *([] if tls is None else [tls.start])):
            start()
        listening = Listening(settings.host, grpc_port, sync_port, http_socket.getsockname()[1], tls=tls is not None)
        await _first(ready, stopping)
        if ready.is_set():
            # What was loaded lives long: the collector need not walk it again and again.
            gc.collect()
            gc.freeze()
            started(listening, holder)
        await stopping.wait()
        log.info("stopping")
        watchdog.stop()
        await grpc_server.drain(delay_s=settings.drain_delay_s, grace_s=settings.drain_grace_s)
        http.should_exit = True
        await http_task
        if peers is not None:
            await peers.stop()
        await asyncio.to_thread(follower.stop)
        await asyncio.to_thread(traces.end)
        await managing.end()
        if tls is not None:
            await asyncio.to_thread(tls.stop)


class _Traces:
    """Spans around what is served, where they are wanted; OpenTelemetry is imported only then."""

    def __init__(self, settings: Settings) -> None:
        """Errors: InvalidRequest when the endpoint cannot be used."""
        self._provider = set_up_tracing(settings.otlp_endpoint, ratio=settings.trace_ratio, environ=os.environ)

    def seen_by(self, counted: SeenBy) -> SeenBy:
        if self._provider is None:
            return counted
        from server.operations.tracing import seen_by_trace  # noqa: PLC0415

        return lambda protocol: both(counted(protocol), seen_by_trace)

    def table(self, table: Table) -> Table:
        if self._provider is None:
            return table
        from server.rpc.tracing import traced  # noqa: PLC0415

        return traced(table, self._provider.get_tracer(TRACER))

    def app(self, app: ASGIApp) -> ASGIApp:
        if self._provider is None:
            return app
        from server.web.tracing import traced  # noqa: PLC0415

        return traced(app, self._provider.get_tracer(TRACER))

    def end(self) -> None:
        """Send what is left, for as long as that may take."""
        if self._provider is not None:
            # Not in the loop's executor, whose threads are waited for without an end.
            ending = threading.Thread(target=self._provider.shutdown, name="flagstaff-traces", daemon=True)
            ending.start()
            ending.join(TRACES_END_S)


async def _join_group(settings: Settings, registry: CollectorRegistry) -> Peers | None:
    if settings.group_directory is None:
        return None
    peers = Peers(settings.group_directory, settings.group_place, registry)
    try:
        await peers.start()
    except OSError as error:
        # A directory with too long a name, or none that may be written: flags are served all the same.
        log.warning("/metrics shows the process alone that is asked", extra={"error": str(error)})
        return None
    return peers


def _web_app(
    settings: Settings,
    sources: Sources,
    traces: _Traces,
    *,
    drain: Drain,
    managing: Managing,
    more_routes: Sequence[BaseRoute],
) -> ASGIApp:
    options = WebOptions(
        cors_origins=settings.cors_origins, max_staleness_s=settings.max_staleness_s, enrichment=settings.enrichment
    )
    app = make_app(
        sources.holder,
        sources.hub,
        clock=time.time,
        leaving=lambda: drain.leaving,
        options=options,
        seen=traces.seen_by(sources.evaluations.counter)("ofrep"),
        gate=managing.gate,
        more_routes=more_routes,
    )
    observed_app = observed(limit_http(app, managing.paces), sources.requests, request_log=sources.request_log)
    return traces.app(observed_app)


def _signals(loop: asyncio.AbstractEventLoop, *, reload: Callable[[], None]) -> asyncio.Event:
    loop.add_signal_handler(signal.SIGHUP, reload)
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    return stopping


def _tls(settings: Settings) -> TlsFiles | None:
    if settings.tls_certificate is None or settings.tls_key is None:
        return None
    return TlsFiles(settings.tls_certificate, settings.tls_key, client_ca=settings.tls_client_ca)


async def _start_grpc(
    server: GrpcServer, settings: Settings, tls: TlsFiles | None, *, reuse_port: bool
) -> tuple[int, int]:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    addresses = [f"{host}:{settings.grpc_port}", f"{host}:{settings.sync_port}"]
    proof = None if tls is None else partial(credentials, partial(_proof, tls))
    ports = await server.start(addresses, reuse_port=reuse_port, credentials=proof)
    return ports[0], ports[1]


def _proof(tls: TlsFiles) -> Proof:
    current = tls.current
    return Proof(current.certificate, current.key, current.client_ca)


async def _first(*events: asyncio.Event) -> None:
    tasks = [asyncio.create_task(event.wait()) for event in events]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
