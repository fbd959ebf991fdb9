"""Serve flagstaff.v1.StalenessService: which flags are of no more use, and what people say of them."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from protos.flagstaff.v1 import staleness_pb2 as messages
from server.core.access import Principal
from server.core.errors import InvalidRequest
from server.core.flags import FlagKind
from server.core.limits import STALE_DAYS_MAX
from server.core.staleness import DEFAULT_POLICY, Assessment, StalePolicy, StaleState, assess
from server.operations.staleness.managing import Known, Staleness, StalenessWritten
from server.operations.staleness.telling import evidence, suggested_action
from server.operations.writes import Write, Written
from server.rpc.flag_messages import KINDS
from server.rpc.management import Management, named, result_of
from server.rpc.masks import masked
from server.rpc.paging import read_token, size_of, write_token
from server.rpc.table import Table, merge
from server.rpc.timestamps import instant, timestamp
from server.store.stale_lists import StaleFilter, StalePage
from server.store.staleness import StoredStaleness

SERVICE: Final = "flagstaff.v1.StalenessService"

_MASK: Final = ("lifetimes", "quiet_days", "unchanged_days", "grace_days")
_STATES: Final = {each: messages.StaleState.Value(f"STALE_STATE_{each.name}") for each in StaleState}
_STATE_BY_NUMBER: Final[Mapping[int, StaleState]] = {int(number): state for state, number in _STATES.items()}
_KIND_NUMBERS: Final[Mapping[FlagKind, Any]] = {kind: number for number, kind in KINDS.items()}
_LISTED: Final = (StaleState.POTENTIALLY_STALE, StaleState.STALE)


def staleness_table(management: Management, staleness: Staleness) -> Table:
    """The service's handlers."""
    service = _Staleness(management, staleness)
    return merge(
        management.writes(
            SERVICE,
            {
                "SnoozeStale": (messages.SnoozeStaleRequest, service.snooze),
                "MarkStale": (messages.MarkStaleRequest, service.mark),
                "ClearStale": (messages.ClearStaleRequest, service.clear),
                "MarkPermanent": (messages.MarkPermanentRequest, service.mark_permanent),
                "UpdateStalenessPolicy": (messages.UpdateStalenessPolicyRequest, service.update_policy),
            },
        ),
        management.reads(
            SERVICE,
            {
                "GetStaleness": (messages.GetStalenessRequest, service.get),
                "ListStaleFlags": (messages.ListStaleFlagsRequest, service.list),
                "GetStalenessPolicy": (messages.GetStalenessPolicyRequest, service.policy),
            },
        ),
    )


class _Staleness:
    def __init__(self, management: Management, staleness: Staleness) -> None:
        self._management, self._staleness = management, staleness

    def get(self, request: messages.GetStalenessRequest, _principal: Principal) -> messages.GetStalenessResponse:
        named(request, "project", "key")
        now = self._management.clock()
        return messages.GetStalenessResponse(flag=_known(self._staleness.read(request.project, request.key, now), now))

    def list(self, request: messages.ListStaleFlagsRequest, _principal: Principal) -> messages.ListStaleFlagsResponse:
        named(request, "project")
        wanted = StaleFilter(
            tuple(_state(number) for number in request.states) or _LISTED,
            request.owner,
            tuple(request.tags),
            tuple(_kind(number) for number in request.kinds),
        )
        now = self._management.clock()
        found, policy = self._staleness.list(request.project, wanted, _page(request))
        return messages.ListStaleFlagsResponse(
            flags=[_listed(each.stored, each.document, policy, now) for each in found.flags],
            next_page_token="" if found.is_last or found.end is None else write_token(json.dumps(found.end)),
            total_size=found.total,
        )

    def snooze(self, request: messages.SnoozeStaleRequest, write: Write) -> messages.StalenessResponse:
        named(request, "project", "key")
        until = _until(request, write.now)
        return _response(self._staleness.snooze(request.project, request.key, until, write), write.now)

    def mark(self, request: messages.MarkStaleRequest, write: Write) -> messages.StalenessResponse:
        named(request, "project", "key")
        return _response(self._staleness.mark(request.project, request.key, write), write.now)

    def clear(self, request: messages.ClearStaleRequest, write: Write) -> messages.StalenessResponse:
        named(request, "project", "key")
        return _response(self._staleness.clear(request.project, request.key, write), write.now)

    def mark_permanent(self, request: messages.MarkPermanentRequest, write: Write) -> messages.MarkPermanentResponse:
        named(request, "project", "key")
        written = self._staleness.mark_permanent(request.project, request.key, write)
        return messages.MarkPermanentResponse(result=result_of(written))

    def policy(
        self, request: messages.GetStalenessPolicyRequest, _principal: Principal
    ) -> messages.GetStalenessPolicyResponse:
        named(request, "project")
        return messages.GetStalenessPolicyResponse(policy=_policy(*self._staleness.policy(request.project)))

    def update_policy(
        self, request: messages.UpdateStalenessPolicyRequest, write: Write
    ) -> messages.UpdateStalenessPolicyResponse:
        named(request, "project")
        chosen = masked(request.update_mask, _MASK)
        if not chosen:
            raise InvalidRequest(f"update_mask is empty; name what is to be set, of: {', '.join(_MASK)}")
        given = request.policy
        values: dict[str, Any] = {
            "lifetimes": _lifetimes(given),
            "quiet_days": given.quiet_days,
            "unchanged_days": given.unchanged_days,
            "grace_days": given.grace_days,
        }
        changes = {name: value for name, value in values.items() if name in chosen}
        written = self._staleness.set_policy(request.project, lambda before: replace(before, **changes), write)
        return messages.UpdateStalenessPolicyResponse(
            policy=_policy(written.policy, written.version), result=result_of(Written(written.outcome))
        )


