"""Guard what automation has done: each request once, no loops, no flag too often, and which events came of it."""

import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Engine

from server.core.actions.values import ActionType, Asked, Causation, Done, done_json, read_done
from server.core.errors import InvalidRequest, Limited, Refused
from server.core.json import Json
from server.core.limits import KEY_CHARS_MAX
from server.store import actions as store
from server.store.engine import database_now, reading, writing
from webhooks.rates import Rate

HOPS_MAX: Final = 5
"""Automations one after the other; the next one is refused."""

FLAG_RATE: Final = Rate(per_s=0.2, burst=20)
"""Of one flag, release or segment in one environment, for all automation together."""

_PACED_NAMES: Final = {"flag_key": "flag", "release_id": "release", "segment_key": "segment"}
_PACED: Final = tuple(_PACED_NAMES)
"""What an action is about, by the inputs that say so; the first that is given counts."""


@dataclass(frozen=True, slots=True)
class Ledger:
    """What is known of the actions of one database."""

    engine: Engine

    def answered(self, actor: str, asked: Asked, now: datetime) -> Done | None:
        """What the same request was answered before. Errors: Conflict, InvalidRequest."""
        if not asked.idempotency_key:
            return None
        if len(asked.idempotency_key) > KEY_CHARS_MAX:
            raise InvalidRequest(
                f"the idempotency key has {len(asked.idempotency_key)} characters, at most {KEY_CHARS_MAX} are allowed"
            )
        if "\0" in asked.idempotency_key:
            raise InvalidRequest("the idempotency key has the character NUL, which cannot be stored; take it out")
        with reading(self.engine) as connection:
            kept = store.find_answer(connection, actor, key=asked.idempotency_key, digest=digest_of(asked), now=now)
        return None if kept is None else read_done(kept)

    def keep(self, actor: str, asked: Asked, done: Done, now: datetime) -> None:
        """Keep an answer for who asks again. Errors: Conflict, StoreUnavailable."""
        if asked.idempotency_key:
            with writing(self.engine, about=f"action/{actor}", tells=False) as connection:
                store.keep_answer(
                    connection,
                    actor,
                    key=asked.idempotency_key,
                    digest=digest_of(asked),
                    answer=done_json(done),
                    now=now,
                )

    def check_hops(self, project: str, causation: Causation) -> int:
        """How many automations led here. Errors: Refused when they are too many."""
        hops = max(0, causation.hops)
        if causation.id:
            with reading(self.engine) as connection:
                # A tool that passes on only the event's id is not believed to begin anew.
                hops = max(hops, store.hops_of(connection, project, causation.id))
        if hops >= HOPS_MAX:
            raise Refused(
                f"{hops} automations led here, one after the other, and {HOPS_MAX} are the most: they seem to answer "
                "one another in a loop; have one of them leave out what another one caused, or ask without "
                "Flagstaff-Causation and Flagstaff-Hops when this begins anew"
            )
        return hops

    def take_turn(self, type_: ActionType, inputs: Mapping[str, Json]) -> None:
        """Count a change of a flag. Errors: Limited, with when to come again."""
        name, thing = next(((name, inputs[name]) for name in _PACED if inputs.get(name)), ("", ""))
        if not type_.writes or not type_.is_paced or not thing:
            return
        # Keys of flags stand as they are, so that a bucket tells whose it is.
        key = str(thing) if name == _PACED[0] else f"{name}:{thing}"
        where = (str(inputs["project"]), str(inputs.get("environment", "")), key)
        with writing(self.engine, about=f"action_pace/{where[0]}", tells=False) as connection:
            now_s = database_now(connection).timestamp()
            wait_s = store.take_turn(connection, where, rate=FLAG_RATE, now_s=now_s)
        if wait_s:
            raise Limited(
                f"automation has changed {_PACED_NAMES[name]} {thing!r} too often: {FLAG_RATE.burst} times at once and "
                f"once every "
                f"{1 / FLAG_RATE.per_s:g} s are allowed; try again in {wait_s:.3g} s",
                wait_s,
            )

    def events_of(self, project: str, action_id: str) -> tuple[str, ...]:
        """The ids of the events that an action led to."""
        with reading(self.engine) as connection:
            return store.events_of(connection, project, action_id)


def action_id_of(actor: str, asked: Asked) -> str:
    """The id of a run: its own for each, the same where it is asked for again with its idempotency key."""
    if not asked.idempotency_key:
        return f"act_{secrets.token_hex(16)}"
    # With what is asked: a key that is used for something else long after is another run.
    named = "\0".join((actor, asked.idempotency_key, digest_of(asked)))
    return f"act_{hashlib.sha256(named.encode('utf-8', 'backslashreplace')).hexdigest()[:32]}"


def digest_of(asked: Asked) -> str:
    """SHA-256 of what is asked, whoever asks and because of which event."""
    content = [asked.name, asked.inputs, asked.reason, asked.cause, asked.dry_run, asked.expected_version]
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()
