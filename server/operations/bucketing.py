"""Say how many users another bucketing scheme would move."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from server.core.environments import Bucketing
from server.core.evaluation.snapshots import build_snapshot
from server.core.flags import TARGETING_KEY
from server.core.flagsets import FlagSet

SAMPLE_USERS: Final = 1_000


def moved_users(flag_set: FlagSet, before: Bucketing, *, now: int) -> Mapping[str, int]:
    """By flag, how many of SAMPLE_USERS get another variant than under the scheme before; flags that move none are out.

    The sample users have a targeting key and nothing else, so a flag that asks for more may move others.
    """
    environment = replace(flag_set.environment, bucketing=before)
    old = build_snapshot(replace(flag_set, environment=environment), revision=0)
    new = build_snapshot(flag_set, revision=0)
    contexts = [{TARGETING_KEY: f"user-{number}"} for number in range(SAMPLE_USERS)]
    moved: dict[str, int] = {}
    for key in sorted(new.flags):
        if new.flags[key].static is None:
            ask, ask_old = new.flags[key].evaluate, old.flags[key].evaluate
            moved[key] = sum(ask(each, now).variant != ask_old(each, now).variant for each in contexts)
    return {key: count for key, count in moved.items() if count}
