"""Keep the last good flag sets in files, for a start without the database."""

import contextlib
import hashlib
import json
import os
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, Final

from server.core.environments import Bucketing, Environment
from server.core.errors import FlagstaffError, StoreCorrupt
from server.core.evaluation.snapshot import Snapshot
from server.core.json import Json
from server.core.keylists import Gathering, KeyList
from server.live.loader import compile_documents
from server.store.flagsets import StoredFlagSet, StreamedFlagSet

FORMAT: Final = 1
SUFFIX: Final = ".jsonl"
KEYS_PER_LINE: Final = 10_000
"""Of a large segment; so that no line is very long."""

UNFINISHED_SUFFIX: Final = ".new"


@dataclass(frozen=True, slots=True)
class Kept:
    """A flag set as it was kept."""

    snapshot: Snapshot
    written_at: datetime


class LastKnownGood:
    """A directory with one file for each flag set: a head, one line a segment or flag, a checksum."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def write(
        self,
        stored: StreamedFlagSet,
        *,
        now: datetime,
        fenced: Callable[[], AbstractContextManager[object]] = contextlib.nullcontext,
    ) -> None:
        """Replace a flag set's file at once or not at all. Errors: OSError, and those of `fenced`.

        The new file appears inside the block of `fenced`, which can refuse it to a process that was overtaken.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        path = self._path(stored.environment)
        # One name for each process: one that was overtaken must not write into what another publishes.
        temporary = path.with_suffix(f".{os.getpid()}{UNFINISHED_SUFFIX}")
        digest = hashlib.sha256()
        with temporary.open("wb") as file:
            for line in _lines(stored, now):
                digest.update(line)
                file.write(line)
            file.write(_line({"sha256": digest.hexdigest()}))
            file.flush()
            os.fsync(file.fileno())
        with fenced():
            temporary.replace(path)
            for left_behind in self.directory.glob(f"{path.stem}.*{UNFINISHED_SUFFIX}"):
                left_behind.unlink(missing_ok=True)

    def forget(self, environment: Environment) -> None:
        """Delete the file of a flag set that is no more."""
        self._path(environment).unlink(missing_ok=True)

    def head(self, environment: Environment) -> tuple[int, datetime] | None:
        """The revision that is kept of a flag set and when it was written; None when there is none to be read."""
        try:
            with self._path(environment).open("rb") as file:
                head = json.loads(file.readline())
            return int(head["revision"]), datetime.fromisoformat(head["writtenAt"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def identity(self) -> str:
        """What tells this directory from all others, on any machine; made when it is first asked. Errors: OSError."""
        self.directory.mkdir(parents=True, exist_ok=True)
        path = self.directory / "identity"
        if not path.exists():
            temporary = path.with_suffix(f".{os.getpid()}{UNFINISHED_SUFFIX}")
            temporary.write_text(uuid.uuid4().hex)
            # Several processes may be at it: the first one's is everybody's.
            with contextlib.suppress(FileExistsError):
                os.link(temporary, path)
            temporary.unlink()
        return path.read_text().strip()

    def any(self) -> bool:
        """Whether any flag set is kept here."""
        return next(self.directory.glob(f"*{SUFFIX}"), None) is not None

    def read(self) -> tuple[list[Kept], list[str]]:
        """Every flag set that is kept here, and what is wrong with the files that cannot be used."""
        kept: list[Kept] = []
        problems: list[str] = []
        for path in sorted(self.directory.glob(f"*{SUFFIX}")):
            try:
                kept.append(_read(path))
            except (FlagstaffError, OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                problems.append(f"{path}: {error}")
        return kept, problems

    def _path(self, environment: Environment) -> Path:
        # Keys have no "/" and no "@", so the name is unique and can be read.
        return self.directory / f"{environment.project}@{environment.key}{SUFFIX}"


def _lines(stored: StreamedFlagSet, now: datetime) -> Iterator[bytes]:
    environment = stored.environment
    yield _line(
        {
            "format": FORMAT,
            "writtenAt": now.isoformat(),
            "revision": stored.revision,
            "project": environment.project,
            "environment": environment.key,
            "name": environment.name,
            "bucketing": environment.bucketing.value,
            "critical": environment.critical,
            "metadata": dict(environment.metadata),
            "source": environment.source,
            "sync": environment.sync,
        }
    )
    for key, document in stored.segments.items():
        yield _line({"segment": key, "document": document})
    for key, keys in stored.key_lists.items():
        texts = iter(keys)
        while portion := list(islice(texts, KEYS_PER_LINE)):
            yield _line({"keysOf": key, "keys": portion})
    for key, document in stored.flags:
        yield _line({"flag": key, "document": document})


def _line(value: Json) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"


def _read(path: Path) -> Kept:
    """Errors: StoreCorrupt when the checksum or the format does not fit, ValueError when a line is not JSON."""
    *lines, last = path.read_bytes().splitlines(keepends=True)
    digest = hashlib.sha256(b"".join(lines)).hexdigest()
    if json.loads(last).get("sha256") != digest:
        raise StoreCorrupt("its checksum does not fit; the file was cut or edited")
    head, *parts = (json.loads(line) for line in lines)
    if head["format"] != FORMAT:
        raise StoreCorrupt(f"it has format {head['format']}, this version reads {FORMAT}")
    stored = StoredFlagSet(
        environment=Environment(
            project=head["project"],
            key=head["environment"],
            name=head["name"],
            bucketing=Bucketing(head["bucketing"]),
            critical=head["critical"],
            metadata=head["metadata"],
            source=head["source"],
            sync=head.get("sync", True),
        ),
        revision=head["revision"],
        flags={part["flag"]: part["document"] for part in parts if "flag" in part},
        segments={part["segment"]: part["document"] for part in parts if "segment" in part},
        key_lists=_key_lists(part for part in parts if "keysOf" in part),
    )
    return Kept(compile_documents(stored), datetime.fromisoformat(head["writtenAt"]))


def _key_lists(parts: Iterable[dict[str, Any]]) -> dict[str, KeyList]:
    gathered: dict[str, Gathering] = {}
    for part in parts:
        gathered.setdefault(part["keysOf"], Gathering()).add(part["keys"])
    return {key: each.finish() for key, each in gathered.items()}
