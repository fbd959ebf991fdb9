"""Hold what a receiver got against what was committed: the oracle of the proof of deliveries.

It reads the producers' journals, the receiver's ledger and plain rows; none of the code that delivers is asked, and
signatures are verified by the reference library of Standard Webhooks.
"""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from standardwebhooks.webhooks import Webhook

from tests.crash.databases import Look, Place
from tests.crash.proofs import Results

FINISHED: Final = ("delivered", "exhausted", "missed", "aborted")
JITTER: Final = 0.2
CLOCKS_S: Final = 0.05
"""An answer is noted by the receiver's clock and an attempt by the database's, in whole milliseconds."""

SIGNED_WITHIN_S: Final = 5.0
"""After its attempt was noted, a message is signed within so long."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request as the receiver's ledger has it. Units: at in Unix seconds."""

    at: float
    path: str
    id: str
    attempt: int
    timestamp: int
    signature: str
    sha256: str
    body: str


@dataclass(frozen=True, slots=True)
class Target:
    """An endpoint of the proof."""

    id: str
    path: str
    secret: str
    types: tuple[str, ...]
    """The types that it wants; () for all but those of deliveries."""

    accepts: bool = True
    """Whether its receiver takes a message in the end."""

    ordered: bool = False
    delays_s: tuple[float, ...] = ()
    since: int = 0

    def wants(self, event: Mapping[str, Any]) -> bool:
        """As its filter says; the oracle reads it for itself."""
        type_ = str(event["type"])
        return event["sequence"] > self.since and (type_ in self.types if self.types else type_[:8] != "webhook.")


@dataclass(slots=True)
class Seen:
    """All that there is to look at."""

    targets: Sequence[Target]
    arrivals: Sequence[Arrival]
    acknowledged: Sequence[int]
    """Revisions whose commit returned, as producers noted them."""

    clean: bool = False
    """Nobody was hurt: nothing may come twice."""

    events: dict[str, dict[str, Any]] = field(default_factory=dict)
    deliveries: list[dict[str, Any]] = field(default_factory=list)
    attempts: dict[str, list[dict[str, Any]]] = field(default_factory=dict)


def read_ledger(path: Path) -> list[Arrival]:
    """What was received, in the order in which it was noted; a line that a crash cut short is none."""
    if not path.exists():
        return []
    return [
        Arrival(
            row["at"], row["path"], row["id"], int(row["attempt"] or 0), int(row["timestamp"] or 0), row["signature"],
            row["sha256"], row["body"],
        )
        for row in _lines(path)
    ]  # fmt: skip


def read_journal(path: Path) -> list[int]:
    """Revisions that a producer was told of."""
    return [int(row["revision"]) for row in _lines(path)] if path.exists() else []


def _lines(path: Path) -> Iterable[dict[str, Any]]:
    for line in path.read_text().splitlines(keepends=True):
        if line.endswith("\n"):
            yield json.loads(line)


def verify(place: Place, seen: Seen, results: Results, *, where: str) -> None:
    """Look at each event, each delivery and each arrival."""
    _read(place, seen, results, where=where)
    _no_loss(seen, results, where=where)
    _no_phantom(seen, results, where=where)
    _no_needless_doubles(seen, results, where=where)
    _same_message(seen, results, where=where)
    _attempts_are_kept(seen, results, where=where)
    _waits(seen, results, where=where)
    _order(seen, results, where=where)


def _read(place: Place, seen: Seen, results: Results, *, where: str) -> None:
    with closing(Look(place)) as look:
        columns = ("id", "sequence", "type", "payload")
        for row in look.execute(f"SELECT {', '.join(columns)} FROM outbox WHERE project = 'shop'").fetchall():
            event = dict(zip(columns, row, strict=True))
            seen.events[event["id"]] = {**event, "payload": json.loads(event["payload"])}
        names = ("id", "event_id", "endpoint_id", "status", "ordering_key", "sequence", "claim_id", "due_at_ms")
        rows = look.execute(f"SELECT {', '.join(names)} FROM delivery").fetchall()
        seen.deliveries = [dict(zip(names, row, strict=True)) for row in rows]
        tried = ("delivery_id", "number", "outcome", "started_at_ms", "ended_at_ms", "status_code")
        for row in look.execute(f"SELECT {', '.join(tried)} FROM attempt ORDER BY delivery_id, number").fetchall():
            attempt = dict(zip(tried, row, strict=True))
            seen.attempts.setdefault(attempt["delivery_id"], []).append(attempt)
        revisions = {revision for (revision,) in look.execute("SELECT revision FROM revision").fetchall()}
        results.equal("the database finds nothing wrong", [], look.problems(), where=where)
    lost = sorted(set(seen.acknowledged) - revisions)
    results.equal("what was acknowledged is there", [], lost, where=where)


