"""Write hooks and deliveries as messages, and read the documents that messages ask for."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from google.protobuf.json_format import MessageToDict

from protos.flagstaff.v1 import hooks_pb2 as messages
from server.core.errors import InvalidRequest
from server.operations.hooks.delivered import Selection
from server.operations.hooks.telling import Shown
from server.rpc.timestamps import instant, timestamp
from webhooks.looking import Attempt, Delivery
from webhooks.redaction import HIDDEN
from webhooks.states import EndpointState, Ordering, Outcome, Status
from webhooks.subscribed import KeptSecret
from webhooks.subscriptions import FIELDS

STATES: Final = {each: messages.HookState.Value(f"HOOK_STATE_{each.name}") for each in EndpointState}
STATUSES: Final = {each: messages.DeliveryStatus.Value(f"DELIVERY_STATUS_{each.name}") for each in Status}
_STATUS_BY_NUMBER: Final = {int(number): status for status, number in STATUSES.items()}
_ORDERINGS: Final = {each: messages.HookOrdering.Value(f"HOOK_ORDERING_{each.name}") for each in Ordering}
_ORDERING_BY_NUMBER: Final = {0: None, **{int(number): each.value for each, number in _ORDERINGS.items()}}
_OUTCOMES: Final = {each: messages.DeliveryAttempt.Outcome.Value(f"OUTCOME_{each.name}") for each in Outcome}


def document_fields(hook: Any, names: Iterable[str] = FIELDS) -> dict[str, Any]:
    """The parts of a hook's document that these fields of a message say. Errors: InvalidRequest."""
    return {name: _READERS[name](hook) for name in names}


def hook_message(shown: Shown) -> messages.Hook:
    """A hook as it may be shown."""
    endpoint = shown.endpoint
    message = messages.Hook(
        project=endpoint.project,
        id=endpoint.id,
        name=endpoint.name,
        target_url=endpoint.url_shown,
        event_types=endpoint.filter.event_types,
        filter=messages.HookFilter(
            environments=endpoint.filter.environments,
            tags=endpoint.filter.tags,
            owners=endpoint.filter.owners,
            expression=endpoint.filter.expression,
        ),
        format=endpoint.format,
        secrets=dict.fromkeys(shown.secrets, HIDDEN),
        template=endpoint.template,
        headers=dict.fromkeys(shown.headers, HIDDEN),
        rate_per_s=None if endpoint.rate is None else endpoint.rate.per_s,
        burst=None if endpoint.rate is None else endpoint.rate.burst,
        concurrency=endpoint.concurrency,
        retry_schedule=() if endpoint.schedule is None else endpoint.schedule.delays_s,
        ordering=_ORDERINGS[endpoint.ordering],
        timeout_s=endpoint.timeout_s,
        source=endpoint.source,
        state=STATES[endpoint.state],
        why=endpoint.why,
        failing_since=None if endpoint.failing_since is None else timestamp(endpoint.failing_since),
        resting=endpoint.breaker_state != "closed",
        signing_secrets=[_secret(each) for each in endpoint.secrets],
        since_sequence=endpoint.since_sequence,
        version=endpoint.version,
        created_at=timestamp(endpoint.created_at),
        updated_at=timestamp(endpoint.updated_at),
    )
    message.settings.update(endpoint.settings)
    return message


def delivery_message(delivery: Delivery) -> messages.Delivery:
    """A delivery, with the attempts that were read."""
    return messages.Delivery(
        id=delivery.id,
        hook_id=delivery.endpoint_id,
        event_id=delivery.event_id,
        event_type=delivery.event_type,
        sequence=delivery.sequence,
        status=STATUSES[delivery.status],
        attempt_count=delivery.attempt_count,
        due_at=None if delivery.due_at is None else timestamp(delivery.due_at),
        created_at=timestamp(delivery.created_at),
        finished_at=None if delivery.finished_at is None else timestamp(delivery.finished_at),
        attempts=[_attempt(each) for each in delivery.attempts],
    )


def read_selection(given: Any) -> Selection:
    """Which deliveries a message means. Errors: InvalidRequest."""
    unknown = [each for each in given.statuses if each not in _STATUS_BY_NUMBER]
    if unknown:
        raise InvalidRequest(f"selection.statuses has {unknown[0]}, which is no DeliveryStatus")
    return Selection(
        tuple(_STATUS_BY_NUMBER[each] for each in given.statuses),
        tuple(given.delivery_ids),
        tuple(given.event_types),
        instant(given.since, "selection.since") if given.HasField("since") else None,
        instant(given.until, "selection.until") if given.HasField("until") else None,
    )


def _whole(value: Any) -> Any:
    """The same with whole numbers as such: a Struct has floats alone."""
    if isinstance(value, dict):
        return {name: _whole(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_whole(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value


def _ordering(hook: Any) -> str | None:
    if hook.ordering not in _ORDERING_BY_NUMBER:
        raise InvalidRequest(f"hook.ordering is {hook.ordering}, which is no HookOrdering")
    return _ORDERING_BY_NUMBER[hook.ordering]


def _secret(secret: KeptSecret) -> messages.SigningSecret:
    return messages.SigningSecret(
        number=secret.number,
        public_key=secret.public,
        created_at=timestamp(secret.created_at),
        expires_at=None if secret.expires_at is None else timestamp(secret.expires_at),
    )


def _attempt(attempt: Attempt) -> messages.DeliveryAttempt:
    return messages.DeliveryAttempt(
        number=attempt.number,
        outcome=_OUTCOMES[attempt.outcome],
        status_code=attempt.status_code or 0,
        error=attempt.error,
        started_at=timestamp(attempt.started_at),
        ended_at=None if attempt.ended_at is None else timestamp(attempt.ended_at),
    )


_READERS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "target_url": lambda hook: hook.target_url or None,
    "event_types": lambda hook: list(hook.event_types),
    "name": lambda hook: hook.name,
    "filter": lambda hook: {
        "environments": list(hook.filter.environments),
        "tags": list(hook.filter.tags),
        "owners": list(hook.filter.owners),
        "expression": hook.filter.expression,
    },
    "format": lambda hook: hook.format,
    "settings": lambda hook: _whole(MessageToDict(hook.settings)),
    "secrets": lambda hook: dict(hook.secrets),
    "template": lambda hook: hook.template,
    "headers": lambda hook: dict(hook.headers),
    "rate_per_s": lambda hook: hook.rate_per_s if hook.HasField("rate_per_s") else None,
    "burst": lambda hook: hook.burst if hook.HasField("burst") else None,
    "concurrency": lambda hook: hook.concurrency if hook.HasField("concurrency") else None,
    "retry_schedule": lambda hook: list(hook.retry_schedule) or None,
    "ordering": _ordering,
    "timeout_s": lambda hook: hook.timeout_s if hook.HasField("timeout_s") else None,
    "source": lambda hook: hook.source,
}
"""Field -> its part of the document."""
