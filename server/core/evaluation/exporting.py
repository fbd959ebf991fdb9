"""Write lowered flags as flagd's in-process clients are sent them, and count the bytes.

One text a flag set holds all of its flags, and gRPC's clients refuse a message of more than 4 MiB. So the bytes are
counted when a flag is accepted, not when the first client fails.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from mmh3 import mmh3_x64_128_digest

from server.core.environments import Environment
from server.core.errors import InvalidDefinition, TooLarge
from server.core.evaluation.lowering import LoweredFlag, lower_flag
from server.core.flagsets import FlagSet
from server.core.json import Scalar
from server.core.keylists import KeyList
from server.core.limits import SYNC_BYTES_MAX

_BEFORE: Final = b'{"flags":{'
_AFTER: Final = b"}}"
_FRAME_BYTES: Final = len(_BEFORE) + len(_AFTER) - 1
"""Around the flags; the last of these has no comma after it."""


def _named(keys: Any) -> str:
    """What stands for the keys of a large segment in a digest."""
    if isinstance(keys, KeyList):
        return keys.digest
    raise TypeError(f"{type(keys).__name__} is no JSON")


_encode: Final = json.JSONEncoder(separators=(",", ":"), allow_nan=False, check_circular=False, default=_named).encode
"""What is written came from JSON, or from lowering, which refuses circles: looking for them takes a quarter longer."""


class Exported(NamedTuple):
    """A flag as others are sent it."""

    text: bytes
    """In flagd's format, compact JSON in ASCII; b"" for one that is sent to nobody."""

    digest: bytes
    """16 bytes of MurmurHash3 over the text, or over what it would be. Nobody needs to be kept from making two flags
    that have the same one: whoever may write flags only hides a change of their own."""


def export_flag(lowered: LoweredFlag, metadata: Mapping[str, Scalar], *, sync: bool = True) -> Exported:
    """One flag in flagd's format, with this metadata in place of its own.

    A flag that needs a large segment is sent to nobody: nobody else could look its keys up. In-process clients are then
    told that there is no such flag, which they report, and never get another answer than the server's in silence.
    """
    flag = lowered.to_flagd()
    if metadata:
        flag["metadata"] = dict(metadata)
    text = _encode(flag).encode()
    return Exported(text if sync and not lowered.large_segments else b"", mmh3_x64_128_digest(text))


def join_flags(exported: Iterable[tuple[str, bytes]]) -> bytes:
    """A flag set's text from its flags, each a key and what `export_flag` gave."""
    return _BEFORE + b",".join([b"%b:%b" % (_encode(key).encode(), flag) for key, flag in exported]) + _AFTER


def flag_bytes(flag_set: FlagSet, key: str) -> int:
    """The bytes that one flag takes in the text, its comma included; 0 for one that is not sent."""
    definition, environment = flag_set.flags[key], flag_set.environment
    try:
        lowered = lower_flag(
            definition, flags=flag_set.flags, segments=flag_set.segments, bucketing=environment.bucketing
        )
        exported = export_flag(lowered, {**environment.metadata, **lowered.metadata}).text
        if not exported:
            return 0
    except (InvalidDefinition, RecursionError, ValueError, TypeError, AttributeError, LookupError):
        # Only a damaged one: it is quarantined where it is served, and sent to nobody.
        return 0
    return len(_encode(key)) + len(exported) + 2


def check_sync_bytes(environment: Environment, byte_count: int) -> None:
    """Errors: TooLarge when a flag set's flags take too many bytes to be sent at once."""
    if byte_count + _FRAME_BYTES > SYNC_BYTES_MAX:
        raise TooLarge(too_large(environment.flag_set, byte_count + _FRAME_BYTES))


def too_large(flag_set: str, byte_count: int) -> str:
    """Say that a flag set does not fit, and what helps."""
    return (
        f"flag set {flag_set!r} takes {byte_count} bytes to send to in-process clients, at most {SYNC_BYTES_MAX} fit "
        "into the 4 MiB that gRPC's clients accept; remove or shorten flags, divide them among several environments or "
        "projects, or switch sync off for this one with `flagstaff import --no-sync`, so that it is evaluated here only"
    )
