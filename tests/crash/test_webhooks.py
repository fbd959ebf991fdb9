"""Each event reaches each endpoint that wants it, whoever dies; and the proof of it notices when not."""

import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.crash.damaging import broken_by, proven
from tests.crash.databases import Databases, Place
from tests.crash.delivered import Arrival, Seen, read_journal, read_ledger, verify
from tests.crash.proofs import Effort, Results
from tests.crash.timed import Run
from tests.crash.webhooks import _finish, _produce, _scene, _template

BROKEN_ROWS = [
    ("DELETE FROM delivery WHERE endpoint_id = 'ep_0'", "each wanted event became a delivery"),
    ("UPDATE delivery SET status = 'pending', due_at_ms = 1 WHERE endpoint_id = 'ep_0'", "each delivery is finished"),
    ("UPDATE delivery SET status = 'exhausted' WHERE endpoint_id = 'ep_0'", "nothing is lost"),
    ("DELETE FROM outbox WHERE type = 'webhook.delivery_exhausted'", "what is given up is told"),
    ("DELETE FROM outbox WHERE type = 'webhook.endpoint_disabled'", "an endpoint's end is told"),
    ("DELETE FROM revision WHERE revision > 3", "what was acknowledged is there"),
    ("DELETE FROM outbox WHERE sequence = (SELECT max(sequence) FROM outbox WHERE type LIKE 'flag.%')",
     "nothing arrives that was not committed"),
    ("UPDATE delivery SET endpoint_id = 'ep_5', event_id = event_id || 'x' WHERE endpoint_id = 'ep_1'",
     "each wanted event became a delivery"),
    ("DELETE FROM attempt WHERE number = 1", "each request has a row of its attempt"),
    ("UPDATE attempt SET outcome = 'x' WHERE outcome = 'failed'", "nothing comes more often than it was tried"),
    ("UPDATE attempt SET outcome = 'lost' WHERE outcome = 'failed'", "without a crash nothing is lost sight of"),
    ("UPDATE attempt SET outcome = 'sending' WHERE outcome = 'delivered'",
     "what became of an attempt is kept with the delivery"),
    ("UPDATE attempt SET outcome = 'delivered' WHERE outcome = 'failed'", "no attempt is made after one that arrived"),
    ("UPDATE attempt SET started_at_ms = started_at_ms - 1000 WHERE number > 1", "nothing is tried again too early"),
    ("UPDATE attempt SET started_at_ms = started_at_ms - 60000", "each attempt is signed anew"),
    ("UPDATE delivery SET claim_id = 'somebody'", "nobody holds a claim in the end"),
]  # fmt: skip

Ledger = Sequence[Arrival]
BROKEN_LEDGERS: list[tuple[Callable[[Ledger], Ledger], str]] = [
    (lambda found: [each for each in found if each.path != "/ok/plain"], "nothing is lost"),
    (lambda found: [*found, *found], "nothing comes more often than it was tried"),
    (lambda found: [replace(each, id="evt_0") for each in found], "the body's id is the header's"),
    (lambda found: [replace(each, body=each.body + " ") for each in found], "the body is whole"),
    (lambda found: [replace(each, signature="v1,AAAA") for each in found], "each signature holds"),
    (lambda found: [replace(found[0], sha256="0"), *found[1:]], "every attempt has the same bytes"),
    (lambda found: [*reversed(found)], "an ordered endpoint goes forward"),
]


def test_deliveries_survive() -> None:
    """The quick form of the proof: the main ways of hurting once, on the two kinds of database in turn."""
    proven("webhooks", cycles=5)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Place, Seen]]:
    """A database as the proof's processes leave it when nobody was hurt, with what was sent and noted."""
    folder = tmp_path_factory.mktemp("sound")
    run = Run(Effort(1, 0, 7, str(folder)), random.Random(7), Results())
    place = _template(Databases(folder, None))
    with _scene(run, place, None) as scene:
        _produce(run, scene)
        _finish(scene)
        journals = [read_journal(each) for each in scene.journals]
        acknowledged = [revision for journal in journals for revision in journal]
        yield place, Seen(scene.targets, read_ledger(scene.folder / "ledger"), acknowledged, clean=True)


def test_a_sound_delivery_is_sound(sound: tuple[Place, Seen]) -> None:
    """The proof does not cry without need."""
    place, seen = sound
    results = Results()
    verify(place, replace(seen, events={}, deliveries=[], attempts={}), results, where="here")

    assert results.hold, results


@pytest.mark.parametrize(("damage", "invariant"), BROKEN_ROWS)
def test_the_proof_notices_damaged_rows(sound: tuple[Place, Seen], tmp_path: Path, damage: str, invariant: str) -> None:
    """Each invariant can break; what breaks it is seen."""
    place, seen = sound
    copy = Place(f"sqlite:///{tmp_path / 'copy.db'}")
    shutil.copy(place.url.removeprefix("sqlite:///"), tmp_path / "copy.db")
    looked = replace(seen, events={}, deliveries=[], attempts={})

    assert invariant in broken_by(copy, damage, lambda results: verify(copy, looked, results, where="here"))


@pytest.mark.parametrize(("damage", "invariant"), BROKEN_LEDGERS)
def test_the_proof_notices_what_was_received(
    sound: tuple[Place, Seen], damage: Callable[[Ledger], Ledger], invariant: str
) -> None:
    """Also where the rows say that all is well."""
    place, seen = sound
    results = Results()
    looked = replace(seen, arrivals=damage(seen.arrivals), events={}, deliveries=[], attempts={})
    verify(place, looked, results, where="here")

    assert invariant in {name for name, tally in results.tallies.items() if tally.broken}