def _until(request: messages.SnoozeStaleRequest, now: datetime) -> datetime:
    if request.HasField("until") == bool(request.days):
        raise InvalidRequest("SnoozeStaleRequest needs until, an instant, or days, and not both")
    if request.HasField("until"):
        return instant(request.until, "until")
    if not 0 < request.days < STALE_DAYS_MAX:
        raise InvalidRequest(f"days is {request.days}, expected 1 to {STALE_DAYS_MAX - 1}")
    # By the day, so that what is sent again comes to the same.
    today = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return today + timedelta(days=request.days + 1)


def _page(request: messages.ListStaleFlagsRequest) -> StalePage:
    if request.order_by not in ("", "age", "key"):
        raise InvalidRequest(f"order_by is {request.order_by!r}, expected age or key")
    token = read_token(request.page_token)
    after: tuple[str, str] | None = None
    if token is not None:
        try:
            at, key = json.loads(token)
            datetime.fromisoformat(at)
            after = (at, str(key))
        except (ValueError, TypeError):
            raise InvalidRequest("page_token is not one of this list; begin without it") from None
    return StalePage(request.order_by != "key", after, size_of(request))


def _state(number: int) -> StaleState:
    state = _STATE_BY_NUMBER.get(number)
    if state is None:
        names = ", ".join(f"STALE_STATE_{each.name}" for each in StaleState)
        raise InvalidRequest(f"states has {number}, expected some of {names}")
    return state


def _kind(number: int) -> FlagKind:
    kind = KINDS.get(number)
    if kind is None:
        names = ", ".join(f"FLAG_KIND_{each.name}" for each in FlagKind)
        raise InvalidRequest(f"a kind is {number}, expected one of {names}")
    return kind


def _lifetimes(given: messages.StalenessPolicy) -> dict[FlagKind, int | None]:
    named_ = {_kind(each.kind): each.days for each in given.lifetimes}
    if len(named_) < len(given.lifetimes):
        raise InvalidRequest("policy.lifetimes names a kind twice")
    return {kind: named_.get(kind) for kind in DEFAULT_POLICY.lifetimes}


def _policy(policy: StalePolicy, version: int) -> messages.StalenessPolicy:
    return messages.StalenessPolicy(
        lifetimes=[
            messages.KindLifetime(kind=_KIND_NUMBERS[kind], days=days)
            for kind, days in policy.lifetimes.items()
            if days is not None
        ],
        quiet_days=policy.quiet_days,
        unchanged_days=policy.unchanged_days,
        grace_days=policy.grace_days,
        version=version,
    )


def _response(written: StalenessWritten, now: datetime) -> messages.StalenessResponse:
    return messages.StalenessResponse(flag=_known(written.known, now), result=result_of(Written(written.outcome)))


def _known(known: Known, now: datetime) -> messages.StaleFlag:
    message = _message(known.stored, known.assessed, now)
    flag = known.flag
    message.owner, message.description = flag.owner, flag.description
    message.tags.extend(flag.tags)
    message.kind = _KIND_NUMBERS[flag.kind]
    message.holders.extend(known.holders)
    return message


def _listed(
    stored: StoredStaleness, document: Mapping[str, Any], policy: StalePolicy, now: datetime
) -> messages.StaleFlag:
    message = _message(stored, assess(stored.facts, policy, now), now)
    message.owner = str(document.get("owner", ""))
    message.description = str(document.get("description", ""))
    message.tags.extend(str(tag) for tag in document.get("tags") or ())
    message.kind = _KIND_NUMBERS[FlagKind(document.get("kind") or FlagKind.RELEASE)]
    return message


def _message(stored: StoredStaleness, assessed: Assessment, now: datetime) -> messages.StaleFlag:
    facts = stored.facts
    # What is told is what was decided, also where the clock has gone on since.
    assessed = replace(assessed, state=stored.state)
    message = messages.StaleFlag(
        key=stored.key,
        state=_STATES[stored.state],
        rules=[each.rule.value for each in assessed.reasons],
        evidence=evidence(facts, assessed, now),
        created_at=timestamp(facts.created_at),
        changed_at=timestamp(facts.changed_at),
        one_variant=facts.served is not None,
        served_variant=None if facts.served is None else facts.served.variant,
        lifetime_days=facts.lifetime_days,
        said_by=stored.said_by,
        said=stored.said,
        exempt="" if facts.exempt is None else facts.exempt.value,
        suggested_action=suggested_action(facts, assessed),
    )
    for name, at in (("noticed_at", facts.noticed_at), ("stale_at", stored.stale_at)):
        if at is not None:
            getattr(message, name).CopyFrom(timestamp(at))
    if facts.snoozed_until is not None and facts.snoozed_until > now:
        message.snoozed_until.CopyFrom(timestamp(facts.snoozed_until))
    return message