def _accepted(seen: Seen) -> Counter[tuple[str, str]]:
    """(path, event id) -> how often it arrived."""
    return Counter((each.path, each.id) for each in seen.arrivals)


def _no_loss(seen: Seen, results: Results, *, where: str) -> None:
    arrived = _accepted(seen)
    status = {(each["endpoint_id"], each["event_id"]): each["status"] for each in seen.deliveries}
    told = {
        (each["payload"].get("endpoint_id"), each["payload"].get("event_id"))
        for each in seen.events.values()
        if each["type"] == "webhook.delivery_exhausted"
    }
    ended = {
        each["payload"].get("endpoint_id")
        for each in seen.events.values()
        if each["type"] == "webhook.endpoint_disabled"
    }
    for target in seen.targets:
        for id_, event in seen.events.items():
            if not target.wants(event):
                continue
            here = f"{where}, {event['type']} {event['sequence']} to {target.path}"
            state = status.get((target.id, id_))
            # Who said that he is no more gets no deliveries at all from then on.
            made = state is not None or (not target.accepts and target.id in ended)
            results.check("each wanted event became a delivery", made, here)
            if state is None:
                continue
            results.check("each delivery is finished", state in FINISHED, f"{here}: {state}")
            if target.accepts:
                results.check("nothing is lost", arrived[target.path, id_] > 0 and state == "delivered", here)
            elif state == "exhausted":
                results.check("what is given up is told", (target.id, id_) in told, here)
            else:
                results.check("an endpoint's end is told", state != "missed" or target.id in ended, here)
    pairs = Counter((each["endpoint_id"], each["event_id"]) for each in seen.deliveries)
    doubled = [pair for pair, count in pairs.items() if count > 1]
    results.equal("no event has two deliveries to an endpoint", [], doubled, where=where)
    targets = {target.id: target for target in seen.targets}
    unwanted = [
        (each["endpoint_id"], each["sequence"])
        for each in seen.deliveries
        if each["event_id"] in seen.events and not targets[each["endpoint_id"]].wants(seen.events[each["event_id"]])
    ]
    results.equal("nobody gets what he does not want", [], unwanted, where=where)


def _no_phantom(seen: Seen, results: Results, *, where: str) -> None:
    phantoms = sorted({each.id for each in seen.arrivals} - seen.events.keys())
    results.equal("nothing arrives that was not committed", [], phantoms, where=where)


def _no_needless_doubles(seen: Seen, results: Results, *, where: str) -> None:
    """A message comes again for an attempt that failed, or of which nobody knows what became; never for another."""
    paths = {target.id: target.path for target in seen.targets}
    accepting = {target.id for target in seen.targets if target.accepts}
    arrived = _accepted(seen)
    doubles = 0
    for each in seen.deliveries:
        attempts = seen.attempts.get(each["id"], [])
        count = arrived[paths[each["endpoint_id"]], each["event_id"]]
        known = sum(attempt["outcome"] == "delivered" for attempt in attempts)
        results.check("no attempt is made after one that arrived", known <= 1, f"{where}, {each['id']}")
        lost = sum(attempt["outcome"] == "lost" for attempt in attempts)
        failed = sum(attempt["outcome"] == "failed" for attempt in attempts)
        here = f"{where}, {each['id']}: {count} arrivals, {known} known, {lost} lost, {failed} failed"
        results.check("nothing comes more often than it was tried", count <= known + lost + failed, here)
        doubles += max(count - known - failed, 0)
        # What is under way to an endpoint when another answer ends it is lost sight of, too.
        if seen.clean and each["endpoint_id"] in accepting:
            results.check("without a crash nothing is lost sight of", lost == 0, here)
    results.note("messages that came again after a crash", doubles)


