"""Set up what the server tells of itself: log lines, plain or JSON, and traces for OpenTelemetry."""

import json
import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from typing import TYPE_CHECKING, Final, TextIO
from urllib.parse import urlsplit

from server.core.errors import InvalidRequest

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

ENDPOINT_VARIABLES: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
SAMPLER_VARIABLE: Final = "OTEL_TRACES_SAMPLER"
SERVICE_VARIABLES: Final = ("OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES")
TRACES_PATH: Final = "/v1/traces"
NO_EXTRA: Final = 'traces need OpenTelemetry, which is not installed; `pip install "flagstaff[otel]"` brings it'

log = logging.getLogger("flagstaff.telemetry")

_POOL: Final = "sqlalchemy.pool"
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def set_up_logging(*, as_json: bool, level: str = "INFO", stream: TextIO = sys.stderr) -> None:
    """Send our log records to a stream, each on one line with its extra fields."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines() if as_json else PlainLines())
    handler.addFilter(lost_in_one_line)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("flagstaff").setLevel(level)


def lost_in_one_line(record: logging.LogRecord) -> bool:
    """Keep the tracebacks of SQLAlchemy's pool out of the log: a lost connection is nobody's mistake in our code.

    What is wrong with the database, whoever wanted something of it says.
    """
    if record.name.startswith(_POOL) and record.exc_info:
        error = record.exc_info[1]
        record.msg, record.args = "a connection to the database is lost and was given up", ()
        record.exc_info = record.exc_text = None
        record.error = type(error).__qualname__
    return True


class JsonLines(logging.Formatter):
    """One JSON object a record."""

    def format(self, record: logging.LogRecord) -> str:
        """Time, level, logger, message and extra fields; a traceback under `exception`."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **_extra(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


class PlainLines(logging.Formatter):
    """Time, level, message, then the extra fields as name=value."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, and the traceback below it if there is one."""
        time = datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        extra = "".join(f" {name}={value!r}" for name, value in _extra(record).items())
        line = f"{time} {record.levelname:<7} {record.getMessage()}{extra}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def _extra(record: logging.LogRecord) -> dict[str, object]:
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}


def set_up_tracing(endpoint: str | None, *, ratio: float, environ: Mapping[str, str]) -> "TracerProvider | None":
    """Send traces to an OTLP endpoint over HTTP; None when neither it nor OpenTelemetry's own variables name one.

    The caller shuts the provider down, which sends what is left. OpenTelemetry's variables hold for everything that
    is not given: OTEL_EXPORTER_OTLP_HEADERS, OTEL_TRACES_SAMPLER, OTEL_SERVICE_NAME and so on.
    Errors: InvalidRequest for a URL that is none, or when an endpoint was given and OpenTelemetry is not installed.
    """
    if endpoint is None and not any(environ.get(name) for name in ENDPOINT_VARIABLES):
        return None
    target = None if endpoint is None else traces_url(endpoint)
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased  # noqa: PLC0415
    except ImportError:
        if endpoint is not None:
            raise InvalidRequest(NO_EXTRA) from None
        # The variables are often set for everything in a cluster, whether it sends traces or not.
        log.warning(NO_EXTRA)
        return None
    named = any(environ.get(name) for name in SERVICE_VARIABLES)
    attributes = {**_version(), **({} if named else {"service.name": "flagstaff"})}
    provider = TracerProvider(
        # None: the SDK chooses by OTEL_TRACES_SAMPLER.
        sampler=None if environ.get(SAMPLER_VARIABLE) else ParentBased(TraceIdRatioBased(ratio)),
        resource=Resource.create(attributes),
        shutdown_on_exit=False,
    )
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=target)))
    return provider


def _version() -> dict[str, str]:
    try:
        return {"service.version": metadata.version("flagstaff")}
    except metadata.PackageNotFoundError:
        # Run from a checkout.
        return {}


def traces_url(endpoint: str) -> str:
    """Where traces go: the endpoint as given when it has a path, else its /v1/traces. Errors: InvalidRequest."""
    try:
        parts = urlsplit(endpoint)
        port_is_sound = parts.port is None or parts.port > 0
    except ValueError:
        raise InvalidRequest(_not_an_endpoint()) from None
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_is_sound:
        raise InvalidRequest(_not_an_endpoint())
    if "@" in parts.netloc or parts.query or parts.fragment:
        # Such a URL would be logged by the exporter when it fails.
        raise InvalidRequest(
            "the OTLP endpoint may have no user, password or query; give credentials by OTEL_EXPORTER_OTLP_HEADERS"
        )
    return endpoint if parts.path.strip("/") else endpoint.rstrip("/") + TRACES_PATH


def _not_an_endpoint() -> str:
    # The text itself is not repeated: it may hold a password.
    return "the OTLP endpoint is no URL; expected http://HOST:4318 or https://HOST/PATH"
