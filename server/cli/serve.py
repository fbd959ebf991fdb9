"""The command `flagstaff serve`: run a server until it is told to stop."""

import json
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from server.cli.access import asking_of, certificate_roles, first_token, is_loopback, issuer_trust, warn_open
from server.cli.hook_settings import checked_allow, checked_keys
from server.cli.import_ import actor_name
from server.cli.options import (
    DEFAULT_DATABASE_URL,
    DEFAULT_ENVIRONMENT,
    DEFAULT_PROJECT,
    AsJson,
    DatabaseUrl,
    EnvironmentName,
    Project,
    option,
)
from server.cli.output import reports_failures
from server.cli.providers import read_providers
from server.cli.serving import Told, as_text

if TYPE_CHECKING:
    from server.settings import Settings

HELP: Final = """Serve flags over gRPC until SIGTERM or Ctrl-C.

Serves Flagstaff's own API (flagstaff.v1), flagd's (flagd.evaluation.v1 and v2, flagd.sync.v1), health and reflection,
and OFREP over HTTP. Evaluation needs no database once flags are loaded; when the database goes away, the last good
flags are served, and they are also kept in files for a start without it.

\b
  flagstaff serve --demo                                       with a small shop's sample flags
  flagstaff serve --project shop --environment staging         what clients get that name no flag set
  flagstaff serve --database-url sqlite:////var/lib/flagstaff/flags.db --log-json
  flagstaff serve --grpc-port 0 --sync-port 0 --http-port 0 --json    free ports, told as one JSON line
  flagstaff serve --tls-cert cert.pem --tls-key key.pem        gRPC and HTTP by TLS
  flagstaff serve --workers 4                                  four processes on the same ports
  flagstaff serve --host 0.0.0.0 --require-token               for everybody who has a token
  flagstaff serve --database-url postgresql+psycopg://flags:PASSWORD@db/flags    a database that many servers share

Signals: SIGTERM and SIGINT stop after calls in flight have ended, SIGHUP reads everything anew.
"""

NO_DIRECTORY: Final = "off"
LAST_KNOWN_GOOD_SUFFIX: Final = ".last-known-good"


