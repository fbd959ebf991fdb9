"""Do what an address is for, when somebody calls it."""

from dataclasses import dataclass, replace

from server.core.actions.presets import ALERTS_MAX, read_alerts
from server.core.actions.triggers import SIGNAL, Trigger, Used, effects_of, inputs_of
from server.core.actions.values import Asked, Done, Status
from server.core.errors import Limited, NotFound
from server.core.json import JsonObject
from server.operations.actions import action_id_of
from server.operations.pace import Pace
from server.operations.triggers import Admitted, Triggers
from server.rpc.actions.running import Actions
from webhooks.signing import Signed


@dataclass(frozen=True, slots=True)
class Triggering:
    """Answers calls of addresses."""

    actions: Actions
    triggers: Triggers
    pace: Pace | None = None
    """How much each may ask, as a token may."""

    async def admit(self, secret: str, signed: Signed) -> Admitted:
        """Let a call in. Errors: NotFound, Unauthenticated, Refused, Limited."""
        management = self.actions.management
        now = management.clock()
        admitted = await management.run(lambda: self.triggers.admit(secret, signed, now))
        if self.pace is not None:
            self.pace.require(admitted.trigger.actor)
        return admitted

    async def use(self, admitted: Admitted, asked: Asked, body: JsonObject) -> Used:
        """Do what it is for; `asked` says how: its key, what led to it, why.

        Errors: InvalidRequest for a body that is not the preset's; whatever its actions raise.
        """
        trigger = admitted.trigger
        alerts = read_alerts(trigger.preset, body) if trigger.preset else None
        results: list[Done] = []
        for place, (effect, alert) in enumerate(effects_of(trigger, alerts)):
            key = asked.idempotency_key
            one = replace(
                asked,
                name=effect.action,
                inputs=inputs_of(trigger, effect, alert),
                reason=asked.reason or (f"{alert.name}: {alert.text}" if alert else f"trigger {trigger.name!r}"),
                idempotency_key=f"{key}/{place}" if key else "",
            )
            results.append(await self._done(trigger, one, admitted))
        management = self.actions.management
        now = management.clock()
        await management.run(lambda: self.triggers.note_used(trigger, now))
        return Used(trigger.id, tuple(results), max(0, len(alerts or ()) - ALERTS_MAX))

    async def _done(self, trigger: Trigger, asked: Asked, admitted: Admitted) -> Done:
        try:
            return await self.actions.run(asked, admitted.principal)
        except Limited:
            raise
        except NotFound as error:
            if not (trigger.preset and asked.name == SIGNAL):
                raise
            # Of all the alerts of a tool most are nothing that a policy listens to.
            id = action_id_of(admitted.principal.actor, asked)
            return Done(id, asked.name, Status.NOOP, warnings=(str(error),))
