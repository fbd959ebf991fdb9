"""Connect what is managed in the database: the services, the timed work, and who may."""

import asyncio
import contextlib
import os
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlalchemy import Engine
from starlette.routing import BaseRoute

from server.core.access import Principal
from server.core.actions.values import Asked, Done
from server.core.announcing.catalogue import CATALOGUE
from server.keys import hook_keys, secret_key
from server.live.callers import Callers
from server.live.holder import Holder
from server.live.kept_tokens import KeptTokens
from server.live.providers import HttpProviders
from server.live.recent import RecentContexts
from server.live.sessions import Sessions
from server.operations.actions import Ledger
from server.operations.change_requests.applying import Applying
from server.operations.deliveries.keeping import Retention
from server.operations.freezes import permit_unless_frozen
from server.operations.gate import Gate
from server.operations.guards.judging import Judging
from server.operations.guards.managing import Guards
from server.operations.hooks.formats import checks
from server.operations.hooks.managing import Hooks
from server.operations.identity import Identity
from server.operations.launch_plans.planning import LaunchPlans
from server.operations.pace import Pace, Paces
from server.operations.rules.running import RunningRules
from server.operations.tokens import Tokens
from server.operations.triggers import Triggers
from server.operations.writes import PermitFor, Writer
from server.rpc.access import guarded
from server.rpc.actions.choosing import choose
from server.rpc.actions.running import Actions
from server.rpc.actions.service import SERVICE as ACTIONS
from server.rpc.actions.triggering import Triggering
from server.rpc.doors.relay import Relay
from server.rpc.drain import Drain
from server.rpc.evaluation import evaluation_table
from server.rpc.hooks import hooks_table
from server.rpc.limits import limited
from server.rpc.managed import management_table
from server.rpc.management import THREADS_MAX, Management
from server.rpc.simulation import SERVICE as SIMULATION
from server.rpc.table import Table, merge
from server.scheduling.change_requests import ChangeRequestClock
from server.scheduling.clockwork import Clockwork
from server.scheduling.deliveries import DeliveryClock
from server.scheduling.nouns import timed_nouns
from server.settings import Settings
from server.store.engine import open_engine
from server.web.actions import action_routes
from server.web.calendars import calendar_route
from server.web.choices import choice_routes
from server.web.triggers import trigger_route
from webhooks.addresses import read_allowed
from webhooks.sealing import Sealer, derive_key
from webhooks.subscribed import Vault
from webhooks.subscriptions import Surroundings
from webhooks.urls import UrlRules

if TYPE_CHECKING:
    from server.live.issuer import Issuer
    from server.scheduling.delivering import Delivering

POLICIES: Final[tuple[PermitFor, ...]] = (permit_unless_frozen,)
"""What protects an environment from a management write, in the order in which it is asked."""

ASKING_MAX: Final = 8
"""Providers' answers that are awaited at once."""


def _now() -> datetime:
    return datetime.now(UTC)


