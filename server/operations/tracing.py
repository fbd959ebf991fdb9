"""Tell a trace what was evaluated, as OpenTelemetry's event `feature_flag.evaluation`.

Imported only when tracing is on. The event has the flag and the answer; it has no context, no targeting key and no
value. Source: OpenTelemetry semantic conventions for feature flags.
"""

from typing import Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from server.core.evaluation.snapshot import Snapshot
from server.core.limits import KEY_CHARS_MAX
from server.core.resolution import Resolution

EVENT: Final = "feature_flag.evaluation"
PROVIDER: Final = "flagstaff"
TRACE_PARENT: Final = "traceparent"
TRACE_STATE: Final = "tracestate"

_PROPAGATOR: Final = TraceContextTextMapPropagator()


def seen_by_trace(snapshot: Snapshot, answer: Resolution, count: int = 1, /) -> None:
    """Add an evaluation to the span that is current, if it is one that is recorded."""
    span = trace.get_current_span()
    if not span.is_recording():
        return
    attributes: dict[str, str | int] = {
        "feature_flag.key": answer.flag_key[:KEY_CHARS_MAX],
        "feature_flag.provider.name": PROVIDER,
        "feature_flag.result.reason": answer.reason.lower(),
        "feature_flag.set.id": snapshot.flag_set,
        "feature_flag.version": str(snapshot.revision),
    }
    if answer.variant is not None:
        attributes["feature_flag.result.variant"] = answer.variant
    if answer.error_code is not None:
        attributes["error.type"] = answer.error_code.lower()
    if count != 1:
        attributes["flagstaff.evaluation.count"] = count
    span.add_event(EVENT, attributes)


def parent_of(trace_parent: str | None, trace_state: str | None) -> Context:
    """The caller's trace, from W3C's headers; an empty context when there is none or it is malformed."""
    if trace_parent is None:
        return Context()
    carrier = {TRACE_PARENT: trace_parent}
    if trace_state is not None:
        carrier[TRACE_STATE] = trace_state
    return _PROPAGATOR.extract(carrier, context=Context())
