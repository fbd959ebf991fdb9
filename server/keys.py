"""Read the server's secret keys, or make them beside the database at the first need of them.

What is kept of tokens depends on one, and what is secret about webhooks is sealed with others, so they never go into
the database: who steals the one has not the other. They are read from the environment or a file and from no option,
which every user of the machine could see.
"""

import contextlib
import logging
import os
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from sqlalchemy import Engine

from server.core.errors import InvalidRequest, Refused

VARIABLE: Final = "FLAGSTAFF_SECRET_KEY"
FILE_VARIABLE: Final = "FLAGSTAFF_SECRET_KEY_FILE"
SUFFIX: Final = ".secret-key"
CHARS_MIN: Final = 32
"""Long enough that nobody finds it by trying; `openssl rand -hex 32` gives 64."""

BYTES_MAX: Final = 4 * 1024

HOOK_VARIABLE: Final = "FLAGSTAFF_HOOK_KEYS"
HOOK_FILE_OPTION: Final = "--hook-keys-file"
HOOK_SUFFIX: Final = ".hook-keys"
HOOK_KEYS_MAX: Final = 16

log = logging.getLogger("flagstaff.keys")


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
        _make(path, f"{FILE_VARIABLE} or {VARIABLE}")
    return _read(path) if path.exists() else None


def secret_key(engine: Engine, *, make: bool) -> bytes | None:
    """The secret of the server over this database, as `read_key` finds it in this process's environment."""
    return read_key(database_file(engine), os.environ, make=make)


def read_hook_keys(
    database: Path | None, environ: Mapping[str, str], *, file: Path | None = None, make: bool
) -> tuple[bytes, ...]:
    """The keys that secrets of webhooks are sealed with, the newest first: it seals, and all of them open.

    They stand in a variable with commas between them, or in a file, one a line. `database` is as with `read_key`.
    Without `make` no file is made, and () means that there is no key yet.
    Errors: InvalidRequest for keys that are too short or too many, and as `read_key`; Refused where one must be given.
    """
    text = environ.get(HOOK_VARIABLE)
    if text:
        return _hook_keys(text.replace(",", "\n").encode(), HOOK_VARIABLE)
    if file is not None:
        return _hook_keys(_content(file, "hooks need it"), str(file))
    if database is None:
        if not make:
            return ()
        raise Refused(
            "the URLs and secrets of hooks are sealed with a key that all replicas share; give it by "
            f"{HOOK_FILE_OPTION} or {HOOK_VARIABLE}, for example one that `openssl rand -hex 32` makes"
        )
    path = database.with_name(database.name + HOOK_SUFFIX)
    if make and not path.exists():
        _make(path, f"{HOOK_FILE_OPTION} or {HOOK_VARIABLE}")
        log.warning(
            "made a key for the secrets of hooks; no backup of the database has it, so keep a copy elsewhere",
            extra={"path": str(path)},
        )
    return _hook_keys(_content(path, "hooks need it"), str(path)) if path.exists() else ()


def hook_keys(engine: Engine, file: Path | None = None, *, make: bool) -> tuple[bytes, ...]:
    """The keys for webhooks over this database, as `read_hook_keys` finds them in this process's environment."""
    return read_hook_keys(database_file(engine), os.environ, file=file, make=make)


def database_file(engine: Engine) -> Path | None:
    """Where a database is that is a file; None for one that other machines share, or that is in memory."""
    name = engine.url.database
    return Path(name) if engine.url.get_backend_name() == "sqlite" and name else None


def _hook_keys(content: bytes, source: str) -> tuple[bytes, ...]:
    lines = [line.strip() for line in content.splitlines()]
    keys = tuple(_checked(line, source) for line in lines if line and not line.startswith(b"#"))
    if not 0 < len(keys) <= HOOK_KEYS_MAX:
        raise InvalidRequest(f"there are {len(keys)} keys in {source}, expected 1 to {HOOK_KEYS_MAX}, the newest first")
    return keys


def _read(path: Path) -> bytes:
    return _checked(_content(path, "tokens need it").strip(), str(path))


def _content(path: Path, needed: str) -> bytes:
    try:
        mode = path.stat().st_mode
        content = path.read_bytes()
    except OSError as error:
        raise InvalidRequest(f"cannot read the secret key {path} ({error.strerror}); {needed}") from None
    if mode & (stat.S_IROTH | stat.S_IWOTH):
        raise InvalidRequest(f"every user of this machine can use the secret key {path}; `chmod 600` it")
    return content


def _checked(key: bytes, source: str) -> bytes:
    if not CHARS_MIN <= len(key) <= BYTES_MAX:
        raise InvalidRequest(
            f"the secret key in {source} has {len(key)} characters, expected {CHARS_MIN} to {BYTES_MAX}; "
            "`openssl rand -hex 32` makes one"
        )
    return key


def _make(path: Path, given_by: str) -> None:
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
        raise InvalidRequest(f"cannot make the secret key {path} ({error.strerror}); give one by {given_by}") from None