def _same_message(seen: Seen, results: Results, *, where: str) -> None:
    secrets = {target.path: Webhook(target.secret) for target in seen.targets}
    ids = {target.path: target.id for target in seen.targets}
    deliveries = {(each["endpoint_id"], each["event_id"]): each["id"] for each in seen.deliveries}
    bodies: defaultdict[str, set[str]] = defaultdict(set)
    for each in seen.arrivals:
        here = f"{where}, {each.path} {each.id}"
        bodies[each.id].add(each.sha256)
        results.equal("the body's id is the header's", each.id, json.loads(each.body)["id"], where=here)
        results.equal("the body is whole", each.sha256, hashlib.sha256(each.body.encode()).hexdigest(), where=here)
        signed = secrets[each.path].sign(each.id, datetime.fromtimestamp(each.timestamp, UTC), each.body)
        results.equal("each signature holds", signed, each.signature, where=here)
        attempts = seen.attempts.get(deliveries.get((ids[each.path], each.id), ""), [])
        started = [attempt["started_at_ms"] / 1_000 for attempt in attempts if attempt["number"] == each.attempt]
        fresh = any(-1 <= each.timestamp - at <= SIGNED_WITHIN_S for at in started)
        results.check("each attempt is signed anew", fresh, f"{here}: {each.timestamp}, attempts {started}")
    several = [id_ for id_, found in bodies.items() if len(found) > 1]
    results.equal("every attempt has the same bytes", [], several, where=where)


def _attempts_are_kept(seen: Seen, results: Results, *, where: str) -> None:
    numbers = {
        (each["endpoint_id"], each["event_id"]): {attempt["number"] for attempt in seen.attempts.get(each["id"], [])}
        for each in seen.deliveries
    }
    ids = {target.path: target.id for target in seen.targets}
    for each in seen.arrivals:
        known = each.attempt in numbers.get((ids[each.path], each.id), set())
        results.check("each request has a row of its attempt", known, f"{where}, {each.path} {each.id} {each.attempt}")
    held = [each["id"] for each in seen.deliveries if each["status"] == "claimed" or each["claim_id"]]
    results.equal("nobody holds a claim in the end", [], held, where=where)
    for delivery in seen.deliveries:
        arrived = [attempt["outcome"] for attempt in seen.attempts.get(delivery["id"], [])].count("delivered")
        expected = int(delivery["status"] == "delivered")
        here = f"{where}, {delivery['id']}, {delivery['status']}"
        results.equal("what became of an attempt is kept with the delivery", expected, arrived, where=here)


def _waits(seen: Seen, results: Results, *, where: str) -> None:
    delays = {target.id: target.delays_s for target in seen.targets}
    for each in seen.deliveries:
        waits = delays[each["endpoint_id"]]
        attempts = seen.attempts.get(each["id"], [])
        for before, after in pairwise(attempts):
            if before["outcome"] != "failed" or before["ended_at_ms"] is None:
                continue
            waited_s = (after["started_at_ms"] - before["ended_at_ms"]) / 1_000
            least = waits[min(before["number"], len(waits) - 1)] * (1 - JITTER) - CLOCKS_S
            here = f"{where}, {each['id']} attempt {after['number']}: {waited_s:.3f} s, at least {least:.3f}"
            results.check("nothing is tried again too early", waited_s >= least, here)


def _order(seen: Seen, results: Results, *, where: str) -> None:
    sequences = {id_: int(event["sequence"]) for id_, event in seen.events.items()}
    keys = {(each["endpoint_id"], each["event_id"]): each["ordering_key"] for each in seen.deliveries}
    for target in seen.targets:
        if not target.ordered:
            continue
        last: dict[str, int] = {}
        for each in seen.arrivals:
            if each.path != target.path or each.id not in sequences:
                continue
            key, sequence = keys.get((target.id, each.id), ""), sequences[each.id]
            here = f"{where}, {target.path} {key}: {sequence} after {last.get(key, 0)}"
            # The same one again is what a crash may leave; an earlier one never.
            results.check("an ordered endpoint goes forward", sequence >= last.get(key, 0), here)
            last[key] = max(sequence, last.get(key, 0))
