"""Databases of both kinds for crash proofs: made, copied, and looked at by plain queries."""

import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import URL, make_url

from tests import postgres


@dataclass(frozen=True, slots=True)
class Place:
    """Where a database is."""

    url: str = field(repr=False)

    @property
    def name(self) -> str:
        """Its own name, for reports."""
        return Path(make_url(self.url).database or "").name

    @property
    def is_file(self) -> bool:
        """Whether it is SQLite."""
        return self.url.startswith("sqlite")


class Look:
    """A plain connection that sees one moment; placeholders are question marks."""

    def __init__(self, place: Place) -> None:
        self._is_file = place.is_file
        self._connection: Any
        if place.is_file:
            self._connection = sqlite3.connect(make_url(place.url).database or "")
        else:
            self._connection = postgres.connect(make_url(place.url))
            self._connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")

    def execute(self, statement: str, values: Sequence[object] = ()) -> Any:
        """A cursor over the rows, which are tuples."""
        if self._is_file:
            return self._connection.execute(statement, values)
        return self._connection.execute(statement.replace("?", "%s"), values or None)

    def close(self) -> None:
        """Let it go."""
        self._connection.close()

    def problems(self) -> list[Any]:
        """What the database itself finds wrong with its content. PostgreSQL holds its rules by itself."""
        if not self._is_file:
            return []
        checked = self._connection.execute("PRAGMA integrity_check").fetchall()
        dangling = self._connection.execute("PRAGMA foreign_key_check").fetchall()
        return [*(row for row in checked if row != ("ok",)), *dangling]

    def table_count(self) -> int:
        """How many tables, indexes and so on there are."""
        query = "SELECT count(*) FROM sqlite_master"
        if not self._is_file:
            query = "SELECT count(*) FROM pg_tables WHERE schemaname = current_schema()"
        count: int = self.execute(query).fetchone()[0]
        return count


class Databases:
    """Makes databases of one kind in one place."""

    def __init__(self, directory: Path, cluster: postgres.Cluster | None) -> None:
        self._directory, self.cluster = directory, cluster
        self._made: list[URL] = []

    def new(self, name: str) -> Place:
        """One that is not there yet, or empty."""
        if self.cluster is None:
            return Place(f"sqlite:///{self._directory / name}.db")
        return self._kept(postgres.create_database(self.cluster.url))

    def copy(self, template: Place, name: str) -> Place:
        """Another one with the same content; nobody may be connected to the template."""
        if self.cluster is None:
            path = self._directory / f"{name}.db"
            shutil.copy(make_url(template.url).database or "", path)
            return Place(f"sqlite:///{path}")
        return self._kept(postgres.create_database(self.cluster.url, template=template.name))

    def clear(self, keep: Place) -> None:
        """Delete those that a server has, but for one: what comes back after a crash syncs every file that it has."""
        for url in self._made:
            if url.database != keep.name:
                postgres.drop_database(url)
        self._made = [url for url in self._made if url.database == keep.name]

    def _kept(self, url: URL) -> Place:
        self._made.append(url)
        return Place(postgres.text_of(url))


@contextmanager
def databases(directory: Path, kind: str) -> Iterator[Databases]:
    """For SQLite files in a directory; for PostgreSQL a durable cluster of its own. Errors: postgres.NoServer."""
    if kind == "sqlite":
        yield Databases(directory, None)
        return
    with postgres.new_cluster() as cluster:
        yield Databases(directory, cluster)
