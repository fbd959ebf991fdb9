"""What an operator can set for a server, with the defaults."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from server.core.access import Asking, Grant
from server.core.claims import IssuerTrust
from server.core.context import Enrichment
from server.core.guards.providers import Provider
from server.core.pacing import Network, Rate

DATABASE_URL: Final = "sqlite:///flagstaff.db"
PROJECT: Final = "default"
ENVIRONMENT: Final = "production"


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of `flagstaff serve`. Ports: 0 lets the system choose."""

    database_url: str = DATABASE_URL
    host: str = "127.0.0.1"
    grpc_port: int = 8013
    sync_port: int = 8015
    http_port: int = 8016
    project: str = PROJECT
    environment: str = ENVIRONMENT
    last_known_good: Path | None = None
    """Directory of the last-known-good files; None keeps none."""

    drain_delay_s: float = 1.0
    drain_grace_s: float = 5.0
    max_connection_age_s: float | None = None
    """How long gRPC connections and streams last; None leaves it to the clients."""

    reflection: bool = True
    sync_metadata: bool = True
    """Whether flagd.sync.v1's deprecated GetMetadata answers."""

    tls_certificate: Path | None = None
    """PEM, with its chain; None serves without TLS, else there is a key too."""

    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    """Who signs clients' certificates; None asks clients for none."""

    certificate_roles: Mapping[str, tuple[Grant, ...]] = field(default_factory=dict)
    """A name in a client's certificate -> what its owner may do."""

    oidc: IssuerTrust | None = None
    """Whose access tokens are taken beside our own."""

    context_values: Mapping[str, str] = field(default_factory=dict)
    """Attribute -> value that every context gets."""

    context_headers: Mapping[str, str] = field(default_factory=dict)
    """Header name in lower case -> the attribute that its value becomes."""

    cors_origins: tuple[str, ...] = ()
    """Origins whose web pages may evaluate over HTTP; `*` is all."""

    max_staleness_s: float | None = None
    """How long the database may be gone before /readyz says no; None: for ever."""

    recent_contexts: int = 0
    """How many contexts are kept in memory for simulations, a flag set; 0 keeps none."""

    slow_s: float = 1.0
    """A request that took as long has a line in the log."""

    access_log: bool = False
    """Every request has one."""

    otlp_endpoint: str | None = None
    """Where traces go; None leaves it to OpenTelemetry's own variables, and without those there are none."""

    trace_ratio: float = 0.01
    """The share of traces that begin here and are recorded. A caller's decision for its own trace is kept."""

    max_lag_s: float = 2.0
    """How late the event loop may be."""

    max_lag_for_s: float = 5.0
    """How long it may be later than that before health says NOT_SERVING."""

    asking: Asking = Asking.NOBODY
    """Who is asked who they are."""

    token_rate: Rate | None = None
    """What one token may ask; None: as much as it can."""

    address_rate: Rate | None = None
    trusted_proxies: tuple[Network, ...] = ()
    """Who is believed when it names the address that it passes a request on for."""

    providers: tuple[Provider, ...] = ()
    """Whom guards may ask."""

    guard_metrics: bool = False
    """Whether /metrics needs the role read; else it is open to everyone."""

    hook_keys_file: Path | None = None
    """Keys that secrets of webhooks are sealed with, one a line, the newest first; None: where server/keys.py looks."""

    hook_allow: tuple[str, ...] = ()
    """Addresses, networks and hosts that webhooks may be sent to although they are not public."""

    hook_allow_http: bool = False
    """Whether they may be sent unencrypted, too."""

    public_url: str = ""
    """Where people and tools reach this server over HTTP, such as `https://flags.example.com`."""

    keep_delivered_days: float = 14.0
    keep_undelivered_days: float = 60.0
    """How long finished deliveries are kept that arrived, and those that did not and may be sent again."""

    keep_events_days: float = 90.0
    """How long events are kept; longer while one is still to be delivered."""

    group_directory: Path | None = None
    """Where the processes of a group find each other, readable by this user alone; None for a process by itself."""

    group_place: int = 0
    """Which of the group's processes this is."""

    manager: Path | None = None
    """The socket of the process of the group that manages flags; None manages them in each process."""

    @property
    def flag_set(self) -> str:
        """The flag set for clients that name none."""
        return f"{self.project}/{self.environment}"

    @property
    def enrichment(self) -> Enrichment:
        """What is added to every context."""
        return Enrichment(self.context_values, self.context_headers)
