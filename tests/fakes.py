"""Stand-ins that tests pass in: flags without a compiler, a holder without a loader, a call without a wire."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from google.protobuf.struct_pb2 import Struct

from server.core.access import OPEN, Principal
from server.core.environments import Environment
from server.core.evaluation.snapshot import CompiledFlag, Evaluator, Snapshot
from server.core.flags import ValueType
from server.core.json import Json, Scalar
from server.core.resolution import ErrorCode, Reason, Resolution
from server.live.holder import Holder, Serving
from server.rpc.call import MetadataEntry

NOW: Final = 1_767_225_600.9
"""What `fake_clock` says: the start of 2026, UTC, and most of a second."""

DEFAULT_SET: Final = "default/production"

_TYPES: Final[dict[type, ValueType]] = {
    bool: ValueType.BOOLEAN,
    str: ValueType.STRING,
    int: ValueType.INTEGER,
    float: ValueType.FLOAT,
    dict: ValueType.OBJECT,
}


def fake_clock() -> float:
    """The same instant always."""
    return NOW


def answer(
    key: str,
    value: Json,
    *,
    variant: str | None = "on",
    reason: Reason = Reason.STATIC,
    metadata: Mapping[str, Scalar] | None = None,
) -> Resolution:
    """A sound answer of a flag."""
    return Resolution(key, _TYPES.get(type(value)), value, variant, reason, metadata or {})


def failure(key: str, code: ErrorCode, message: str) -> Resolution:
    """An answer with reason ERROR."""
    return Resolution(key, None, None, None, Reason.ERROR, {}, code, message)


def static_flag(resolution: Resolution, *, type_: ValueType | None = None, has_default: bool = True) -> CompiledFlag:
    """A flag that always gives one answer."""
    return CompiledFlag(
        key=resolution.flag_key,
        type=type_ or resolution.type,
        evaluate=lambda context, now: resolution,
        reads=frozenset(),
        static=resolution,
        has_default=has_default,
    )


def rule_flag(key: str, evaluate: Evaluator, *, reads: Iterable[str] | None, type_: ValueType) -> CompiledFlag:
    """A flag that looks at its context."""
    return CompiledFlag(key, type_, evaluate, None if reads is None else frozenset(reads))


def chooses(key: str, attribute: str, choose: Callable[[Json], bool]) -> CompiledFlag:
    """A boolean flag that is on when one attribute pleases a function."""
    on = answer(key, True, reason=Reason.TARGETING_MATCH)
    off = answer(key, False, variant="off", reason=Reason.DEFAULT)
    return rule_flag(
        key,
        lambda context, now: on if choose(context.get(attribute)) else off,
        reads=[attribute],
        type_=ValueType.BOOLEAN,
    )


def snapshot_of(*flags: CompiledFlag, flag_set: str = DEFAULT_SET, revision: int = 7) -> Snapshot:
    """A snapshot of some flags."""
    project, _, environment = flag_set.partition("/")
    return Snapshot(Environment(project, environment), revision, {flag.key: flag for flag in flags})


def holder_of(*snapshots: Snapshot, aliases: Mapping[tuple[str, str], str] | None = None) -> Holder:
    """A holder that has loaded some snapshots; the default set is default/production."""
    holder = Holder(DEFAULT_SET)
    holder.serving = Serving({snapshot.flag_set: snapshot for snapshot in snapshots}, aliases or {})
    holder.loaded = True
    return holder


@dataclass
class FakeCall:
    """A call with nothing behind it."""

    sent: Mapping[str, str] = field(default_factory=dict)
    initial_metadata: list[MetadataEntry] = field(default_factory=list)
    trailing_metadata: list[MetadataEntry] = field(default_factory=list)
    peer: str = "test"
    principal: Principal = OPEN
    remaining_s: float | None = None
    certificate: Sequence[str] = ()

    def certificate_names(self) -> Sequence[str]:
        """What the test says that the client has proved."""
        return self.certificate

    def metadata(self, name: str) -> str | None:
        """What the test says was sent."""
        return self.sent.get(name)

    def metadata_values(self, name: str) -> Sequence[str]:
        """The same, as a list."""
        return [self.sent[name]] if name in self.sent else []

    def deadline_s(self) -> float | None:
        """What the test says is left."""
        return self.remaining_s


def struct(attributes: Mapping[str, Any]) -> Struct:
    """A context as a message."""
    message = Struct()
    message.update(dict(attributes))
    return message


def struct_bytes(attributes: Mapping[str, Any]) -> bytes:
    """A context as it travels."""
    return struct(attributes).SerializeToString()
