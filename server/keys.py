"""Read the server's secret key, or make one beside the database at the first need of it.

What is kept of tokens depends on this key, so it never goes into the database: who steals the one has not the other.
It is read from the environment or a file and from no option, which every user of the machine could see.
"""

import contextlib
import os
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from sqlalchemy import Engine

from server.core.errors import InvalidRequest

VARIABLE: Final = "FLAGSTAFF_SECRET_KEY"
FILE_VARIABLE: Final = "FLAGSTAFF_SECRET_KEY_FILE"
SUFFIX: Final = ".secret-key"
CHARS_MIN: Final = 32
"""Long enough that nobody finds it by trying; `openssl rand -hex 32` gives 64."""

BYTES_MAX: Final = 4 * 1024


def read_key(database: Path | None, environ: Mapping[str, str], *, make: bool) -> bytes | None:
    """The server's secret. `database` is its file, beside which a key may be; None for one that other machines share.

    Without `make` no file is made, and None means that there is no key yet. Several processes that start at once make
    one key. Errors: InvalidRequest for a key that is too short, a file that cannot be used or that others may read.
    """
    text = environ.get(VARIABLE)
    if text:
        return _checked(text.encode(), VARIABLE)
    named = environ.get(FILE_VARIABLE)
    if named:
        return _read(Path(named))
    if database is None:
        if not make:
            return None
        raise InvalidRequest(
            f"tokens need a secret key that all replicas share; give it by {FILE_VARIABLE} or {VARIABLE}, "
            "for example one that `openssl rand -hex 32` makes"
        )
    path = database.with_name(database.name + SUFFIX)
    if make and not path.exists():
        _make(path)
    return _read(path) if path.exists() else None


def secret_key(engine: Engine, *, make: bool) -> bytes | None:
    """The secret of the server over this database, as `read_key` finds it in this process's environment."""
    is_file = engine.url.get_backend_name() == "sqlite" and engine.url.database
    return read_key(Path(engine.url.database) if is_file and engine.url.database else None, os.environ, make=make)


def _read(path: Path) -> bytes:
    try:
        mode = path.stat().st_mode
        content = path.read_bytes()
    except OSError as error:
        raise InvalidRequest(f"cannot read the secret key {path} ({error.strerror}); tokens need it") from None
    if mode & (stat.S_IROTH | stat.S_IWOTH):
        raise InvalidRequest(f"every user of this machine can use the secret key {path}; `chmod 600` it")
    return _checked(content.strip(), str(path))


def _checked(key: bytes, source: str) -> bytes:
    if not CHARS_MIN <= len(key) <= BYTES_MAX:
        raise InvalidRequest(
            f"the secret key in {source} has {len(key)} characters, expected {CHARS_MIN} to {BYTES_MAX}; "
            "`openssl rand -hex 32` makes one"
        )
    return key


def _make(path: Path) -> None:
    """Put a new key there, whole or not at all; who comes second finds the first one's."""
    part = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(secrets.token_hex(32).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
            # A link, and not a renaming, fails where there is one already.
            with contextlib.suppress(FileExistsError):
                os.link(part, path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise InvalidRequest(
            f"cannot make the secret key {path} ({error.strerror}); give one by {FILE_VARIABLE} or {VARIABLE}"
        ) from None
