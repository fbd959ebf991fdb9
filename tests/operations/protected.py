"""A shop whose production asks for approvals, and the people who work with it."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Engine

from server.core.access import Action, Grant, Principal, Role
from server.core.change_requests.machine import Happening
from server.core.changes import PutFlag, UpdateEnvironment
from server.core.environments import ApprovalPolicy
from server.operations.change_requests.applying import Applying
from server.operations.change_requests.review import Review
from server.operations.freezes import permit_unless_frozen
from server.operations.writes import Outcome, Write, Writer, Written
from server.store.audit import list_entries
from server.store.change_requests import StoredRequest
from server.store.commit import Part
from server.store.engine import reading
from tests.announced import check_announced
from tests.store.definitions import NOW, flag, new_shop, put, stored

EDITOR: Final = Principal("ann", (Grant(Role.EDIT),))
APPROVER: Final = Principal("bob", (Grant(Role.APPROVE),))
OTHER: Final = Principal("eve", (Grant(Role.APPROVE),))
OPERATOR: Final = Principal("oz", (Grant(Role.OPERATE),))
FIREFIGHTER: Final = Principal("fay", (Grant(Role.EDIT), Grant(Role.BYPASS)))
READER: Final = Principal("rita", (Grant(Role.READ),))


@dataclass
class House:
    """A shop whose production asks for approvals, and the people who work with it."""

    engine: Engine
    gone: dict[str, Principal] = field(default_factory=dict)
    """Who is known to be allowed something else now."""

    @property
    def writer(self) -> Writer:
        """With a freeze policy, as a server has it."""
        return Writer(self.engine, (permit_unless_frozen,), self.gone.get)

    @property
    def review(self) -> Review:
        """What people do."""
        return Review(self.writer)

    @property
    def applying(self) -> Applying:
        """What makes the changes."""
        return Applying(self.writer)

    def write(self, *parts: Part, by: Principal = EDITOR, **options: Any) -> Written:
        """Any write of a service."""
        return self.writer.write("shop", parts, ask(by, **options))

    def asked(self, *parts: Part, **options: Any) -> str:
        """The id of the change request that a write became."""
        written = self.write(*(parts or (ON,)), **options)
        assert Outcome.REQUESTED is written.outcome
        return written.change_request

    def approve(self, id: str, by: Principal = APPROVER, **options: Any) -> StoredRequest:
        """Say yes."""
        return self.review.approve(ask(by, **options), project="shop", id=id, text="fine").request

    def apply(self, id: str, by: Principal = EDITOR, **options: Any) -> Written:
        """Make the change."""
        return self.applying.apply(ask(by, **options), project="shop", id=id).written

    def read(self, id: str) -> StoredRequest:
        """How it is now."""
        return self.review.read(READER, project="shop", id=id)

    def happenings(self, id: str) -> list[Happening]:
        """What happened to it."""
        return [each.happening for each in self.review.read_detail(READER, project="shop", id=id).steps]

    def protect(self, environment: str = "production", **policy: Any) -> None:
        """Give an environment another policy, past all of them."""
        put(self.engine, UpdateEnvironment(approval_policy=ApprovalPolicy(**policy)), environment=environment)


def ask(by: Principal, *, now: datetime = NOW, action: Action = Action.EDIT, **options: Any) -> Write:
    """How somebody asks for a write."""
    return Write(by, action, now, **options)


ON: Final = Part("production", [PutFlag(flag(default="on"))])


def default_of(house: House, environment: str = "production", key: str = "checkout") -> Any:
    """What is stored of a flag: its default."""
    document = stored(house.engine, environment).flags[key]
    assert document is not None
    return document["default"]


def entries_of(house: House, kind: str) -> Any:
    """The audit trail about a kind of thing, the newest first."""
    with reading(house.engine) as connection:
        return [each for each in list_entries(connection, project="shop") if each.subject_kind == kind]


def open_house(tmp_path: Path) -> Iterator[House]:
    """Production has a flag, and asks for one approval."""
    engine = new_shop(tmp_path)
    put(engine, PutFlag(flag()))
    house = House(engine)
    house.protect(approvals=1)
    yield house
    check_announced(house.engine)
    engine.dispose()