class Managing:
    """The database, what is managed in it by calls, which wait for it in threads of their own, and who may."""

    def __init__(self, settings: Settings, holder: Holder, loop: asyncio.AbstractEventLoop) -> None:
        """Errors: InvalidRequest for a database URL that is none."""
        self.engine = open_engine(settings.database_url)
        self.recent = RecentContexts(settings.recent_contexts) if settings.recent_contexts else None
        self._loop = loop
        self._threads = ThreadPoolExecutor(THREADS_MAX, "flagstaff-management")
        self._callers = Callers(
            self.engine,
            partial(secret_key, self.engine, make=False),
            changed=self._changed,
            kept=None if settings.last_known_good is None else KeptTokens(settings.last_known_good),
        )
        self._sessions = Sessions()
        self._writer = Writer(self.engine, POLICIES, self._callers.who_is)
        self._change_requests = ChangeRequestClock(self.engine, Applying(self._writer), clock=_now)
        self._providers = HttpProviders(settings.providers)
        self._asking = ThreadPoolExecutor(ASKING_MAX, "flagstaff-providers")
        self._judging = Judging(self.engine, self._writer, _now, self._providers, pool=self._asking)
        self._management = Management(_now, self._threads)
        self._actions = Actions(self._management, Ledger(self.engine))
        rules = RunningRules(self.engine, self._do, self._callers.who_is)
        self._clockwork = Clockwork(self.engine, timed_nouns(self._writer, self._judging, rules), clock=_now)
        self._judging.wake = self._clockwork.wake
        self.paces = _paces(settings)
        self._issuer = _issuer(settings, changed=self._changed)
        identity = Identity(
            self._callers, settings.asking, foreign=self._issuer, certificates=settings.certificate_roles
        )
        self.gate = Gate(identity, holder, self._sessions, self.paces.per_token)
        self.hooks = Hooks(
            self.engine,
            partial(_surroundings, settings),
            partial(_vault, self.engine, settings.hook_keys_file),
        )
        self.metrics_gate = self.gate if settings.guard_metrics else None
        # Tools look at what a flag serves; that is no use of it.
        self._actions.serve(evaluation_table(holder, clock=time.time, drain=Drain()))
        self.calendar = calendar_route(LaunchPlans(self._writer).calendar, self.gate)
        keep = Retention(settings.keep_delivered_days, settings.keep_undelivered_days, settings.keep_events_days)
        self._deliveries = DeliveryClock(self.engine, partial(_delivering, self.engine, settings), retention=keep)
        self._watching: asyncio.Task[None] | None = None
        self._relay = None if settings.manager is None else Relay(settings.manager)
        """To the process that manages, where it is another one."""

    def table(self) -> Table:
        """Handlers of all services by which things are managed."""
        tokens = Tokens(self.engine, partial(_secret, self.engine), changed=self._callers.refresh)
        managed = management_table(
            self._management,
            self.engine,
            self._writer,
            tokens=tokens,
            recent=self.recent,
            recorded=self._judging.observed,
            guards=Guards(self._writer, self._providers, wake=self._clockwork.wake),
            actions=self._actions,
        )
        hooked = hooks_table(self._management, self.hooks)
        self._actions.serve(hooked)
        table = merge(managed, hooked)
        if self._relay is None:
            return table
        # Contexts that were evaluated lately are kept here, and leave this process for nobody. Tools act by HTTP, too,
        # and look at what is served.
        stay = (ACTIONS, *([] if self.recent is None else [SIMULATION]))
        here = {path: handler for path, handler in table.items() if path.split("/")[1] in stay}
        return {**self._relay.table(table), **here}

    def routes(self) -> list[BaseRoute]:
        """What is managed over HTTP."""
        triggers = Triggers(self._writer, partial(_secret, self.engine))
        triggering = Triggering(self._actions, triggers, self.paces.per_token)
        return [
            self.calendar,
            *action_routes(self._actions.run, self.gate),
            *choice_routes(partial(choose, self._actions), self.gate),
            trigger_route(triggering.admit, triggering.use),
        ]

    def guarded(self, table: Table) -> Table:
        """The same table, behind rates and access."""
        return limited(guarded(table, self.gate), self.paces)

    def start(self) -> None:
        """Begin to follow the tokens, and to look what is due unless another process does."""
        self._callers.start()
        if self._issuer is not None:
            self._issuer.start()
        self._watching = self._loop.create_task(self._sessions.watch())
        if self._relay is None:
            self._change_requests.start()
            self._clockwork.start()
            self._deliveries.start()

    async def end(self) -> None:
        """Let operations in flight end, and close the database."""
        if self._watching is not None:
            self._watching.cancel()
        if self._issuer is not None:
            self._issuer.stop()
        if self._relay is not None:
            await self._relay.close()
        clocks = (self._clockwork.stop, self._change_requests.stop, self._deliveries.stop)
        timed = (*(clocks if self._relay is None else ()), partial(self._asking.shutdown, cancel_futures=True))
        for end in (*timed, self._threads.shutdown, self._callers.stop, self.engine.dispose):
            await asyncio.to_thread(end)

    def _do(self, asked: Asked, principal: Principal) -> "Future[Done]":
        # Called from the clockwork's threads; actions are done beside the loop.
        return asyncio.run_coroutine_threadsafe(self._actions.run(asked, principal), self._loop)

    def _changed(self) -> None:
        # Called from the callers' thread, perhaps while the loop is closing.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._sessions.check)


def _secret(engine: Engine) -> bytes:
    return secret_key(engine, make=True) or b""


def _delivering(engine: Engine, settings: Settings) -> "Delivering":
    # With it come a client, and a library for cryptography.
    from server.scheduling.delivering import Delivering, Sender  # noqa: PLC0415

    keys = hook_keys(engine, settings.hook_keys_file, make=True)
    return Delivering(engine, Sender(keys, read_allowed(settings.hook_allow), settings.public_url))


def _issuer(settings: Settings, *, changed: Callable[[], None]) -> "Issuer | None":
    if settings.oidc is None:
        return None
    # With it comes a library for cryptography, which takes a while to load.
    from server.live.issuer import Issuer  # noqa: PLC0415

    return Issuer(settings.oidc, changed=changed)


def _surroundings(settings: Settings) -> Surroundings:
    rules = UrlRules(read_allowed(settings.hook_allow), http=settings.hook_allow_http)
    return Surroundings(rules, CATALOGUE, checks())


def _vault(engine: Engine, file: Path | None) -> Vault:
    return Vault(Sealer(map(derive_key, hook_keys(engine, file, make=True))), os.urandom)


def _paces(settings: Settings) -> Paces:
    token, address = settings.token_rate, settings.address_rate
    return Paces(
        None if token is None else Pace(token, "token"),
        None if address is None else Pace(address, "address"),
        settings.trusted_proxies,
    )
