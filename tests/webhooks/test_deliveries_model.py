"""Whatever happens in whatever order, deliveries do what a model of a few lines does."""

from dataclasses import dataclass
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from sqlalchemy import Engine, delete, select

from server.store.engine import reading, writing
from tests.webhooks.made import Events, Written, add_endpoint, after
from webhooks.deliveries import Claimed, Result, claim, record
from webhooks.endpoints import enable, end
from webhooks.finished import Wanted, remove_finished, replay
from webhooks.outbox import fan_out
from webhooks.states import EndpointState, Lane, Status
from webhooks.tables import Base, deliveries

_LEASE_S = 10


@dataclass
class _Modelled:
    """What the model knows of one delivery."""

    key: str
    status: str = "pending"
    lane: str = "fresh"
    due_s: float | None = 0
    claim_id: str = ""
    attempt_count: int = 0


class _Deliveries(RuleBasedStateMachine):
    """One ordered endpoint; time goes on by seconds."""

    engine: Engine

    def __init__(self) -> None:
        super().__init__()
        with writing(self.engine) as connection:
            for table in reversed(Base.metadata.sorted_tables):
                connection.execute(delete(table))
        add_endpoint(self.engine, ordering="per_key")
        self.now_s = 0
        self.enabled = True
        self.events = Events()
        self.model: dict[int, _Modelled] = {}
        self.claims: list[Claimed] = []

    @rule(key=st.sampled_from(["", "a", "b"]))
    def enqueue(self, key: str) -> None:
        """An event is committed and fanned out."""
        self.events.add(key)
        with writing(self.engine) as connection:
            fan_out(connection, self.events, project="shop", wants=lambda _id, _event: True, now=after(self.now_s))
        self.model[len(self.events.events)] = _Modelled(key, due_s=self.now_s)
        self._miss()

    @rule(seconds=st.integers(1, _LEASE_S))
    def wait(self, seconds: int) -> None:
        """Leases end, and waits are over."""
        self.now_s += seconds

    @rule(lane=st.sampled_from(Lane), room=st.integers(1, 3))
    def claim(self, lane: Lane, room: int) -> None:
        """The first ones that are due are claimed, no others, and none before an earlier one of its key."""
        due = {number: it for number, it in self.model.items() if it.due_s is not None and it.due_s <= self.now_s}
        expected = [
            number for number in sorted(due, key=lambda number: (due[number].due_s, number))
            if self.enabled and due[number].lane == lane and not self._earlier(number)
        ][:room]  # fmt: skip
        claim_id = f"claim {len(self.claims)}"
        with writing(self.engine) as connection:
            claimed = claim(
                connection, rooms={"ep_1": room}, lane=lane, claim_id=claim_id, lease_s=_LEASE_S, now=after(self.now_s)
            )
        assert sorted(expected) == [each.sequence for each in claimed]
        for each in claimed:
            it = self.model[each.sequence]
            it.status, it.claim_id, it.due_s = "claimed", claim_id, self.now_s + _LEASE_S
            it.attempt_count += 1
        self.claims += claimed

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), how=st.sampled_from(["arrived", "again", "exhausted", "abort", "disable"]))
    def record(self, data: st.DataObject, how: str) -> None:
        """A result counts for whoever holds the claim, also long after its lease; another is refused."""
        claimed = data.draw(st.sampled_from(self.claims))
        it = self.model.get(claimed.sequence)
        fields_by_end: dict[str, dict[str, Any]] = {
            "arrived": {},
            "again": {"error": "no", "retry_in_s": 5},
            "exhausted": {"error": "no"},
            "abort": {"error": "no", "retry_in_s": 5, "abort": True},
            "disable": {"disable": True},
        }
        with writing(self.engine) as connection:
            kept = record(connection, [Result(claimed, **fields_by_end[how])], notices=Written(), now=after(self.now_s))
        held = it is not None and it.status == "claimed" and it.claim_id == claimed.claim_id
        assert kept == ({claimed.id} if held else set())
        if it is None or not held:
            return
        status = {"arrived": "delivered", "again": "pending", "abort": "aborted", "disable": "delivered"}
        it.status, it.lane = status.get(how, "exhausted"), "retry"
        it.due_s = self.now_s + 5 if how == "again" else None
        self.enabled = self.enabled and how != "disable"
        self._miss()

    @rule()
    def disable(self) -> None:
        """All that is not finished is missed."""
        with writing(self.engine) as connection:
            end(connection, "ep_1", EndpointState.DISABLED, why="asked", notices=Written(), now=after(self.now_s))
        self.enabled = False
        self._miss()

    @rule()
    def enable(self) -> None:
        """Nothing is sent by that alone."""
        with writing(self.engine) as connection:
            assert self.enabled != enable(connection, "ep_1", notices=Written())
        self.enabled = True

    @rule(statuses=st.sets(st.sampled_from(Status), min_size=1))
    def replay(self, statuses: set[Status]) -> None:
        """What is finished so begins anew."""
        chosen = [it for it in self.model.values() if self.enabled and it.due_s is None and it.status in statuses]
        with writing(self.engine) as connection:
            wanted = Wanted("ep_1", statuses=tuple(statuses))
            assert len(chosen) == replay(connection, wanted, finished_by=after(self.now_s), now=after(self.now_s))
        for it in chosen:
            it.status, it.lane, it.due_s = "pending", "retry", self.now_s

    @rule()
    def sweep(self) -> None:
        """What was delivered is forgotten, nothing else."""
        with writing(self.engine) as connection:
            remove_finished(connection, finished_by=after(self.now_s), statuses=[Status.DELIVERED])
        self.model = {number: it for number, it in self.model.items() if it.status != "delivered"}

    @invariant()
    def all_agrees(self) -> None:
        """None is lost, none is doubled, and each is where the model has it."""
        columns = deliveries.c
        with reading(self.engine) as connection:
            rows = connection.execute(
                select(columns.sequence, columns.status, columns.lane, columns.attempt_count, columns.due_at_ms)
            ).all()
        start_ms = int(after(0).timestamp() * 1_000)
        assert sorted(
            (number, it.status, it.lane, it.attempt_count, None if it.due_s is None else it.due_s * 1_000)
            for number, it in self.model.items()
        ) == sorted((*row[:4], None if row[4] is None else row[4] - start_ms) for row in rows)

    def _earlier(self, number: int) -> bool:
        mine = self.model[number]
        return mine.key != "" and any(
            other < number and it.key == mine.key and it.due_s is not None for other, it in self.model.items()
        )

    def _miss(self) -> None:
        if not self.enabled:
            for it in self.model.values():
                if it.due_s is not None:
                    it.status, it.due_s, it.claim_id = "missed", None, ""


def test_deliveries_do_as_the_model_does(engine: Engine) -> None:
    """Enqueue, wait, claim, finish, disable, enable, replay and forget, in any order."""
    machine = type("Machine", (_Deliveries,), {"engine": engine})

    run_state_machine_as_test(machine, settings=settings(max_examples=25, stateful_step_count=25, deadline=None))
