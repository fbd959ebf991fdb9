"""Write mutants straight into a database that a follower watches, and see that they stay by themselves."""

import random
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from server.live.follower import Follower
from server.live.holder import Holder
from server.live.last_known_good import LastKnownGood
from tests.crash.mutants import FLAG, Mutant
from tests.crash.poisoned import (
    CONTEXTS,
    ENVIRONMENT,
    ENVIRONMENT_COLUMNS,
    ODD_KEYS,
    PROJECT,
    SET,
    hold,
    new_database,
    open_raw,
    signature,
    sql_text,
    write_rows,
)
from tests.crash.proofs import Results
from tests.fuzz.checks import check_answers

LOAD_TIMEOUT_S: Final = 5.0
OVERWRITTEN_AT_ONCE: Final = 2
TABLES: Final = ("environment", "flag", "flag_config", "segment", "revision")

LOADED: Final = "a poisoned database loads"
SOUND: Final = "a poisoned flag answers ERROR or soundly"
SAME: Final = "the other flags' answers are the same, byte for byte"
OTHER_SETS: Final = "a poisoned environment leaves the other sets alone"
KEPT: Final = "the last-known-good file is written on, and can be read"


class PastTheDoor:
    """A database with a follower, and a connection that keeps none of the rules."""

    def __init__(self, path: Path, results: Results, *, rng: random.Random) -> None:
        self.results, self.rng = results, rng
        self.timeout_s = LOAD_TIMEOUT_S
        self.engine = new_database(path)
        self.raw = open_raw(path)
        self.rows = {name: self.raw.execute(f"SELECT * FROM {name}").fetchall() for name in TABLES}
        self.holder = Holder(SET)
        self.kept = LastKnownGood(path.parent / "kept")
        loaded = threading.Event()
        self.follower = Follower(
            self.engine,
            self.holder,
            last_known_good=self.kept,
            changed=lambda *_: loaded.set(),
            poll_s=0.002,
            retry_s=0.01,
            keep_after_s=0.2,
        )
        self.follower.start()
        assert loaded.wait(LOAD_TIMEOUT_S), "the good database does not load"
        self.good = self.holder.serving.snapshots[SET]
        self.revision = self.good.revision
        self.answers = signature(self.good, self.good.flags)

    def close(self) -> None:
        """Stop following, and look at what was kept for a start without the database."""
        self.follower.stop()
        found, problems = self.kept.read()
        revisions = [kept.snapshot.revision for kept in found if kept.snapshot.flag_set == SET]
        self.results.check(KEPT, revisions == [self.revision], f"{revisions} of {self.revision}, {problems}")
        self.raw.close()
        self.engine.dispose()

    def try_all(self, made: Sequence[Mutant]) -> None:
        """All as rows of their own, at once; where that breaks something, one by one, so that the report names it."""
        if not self._together(made):
            for mutant in made:
                self._together([mutant])
        for mutant in self.rng.sample(made, min(len(made), OVERWRITTEN_AT_ONCE)):
            self._overwrite(mutant)
        self._poison_environment(self.rng.choice(made))

    def _together(self, made: Sequence[Mutant]) -> bool:
        by_keys = self.rng.random() < 0.5
        if by_keys:
            # From a sound set on, as after a start; this also shows that what is mended serves again.
            with self._writing():
                self._count_up(by_keys=False)
            self._look(self.answers, "mended rows", is_last=True)
        with self._writing():
            write_rows(self.raw, made, odd_key=self._odd_key)
            self._count_up(by_keys=by_keys)
        where = str(made[0]) if len(made) == 1 else f"one of {len(made)} mutants, but by none of them alone"
        return self._look(self.answers, where, is_last=len(made) == 1)

    def _odd_key(self) -> str | None:
        return self.rng.choice(ODD_KEYS) if self.rng.random() < 0.1 else None

    def _overwrite(self, mutant: Mutant) -> None:
        """In place of a good definition; those that refer to it may change their answers, the others may not."""
        table = self.rng.choice(("flag", "flag_config")) if mutant.kind == FLAG else "segment"
        column = {"flag": 1, "flag_config": 2, "segment": 2}[table]
        victim = self.rng.choice(sorted(row[column] for row in self.rows[table]))
        unaffected = [
            key
            for key, flag in self.good.flags.items()
            if (mutant.kind, victim) not in flag.references and (mutant.kind, victim) != (FLAG, key)
        ]
        with self._writing():
            self.raw.execute(f"UPDATE {table} SET document = {sql_text(mutant.text)} WHERE key = ?", (victim,))
            self._count_up(by_keys=False)
        self._look(unaffected, f"{table} {victim} overwritten with {mutant}", is_last=True)

    def _poison_environment(self, mutant: Mutant) -> None:
        """A row of another environment that makes no sense in one column."""
        row = ["'bad'", "'production'", "''", "'v2'", "0", "'{}'", "''", "1", "'2026-01-01 00:00:00'"]
        odd = (sql_text(mutant.text), "''", "'v9'", "x'ff'", "-1", "1e300", "'2026-13-99'", "CAST(x'ff' AS TEXT)")
        row[self.rng.randrange(len(row))] = self.rng.choice((*odd, "'a' || char(0)", "'../x'"))
        with self._writing():
            self.raw.execute(f"INSERT INTO environment ({ENVIRONMENT_COLUMNS}) VALUES ({', '.join(row)})")
            self._count_up(by_keys=False)
        found = self._wait() and self._differing(self.answers)
        self.results.check(OTHER_SETS, found == [], f"{found} by environment {', '.join(row)[:300]}")

    def _look(self, keys: Collection[str], where: str, *, is_last: bool) -> bool:
        """Whether all is well; a break counts when it is known what caused it."""
        if not self._wait():
            if is_last:
                self.results.check(LOADED, False, f"by {where}")
            return False
        self.results.check(LOADED, True, "")
        differing = self._differing(keys)
        if is_last or not differing:
            self.results.check(SAME, not differing, f"{differing} by {where}")
        snapshot = self.holder.serving.snapshots[SET]
        held = Results()
        is_sound = hold(held, SOUND, lambda: check_answers(snapshot, CONTEXTS, seconds_max=None), where)
        if is_last or is_sound:
            self.results.check(SOUND, is_sound, "".join(held.tallies[SOUND].broken))
        return is_sound and not differing

    def _differing(self, keys: Collection[str]) -> list[str]:
        snapshot = self.holder.serving.snapshots[SET]
        now = signature(snapshot, keys)
        return [key for key in keys if now[key] != self.answers[key]]

    def _wait(self) -> bool:
        """Whether the follower comes to serve what was written."""
        deadline = time.monotonic() + self.timeout_s
        while self.holder.serving.snapshots[SET].revision != self.revision:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.001)
        return True

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """One transaction that begins from the good rows."""
        self.raw.execute("BEGIN IMMEDIATE")
        for name, rows in self.rows.items():
            self.raw.execute(f"DELETE FROM {name}")
            marks = ", ".join("?" * len(rows[0]))
            self.raw.executemany(f"INSERT INTO {name} VALUES ({marks})", rows)
        yield
        self.raw.execute("COMMIT")

    def _count_up(self, *, by_keys: bool) -> None:
        """What a commit leaves beside its rows: a revision that names what it touched, or the whole environment."""
        self.revision += 1
        place = (PROJECT, ENVIRONMENT, self.revision, "2026-01-01 00:00:00.000000")
        insert = "INSERT INTO revision (project, environment, revision, at, kind, key) SELECT ?, ?, ?, ?"
        if by_keys:
            self.raw.execute(f"{insert}, 'flag', key FROM flag_config WHERE project = '{PROJECT}'", place)
            self.raw.execute(f"{insert}, 'segment', key FROM segment WHERE project = '{PROJECT}'", place)
        else:
            self.raw.execute(f"{insert}, 'environment', ''", place)
        self.raw.execute("UPDATE environment SET revision = ? WHERE project = ?", (self.revision, PROJECT))
