"""Tell what differs between two snapshots of a flag set."""

from collections.abc import Mapping
from enum import StrEnum
from itertools import compress, filterfalse
from operator import is_not
from typing import Final

from server.core.evaluation.snapshot import CompiledFlag, Snapshot

NO_FLAGS: Final[Mapping[str, CompiledFlag]] = {}


class FlagChange(StrEnum):
    """What happened to a flag, in the words of flagd's event stream."""

    WRITE = "write"
    UPDATE = "update"
    DELETE = "delete"


def changed_flags(before: Snapshot | None, after: Snapshot | None) -> dict[str, FlagChange]:
    """The flags whose definition, as clients see it, is not the same; {} when none.

    A flag that was only compiled again, because something that it refers to was touched, does not count.
    """
    old = NO_FLAGS if before is None else before.flags
    new = NO_FLAGS if after is None else after.flags
    changes = dict.fromkeys(filterfalse(new.__contains__, old), FlagChange.DELETE)
    # Nearly all flags are the same objects: they are passed over without a step of Python for each.
    for key in compress(new, map(is_not, new.values(), map(old.get, new))):
        known, flag = old.get(key), new[key]
        if known is None:
            changes[key] = FlagChange.WRITE
        elif (known.digest, known.quarantine) != (flag.digest, flag.quarantine):
            changes[key] = FlagChange.UPDATE
    return changes


def merged(earlier: FlagChange | None, later: FlagChange) -> FlagChange:
    """What two changes of one flag come to for somebody who heard of neither.

    A flag that came and went is still said to be gone: an answer may have been kept in between.
    """
    if earlier is FlagChange.WRITE and later is not FlagChange.DELETE:
        return FlagChange.WRITE
    if earlier is FlagChange.DELETE and later is not FlagChange.DELETE:
        return FlagChange.UPDATE
    return later
