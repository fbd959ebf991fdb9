"""Take a database's whole content away in one file, while it is in use, and bring a database to such a file."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO, Final

from sqlalchemy import Engine

from server.core.errors import InvalidRequest
from server.store.backup import write_backup
from server.store.engine import reading
from server.store.restore import Restored, restore

FILE_MODE: Final = 0o600
"""It holds every rule and who is targeted by name."""


def back_up(engine: Engine, path: Path, *, now: datetime) -> int:
    """Write a backup of one instant to a file, which appears whole or not at all; gives the number of rows.

    Errors: InvalidRequest when the file cannot be written, StoreUnavailable, StoreCorrupt.
    """
    with _appearing(path) as file, reading(engine) as connection:
        return write_backup(connection, file, now=now)


def back_up_to(engine: Engine, stream: IO[bytes], *, now: datetime) -> int:
    """Write a backup of one instant to a stream. Errors: as `back_up`."""
    with reading(engine) as connection:
        return write_backup(connection, stream, now=now)


def restore_from(
    engine: Engine,
    path: Path,
    *,
    actor: str,
    now: datetime,
    reason: str = "",
    replace: bool = False,
    accept_broken_trail: bool = False,
) -> Restored:
    """Bring the database to a file's content, in one transaction. Errors: as `server.store.restore.restore`."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise InvalidRequest(f"cannot read {path}: {error.strerror or error}") from None
    with file:
        return restore(
            engine,
            file,
            actor=actor,
            now=now,
            reason=reason,
            replace=replace,
            accept_broken_trail=accept_broken_trail,
        )


@contextmanager
def _appearing(path: Path) -> Iterator[IO[bytes]]:
    """A file that takes its name when it is complete and on the disk."""
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise InvalidRequest(f"cannot write {path}: {error.strerror or error}") from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), FILE_MODE)
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