class LogLevel(StrEnum):
    """How much is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class Management(StrEnum):
    """Where flags are managed."""

    HERE = "here"
    APART = "apart"


def _port(name: str, help: str) -> Any:
    return option(name, f"{help} 0 takes a free one.", min=0, max=65_535)


@reports_failures
def serve(
    *,
    database_url: DatabaseUrl = DEFAULT_DATABASE_URL,
    host: Annotated[str, option("--host", "The address to listen on.")] = "127.0.0.1",
    grpc_port: Annotated[int, _port("--grpc-port", "gRPC.")] = 8013,
    sync_port: Annotated[int, _port("--sync-port", "gRPC again, where flagd's in-process providers look.")] = 8015,
    http_port: Annotated[int, _port("--http-port", "HTTP: OFREP, /healthz, /readyz, /metrics, /openapi.json.")] = 8016,
    project: Project = DEFAULT_PROJECT,
    environment: EnvironmentName = DEFAULT_ENVIRONMENT,
    workers: Annotated[
        int, option("--workers", "Processes that share the ports; one for each core is a good number.", min=1, max=128)
    ] = 1,
    management: Annotated[
        Management,
        option(
            "--management",
            "Where flags are managed: `here`, by each process that serves them, or `apart`, by one of its own, so that "
            "evaluations do not wait for it.",
        ),
    ] = Management.HERE,
    demo: Annotated[bool, option("--demo", "Load sample flags, if the environment has no flags yet.")] = False,
    last_known_good: Annotated[
        str | None,
        option(
            "--last-known-good",
            "Directory for the last good flags, or `off`; else beside the database's file, or here: its name and "
            ".last-known-good.",
        ),
    ] = None,
    tls_cert: Annotated[
        Path | None, option("--tls-cert", "Serve by TLS, gRPC and HTTP alike: the certificate with its chain, PEM.")
    ] = None,
    tls_key: Annotated[Path | None, option("--tls-key", "The certificate's key, PEM without a passphrase.")] = None,
    tls_client_ca: Annotated[
        Path | None,
        option("--tls-client-ca", "Demand certificates of clients too, signed by these, PEM; needs --tls-cert."),
    ] = None,
    certificate_role: Annotated[
        list[str] | None,
        option(
            "--certificate-role",
            "NAME=ROLE, NAME=ROLE@PROJECT and so on: what the owner of a client certificate with that name may do; "
            "needs --tls-client-ca. Repeatable.",
        ),
    ] = None,
    oidc_issuer: Annotated[
        str | None,
        option("--oidc-issuer", "Take access tokens of this OpenID Connect issuer, too: its https:// address."),
    ] = None,
    oidc_audience: Annotated[
        list[str] | None, option("--oidc-audience", "For whom they must have been issued. Repeatable.")
    ] = None,
    oidc_role: Annotated[
        list[str] | None,
        option(
            "--oidc-role",
            "CLAIM=VALUE:ROLE, such as groups=shop-team:edit@shop: who has the value in the claim has the role. "
            "Repeatable.",
        ),
    ] = None,
    oidc_algorithm: Annotated[
        list[str] | None, option("--oidc-algorithm", "How they must be signed; else RS256 or ES256. Repeatable.")
    ] = None,
    require_token: Annotated[
        bool, option("--require-token", "Ask everyone for a token, also who only evaluates. Health stays public.")
    ] = False,
    is_open: Annotated[
        bool, option("--open", "Ask nobody for a token, on whatever address; on loopback that is so anyway.")
    ] = False,
    limit_per_token: Annotated[
        str | None,
        option("--limit-per-token", "RATE or RATE:BURST: requests a second of one token, and how many at once."),
    ] = None,
    limit_per_address: Annotated[
        str | None, option("--limit-per-address", "The same for one address; for IPv6 its whole /64.")
    ] = None,
    trusted_proxy: Annotated[
        list[str] | None,
        option(
            "--trusted-proxy",
            "An address or range, such as 10.0.0.0/8, whose x-forwarded-for is believed. Repeatable.",
        ),
    ] = None,
    guard_metrics: Annotated[
        bool, option("--guard-metrics", "Show /metrics only to those who have the role read on the whole server.")
    ] = False,
    drain_delay_s: Annotated[
        float, option("--drain-delay", "Seconds between saying NOT_SERVING and refusing calls.", min=0)
    ] = 1.0,
    drain_grace_s: Annotated[float, option("--drain-grace", "Seconds that calls in flight get to end.", min=0)] = 5.0,
    max_connection_age_s: Annotated[
        float | None,
        option(
            "--max-connection-age",
            "Seconds, give or take a tenth, after which gRPC clients are asked to connect anew and streams end.",
            min=1,
        ),
    ] = None,
    cors_origin: Annotated[
        list[str] | None,
        option(
            "--cors-origin",
            "An origin, such as https://app.example.com, whose web pages may evaluate over HTTP; * is all. Repeatable.",
        ),
    ] = None,
    max_staleness_s: Annotated[
        float | None,
        option("--max-staleness", "Seconds that the database may be gone before /readyz answers 503.", min=0),
    ] = None,
    disable_sync_metadata: Annotated[
        bool, option("--disable-sync-metadata", "Answer flagd.sync.v1's GetMetadata with UNIMPLEMENTED, as flagd can.")
    ] = False,
    no_reflection: Annotated[bool, option("--no-reflection", "Do not tell clients which services there are.")] = False,
    context_value: Annotated[
        list[str] | None, option("--context-value", "NAME=VALUE that every evaluation context gets. Repeatable.")
    ] = None,
    context_from_header: Annotated[
        list[str] | None,
        option("--context-from-header", "HEADER=NAME: the header's value becomes that attribute. Repeatable."),
    ] = None,
    recent_contexts: Annotated[
        int,
        option(
            "--recent-contexts",
            "Keep so many of the contexts evaluated lately over gRPC, for each flag set, to simulate changes with; in "
            "memory alone.",
            min=0,
            max=10_000,
        ),
    ] = 0,
    slow_s: Annotated[
        float, option("--slow", "Seconds after which a request is slow and has a line in the log.", min=0)
    ] = 1.0,
    max_lag_s: Annotated[
        float,
        option("--max-lag", "Seconds that the event loop may be late; later for --max-lag-for, health fails.", min=0),
    ] = 2.0,
    max_lag_for_s: Annotated[
        float, option("--max-lag-for", "Seconds that it may be later than --max-lag.", min=0)
    ] = 5.0,
    provider: Annotated[
        list[str] | None,
        option(
            "--provider",
            "Whom guards may ask: NAME=prometheus:URL, or NAME=json:URL for others that answer JSON. Repeatable.",
        ),
    ] = None,
    provider_token_file: Annotated[
        list[str] | None, option("--provider-token-file", "NAME=PATH of a file with its bearer token. Repeatable.")
    ] = None,
    provider_allow_http: Annotated[
        bool, option("--provider-allow-http", "Ask providers elsewhere also by http://, unencrypted.")
    ] = False,
    hook_keys_file: Annotated[
        Path | None,
        option(
            "--hook-keys-file",
            "Keys that URLs and secrets of webhooks are sealed with, one a line, the newest first; else "
            "FLAGSTAFF_HOOK_KEYS, or the database's name and .hook-keys.",
        ),
    ] = None,
    hook_allow: Annotated[
        list[str] | None,
        option(
            "--hook-allow",
            "An address, a network such as 10.0.0.0/8 or a host such as n8n.lan that webhooks may be sent to although "
            "it is not public. Repeatable.",
        ),
    ] = None,
    hook_allow_http: Annotated[
        bool, option("--hook-allow-http", "Send webhooks also to http:// addresses, unencrypted.")
    ] = False,
    public_url: Annotated[
        str,
        option("--public-url", "Where tools reach this server over HTTP: events name it.", metavar="URL"),
    ] = "",
    keep_delivered_days: Annotated[
        float, option("--keep-delivered-days", "How long deliveries are kept that arrived.", min=0.0)
    ] = 14.0,
    keep_undelivered_days: Annotated[
        float, option("--keep-undelivered-days", "And those that did not, which may be sent again.", min=0.0)
    ] = 60.0,
    keep_events_days: Annotated[
        float,
        option("--keep-events-days", "How long events are kept; longer while one is still to be delivered.", min=0.0),
    ] = 90.0,
    access_log: Annotated[bool, option("--access-log", "Log every request, not only failed and slow ones.")] = False,
    otlp_endpoint: Annotated[
        str | None,
        option("--otlp-endpoint", "Send OpenTelemetry traces to http://HOST:4318. Needs flagstaff[otel]."),
    ] = None,
    trace_ratio: Annotated[
        float,
        option("--trace-ratio", "The share of traces that are recorded; callers decide for theirs.", min=0, max=1),
    ] = 0.01,
    log_json: Annotated[bool, option("--log-json", "Log JSON lines, on standard error.")] = False,
    log_level: Annotated[LogLevel, option("--log-level", "How much to log.")] = LogLevel.INFO,
    as_json: AsJson = False,
) -> None:
    """Load, listen, tell where, serve."""
    from server.collector import collect_seldom

    collect_seldom()
    from server.core.context import parse_headers, parse_values
    from server.core.pacing import read_network, read_rate
    from server.settings import Settings
    from server.telemetry import set_up_logging
    from server.web.cors import parse_origin

    set_up_logging(as_json=log_json, level=log_level.value.upper())
    settings = Settings(
        database_url=database_url,
        host=host,
        grpc_port=grpc_port,
        sync_port=sync_port,
        http_port=http_port,
        project=project,
        environment=environment,
        last_known_good=_directory(last_known_good, database_url),
        drain_delay_s=drain_delay_s,
        drain_grace_s=drain_grace_s,
        max_connection_age_s=max_connection_age_s,
        reflection=not no_reflection,
        sync_metadata=not disable_sync_metadata,
        cors_origins=tuple(parse_origin(each) for each in cors_origin or ()),
        max_staleness_s=max_staleness_s,
        recent_contexts=recent_contexts,
        slow_s=slow_s,
        access_log=access_log,
        otlp_endpoint=otlp_endpoint,
        trace_ratio=trace_ratio,
        max_lag_s=max_lag_s,
        max_lag_for_s=max_lag_for_s,
        tls_certificate=tls_cert,
        tls_key=tls_key,
        tls_client_ca=tls_client_ca,
        guard_metrics=guard_metrics,
        token_rate=read_rate(limit_per_token) if limit_per_token else None,
        address_rate=read_rate(limit_per_address) if limit_per_address else None,
        trusted_proxies=tuple(read_network(each) for each in trusted_proxy or ()),
        certificate_roles=certificate_roles(certificate_role or (), has_ca=tls_client_ca is not None),
        providers=read_providers(provider or (), token_files=provider_token_file or (), allow_http=provider_allow_http),
        hook_keys_file=hook_keys_file,
        hook_allow=checked_allow(hook_allow or ()),
        hook_allow_http=hook_allow_http,
        public_url=public_url,
        keep_delivered_days=keep_delivered_days,
        keep_undelivered_days=keep_undelivered_days,
        keep_events_days=keep_events_days,
        oidc=issuer_trust(
            oidc_issuer, audiences=oidc_audience or (), rules=oidc_role or (), algorithms=oidc_algorithm or ()
        ),
        asking=asking_of(host, require_token=require_token, is_open=is_open),
        context_values=parse_values(context_value or ()),
        context_headers=parse_headers(context_from_header or ()),
    )
    _check_tls(settings)
    checked_keys(settings)
    if not is_loopback(host):
        warn_open(settings)
    if demo:
        _load_samples(settings)
    first = first_token(settings)
    if first and not as_json:
        typer.echo(f"admin token, shown this once: {first}")

    def started(told: Told) -> None:
        if first and as_json:
            told = {**told, "admin_token": first}
        typer.echo(json.dumps(told) if as_json else as_text(told))

    apart = management is Management.APART
    if workers == 1 and not apart:
        from server.app import run

        run(settings, started=started)
    else:
        from server.workers.group import Job, run_group

        run_group(Job(settings, log_json, log_level.value.upper()), count=workers, apart=apart, started=started)


def _directory(given: str | None, database_url: str) -> Path | None:
    from server.operations.databases import local_name

    if given == NO_DIRECTORY:
        return None
    return Path(given or f"{local_name(database_url)}{LAST_KNOWN_GOOD_SUFFIX}")


def _check_tls(settings: "Settings") -> None:
    """Refuse before anything is started, and once for all workers."""
    certificate, key, client_ca = settings.tls_certificate, settings.tls_key, settings.tls_client_ca
    if certificate is None and key is None and client_ca is None:
        return
    if certificate is None or key is None:
        raise typer.BadParameter("TLS needs both --tls-cert and --tls-key")
    from server.tls import is_open_to_others, read_tls

    read_tls(certificate, key, client_ca=client_ca)
    if is_open_to_others(key):
        typer.secho(f"WARNING: every user of this machine can read the key {key}; `chmod 600` it.", err=True, bold=True)


def _load_samples(settings: "Settings") -> None:
    from server.operations import databases
    from server.operations.flagsets import import_if_empty
    from server.operations.samples import read_samples

    samples = read_samples(project=settings.project, environment=settings.environment)
    with databases.open_to_write(settings.database_url) as engine:
        now = datetime.now(UTC)
        loaded = import_if_empty(engine, samples, actor=actor_name(), now=now, reason="serve --demo")
    if not loaded:
        typer.echo(f"{settings.flag_set} has flags already; the sample flags were not loaded", err=True)
