"""Run the long proofs and print which invariants held; exit 1 when one broke."""

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from tests.calendar import proof as calendar
from tests.crash import (
    abuse,
    backups,
    commits,
    guards,
    launch_plans,
    outage,
    poison,
    releases,
    schedules,
    soak,
    storm,
    webhooks,
)
from tests.crash.proofs import Effort, Proof, table
from tests.fuzz import proof as fuzz

PROOFS: Final[Mapping[str, Proof]] = {
    "abuse": abuse.prove,
    "backups": backups.prove,
    "calendar": calendar.prove,
    "commits": commits.prove,
    "fuzz": fuzz.prove,
    "guards": guards.prove,
    "launch-plans": launch_plans.prove,
    "outage": outage.prove,
    "poison": poison.prove,
    "releases": releases.prove,
    "schedules": schedules.prove,
    "soak": soak.prove,
    "storm": storm.prove,
    "webhooks": webhooks.prove,
}


@dataclass(frozen=True, slots=True)
class Size:
    """How many cycles a proof goes on for, how many of timed work, and how large its imports are."""

    cycles: int
    timed_cycles: int
    import_flags: int
    storm_s: float = 0.0


SIZES: Final = {
    "quick": Size(12, 8, 500),
    "usual": Size(200, 16, 5_000, 10),
    "long": Size(2_000, 80, 5_000, 300),
}
TIMED: Final = frozenset({"guards", "launch-plans", "releases", "schedules", "webhooks"})
"""Their cycles wait for instants to come, and take seconds."""


def main() -> int:
    """Run the proofs that were asked for."""
    parser = argparse.ArgumentParser(prog="prove", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of: {', '.join(PROOFS)}; without one, all run")
    parser.add_argument("--quick", dest="size", action="store_const", const="quick", help="a few cycles, in seconds")
    parser.add_argument(
        "--long",
        dest="size",
        action="store_const",
        const="long",
        help="ten times as many, in hours",
    )
    parser.add_argument("--cycles", type=int, help="another number of cycles")
    parser.add_argument("--storm-s", type=float, help="another length of what kills several processes at random")
    parser.add_argument("--seed", type=int, help="repeat what a run of this seed chose; instants still differ")
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in PROOFS]
    if unknown:
        parser.error(f"no proof {unknown[0]!r}; there is: {', '.join(PROOFS)}")
    size = SIZES[options.size or "usual"]
    seed = random.randrange(10**6) if options.seed is None else options.seed
    storm_s = size.storm_s if options.storm_s is None else options.storm_s
    held = [
        _run(name, options.cycles or (size.timed_cycles if name in TIMED else size.cycles), size, storm_s, seed=seed)
        for name in options.names or PROOFS
    ]
    return 0 if all(held) else 1


def _run(name: str, cycles: int, size: Size, storm_s: float, *, seed: int) -> bool:
    started_at = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="flagstaff-prove-") as directory:
        results = PROOFS[name](Effort(cycles, size.import_flags, seed, directory, storm_s))
    print(table(name, results))
    verdict = "every invariant held" if results.hold else "AN INVARIANT BROKE"
    print(f"\n  {verdict}, in {time.monotonic() - started_at:.0f} s with seed {seed}\n", flush=True)
    return results.hold


if __name__ == "__main__":
    sys.exit(main())
