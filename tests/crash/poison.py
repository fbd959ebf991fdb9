"""Prove that a bad definition is refused or kept to itself: the other flags' answers do not change by a byte.

Each cycle makes mutants of good definitions. Each of them goes through the door (a file that is read, a change that
is committed) and, past it, as a row beside good rows into a database that a follower watches. At the end a real
server starts over a database full of them.
"""

import json
import logging
import random
import sqlite3
from itertools import islice
from pathlib import Path
from typing import Final

from server.core.changes import Change, PutFlag, PutSegment, RemoveFlag, RemoveSegment
from server.core.definitions.problems import Problems
from server.core.errors import FlagstaffError, InvalidDefinition
from server.live.loader import load_snapshot
from server.operations.flagsets import Place, read_definitions
from server.store.commit import commit
from server.store.engine import reading
from server.store.mapping import parse, parse_flag, parse_segment
from tests.crash.mutants import FLAG, KEY, Base, Mutant, bases_of, mutants
from tests.crash.past_the_door import PastTheDoor
from tests.crash.poisoned import AT, CONTEXTS, ENVIRONMENT, PROJECT, hold, new_database, signature
from tests.crash.poisoned_server import check_server
from tests.crash.proofs import Effort, Results
from tests.fuzz.checks import check_accepted, check_answers, check_refusal

MUTANTS_PER_CYCLE: Final = 50
SERVED: Final = 200
"""Mutants in the database that the real server gets."""

REFUSED: Final = "a refusal names its problems with their paths"
ANSWERED: Final = "what is accepted can be written, and answers soundly"
UNTOUCHED: Final = "a refused commit leaves the database as it was"
COMMITTED: Final = "a committed mutant answers soundly, the others as before"


def prove(effort: Effort) -> Results:
    """Make the mutants and put them everywhere."""
    # Thousands of quarantined flags are what is wanted here.
    logging.getLogger("flagstaff.live").setLevel(logging.CRITICAL)
    results = Results()
    rng = random.Random(effort.seed)
    source = mutants(bases_of(), rng=rng)
    folder = Path(effort.directory)
    door = Door(folder / "door.db", results)
    past = PastTheDoor(folder / "past.db", results, rng=rng)
    served: list[Mutant] = []
    try:
        for _ in range(effort.cycles):
            made = list(islice(source, MUTANTS_PER_CYCLE))
            results.note("mutants", len(made))
            for mutant, base in made:
                door.try_one(mutant, base)
            past.try_all([mutant for mutant, _ in made])
            served = [*served, *(mutant for mutant, _ in made)][-SERVED:]
    finally:
        door.close()
        past.close()
    check_server(folder, served, results)
    return results


class Door:
    """Mutants as files, and as changes that are committed."""

    def __init__(self, path: Path, results: Results) -> None:
        self.results = results
        self.engine = new_database(path)
        self.watch = sqlite3.connect(path)
        with reading(self.engine) as connection:
            good = load_snapshot(connection, project=PROJECT, environment=ENVIRONMENT)
        self.answers = signature(good, good.flags)

    def close(self) -> None:
        """Give the database back."""
        self.watch.close()
        self.engine.dispose()

    def try_one(self, mutant: Mutant, base: Base) -> None:
        """Read it as a file, in the set of what it was made from; then commit what can be made of it."""
        for lenient in (False, True):
            self._read(mutant, base, lenient=lenient)
        change = _change(mutant)
        if change is not None:
            self._try_commit(mutant, change)

    def _read(self, mutant: Mutant, base: Base, *, lenient: bool) -> None:
        text = _spliced(base, mutant)
        try:
            flag_set = read_definitions(text, name="mutant.json", place=Place("p", "e"), lenient=lenient).flag_set
        except InvalidDefinition as refused:
            problems = refused
            self.results.note("refusals")
            hold(self.results, REFUSED, lambda: check_refusal(problems), mutant)
        except Exception as error:
            self.results.check(REFUSED, False, f"{type(error).__name__} {error} by {mutant}")
        else:
            self.results.note("acceptances")
            hold(self.results, ANSWERED, lambda: check_accepted(flag_set, contexts=CONTEXTS), mutant)

    def _try_commit(self, mutant: Mutant, change: Change) -> None:
        before = self._version()
        try:
            self._commit(change)
        except FlagstaffError:
            self.results.note("refused commits")
            self.results.check(UNTOUCHED, before == self._version(), f"changed by {mutant}")
            return
        except Exception as error:
            self.results.check(UNTOUCHED, False, f"{type(error).__name__} {error} by {mutant}")
            return
        self.results.note("commits")
        hold(self.results, COMMITTED, self._check_answers, mutant)
        self._commit(RemoveFlag(KEY) if mutant.kind == FLAG else RemoveSegment(KEY))

    def _version(self) -> int:
        """A number that changes when anybody commits anything."""
        version: int = self.watch.execute("PRAGMA data_version").fetchone()[0]
        return version

    def _check_answers(self) -> None:
        with reading(self.engine) as connection:
            snapshot = load_snapshot(connection, project=PROJECT, environment=ENVIRONMENT)
        quarantined = [flag.quarantine for flag in snapshot.flags.values() if flag.quarantine]
        assert not quarantined, f"quarantined: {quarantined}"
        assert self.answers == signature(snapshot, self.answers), "others answer otherwise"
        check_answers(snapshot, CONTEXTS, seconds_max=None)

    def _commit(self, change: Change) -> None:
        commit(self.engine, project=PROJECT, environment=ENVIRONMENT, changes=[change], actor="proof", now=AT)


def _spliced(base: Base, mutant: Mutant) -> bytes:
    """The mutant's text inside a whole document, wherever its braces end."""
    mark = "\ue001"
    document = json.loads(base.others)
    document.setdefault("flags" if mutant.kind == FLAG else "segments", {})[KEY] = mark
    return json.dumps(document, ensure_ascii=False).encode().replace(f'"{mark}"'.encode(), mutant.text)


def _change(mutant: Mutant) -> Change | None:
    """The change that a caller could send who reads each definition by itself, with every leniency."""
    document = parse(mutant.text)
    problems = Problems(lenient=True)
    if mutant.kind == FLAG:
        flag = parse_flag(KEY, document, problems=problems)
        return None if flag is None else PutFlag(flag)
    segment = parse_segment(KEY, document, problems=problems)
    return None if segment is None else PutSegment(segment)
