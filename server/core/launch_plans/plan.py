"""Say what a launch plan is, and what is wrong with one."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

from server.core.access import Action
from server.core.calendars import ALWAYS, Calendar, closure_problems
from server.core.change_requests.codec import Content, read_content, read_value, write_content, write_value
from server.core.errors import InvalidDefinition, InvalidRequest, Problem
from server.core.json import Json
from server.core.launch_plans.offsets import ZERO, offset_problem
from server.core.limits import LAUNCH_CHECKS_MAX, LAUNCH_ITEMS_MAX, NAMED_PEOPLE_MAX, TEXT_CHARS_MAX
from server.core.zones import zone_problem

VERSION: Final = 1
"""Of the form in which plans are stored."""

GRACE_S: Final = 3_600
SECONDS_MAX: Final = 90 * 86_400


class Outside(StrEnum):
    """What becomes of an item that falls outside business hours, or into a window in which nothing is to happen."""

    MOVE = "move"
    """It happens at the next open instant, and later ones not before it."""

    REPORT = "report"
    """It stays where it is and is reported. A frozen environment refuses it then."""


class Missed(StrEnum):
    """What becomes of an item for which it is later than the grace time allows: no server ran at its time."""

    HOLD = "hold"
    """The plan is held, and somebody decides."""

    RUN = "run"
    SKIP = "skip"


class Moved(StrEnum):
    """What becomes of an item when somebody else has changed what it would change."""

    REPORT = "report"
    """It is told, and the item happens if it still can."""

    HOLD = "hold"
    """The plan is held until somebody has looked. So it always is where approvals are asked for, which were for what it
    was."""


@dataclass(frozen=True, slots=True)
class Starts:
    """A release that an item starts."""

    release: str
    """Its id."""

    flags: tuple[tuple[str, str], ...] = ()
    """(environment, key) of those that it moves, as the plan was told when it was made."""


@dataclass(frozen=True, slots=True)
class Item:
    """What is to be done at one time."""

    id: str
    offset: str
    """When: `T-7d`, `T-1d 09:00`, `T-0`, `T+2h`."""

    content: Content
    action: Action
    """What one must be allowed, in every environment that it reaches, to do it."""

    title: str = ""
    starts: Starts | None = None
    """A release that begins then; such an item has no content of its own."""

    @property
    def environments(self) -> frozenset[str]:
        """Where it changes something."""
        started = () if self.starts is None else (environment for environment, _ in self.starts.flags)
        return frozenset((*(part.environment for part in self.content.parts), *started))


@dataclass(frozen=True, slots=True)
class Check:
    """A point of the go/no-go list: without a go nothing from its offset on happens."""

    id: str
    text: str
    approvers: tuple[str, ...]
    """Who may answer, by name."""

    before: str = ZERO


@dataclass(frozen=True, slots=True)
class Plan:
    """A launch: items and checks around an instant, T-0. Units: instants are aware."""

    name: str
    zone: str
    """Where days and times of the day are told."""

    launch_at: datetime
    """T-0."""

    items: tuple[Item, ...]
    """Those of one instant happen in this order, as one commit."""

    checks: tuple[Check, ...] = ()
    owner: str = ""
    description: str = ""
    calendar: Calendar = ALWAYS
    outside: Outside = Outside.MOVE
    missed: Missed = Missed.HOLD
    moved: Moved = Moved.REPORT
    grace_s: int = GRACE_S
    remind_before_s: int = 0
    """Before an item somebody is reminded; 0 for never."""

    @property
    def environments(self) -> tuple[str, ...]:
        """Where it changes something."""
        return tuple(sorted({environment for item in self.items for environment in item.environments}))


def check_plan(plan: Plan) -> None:
    """Refuse a plan that is not sound. Errors: InvalidDefinition with every problem and its path."""
    problems = [*_head_problems(plan), *_item_problems(plan.items), *_check_problems(plan.checks)]
    if problems:
        raise InvalidDefinition(problems)


def write_plan(plan: Plan) -> dict[str, Json]:
    """A plan as JSON; `read_plan` gives the same back."""
    head = write_value(replace(plan, items=()))
    items = [
        {
            "id": item.id,
            "offset": item.offset,
            "title": item.title,
            "action": item.action.value,
            "content": write_content(item.content),
            "starts": None if item.starts is None else write_value(item.starts),
        }
        for item in plan.items
    ]
    return {"version": VERSION, "plan": head, "items": items}


def read_plan(data: Any) -> Plan:
    """Read what `write_plan` wrote. Errors: InvalidRequest when this version of the program cannot."""
    if not isinstance(data, dict) or data.get("version") != VERSION:
        raise InvalidRequest("the stored launch plan is in a form that this version cannot read; make it anew")
    try:
        head: Plan = read_value(Plan, {name: each for name, each in data["plan"].items() if name != "items"} | _NONE)
        items = tuple(_read_item(each) for each in data["items"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"{type(error).__name__}: {error}"
        raise InvalidRequest(f"the stored launch plan cannot be read ({what}); make it anew") from None
    return replace(head, items=items)


def _read_item(data: Mapping[str, Any]) -> Item:
    content, action = read_content(data["content"]), Action(data["action"])
    # Plans that were made before releases could be started know nothing of them.
    starts = data.get("starts")
    started = None if starts is None else read_value(Starts, starts)
    return Item(data["id"], data["offset"], content, action, data["title"], started)


_ID: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}", re.ASCII)
_NONE: Final[dict[str, Json]] = {"items": []}
_FIRST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LAST: Final = datetime(9000, 1, 1, tzinfo=UTC)


def _head_problems(plan: Plan) -> list[Problem]:
    problems = []
    if not plan.name.strip():
        problems.append(Problem("/name", "is needed"))
    for name, text in (("name", plan.name), ("description", plan.description), ("owner", plan.owner)):
        if len(text) > TEXT_CHARS_MAX:
            problems.append(Problem(f"/{name}", f"is longer than {TEXT_CHARS_MAX} characters"))
    if told := zone_problem(plan.zone):
        problems.append(Problem("/zone", told))
    if plan.launch_at.tzinfo is None or not _FIRST <= plan.launch_at <= _LAST:
        problems.append(Problem("/launch_at", "is no instant with its time zone, such as 2026-12-01T09:00:00Z"))
    for name, seconds in (("grace_s", plan.grace_s), ("remind_before_s", plan.remind_before_s)):
        if not 0 <= seconds <= SECONDS_MAX:
            problems.append(Problem(f"/{name}", f"{seconds} is not from 0 to {SECONDS_MAX} (90 days)"))
    return [*problems, *closure_problems(plan.calendar.closures, path="/closures")]


def _item_problems(items: Sequence[Item]) -> list[Problem]:
    if not items:
        return [Problem("/items", "a plan needs at least one")]
    if len(items) > LAUNCH_ITEMS_MAX:
        return [Problem("/items", f"has {len(items)}, at most {LAUNCH_ITEMS_MAX} are allowed")]
    problems = _id_problems([item.id for item in items], "/items")
    for index, item in enumerate(items):
        if told := offset_problem(item.offset):
            problems.append(Problem(f"/items/{index}/offset", told))
        changes = any(part.changes for part in item.content.parts)
        if not changes and item.starts is None:
            problems.append(Problem(f"/items/{index}", "changes nothing, and starts no release"))
        if changes and item.starts is not None:
            problems.append(Problem(f"/items/{index}", "changes something and starts a release; make an item of each"))
        if item.starts is not None and any(_starts_same(item, other) for other in items[:index]):
            problems.append(
                Problem(f"/items/{index}/start_release", f"{item.starts.release!r} is started by another item, too")
            )
        if not all(part.environment for part in item.content.parts):
            problems.append(Problem(f"/items/{index}", "changes the project itself; a plan changes its environments"))
        if len(item.title) > TEXT_CHARS_MAX:
            problems.append(Problem(f"/items/{index}/title", f"is longer than {TEXT_CHARS_MAX} characters"))
    return problems


def _starts_same(item: Item, other: Item) -> bool:
    return item.starts is not None and other.starts is not None and item.starts.release == other.starts.release


def _check_problems(checks: Sequence[Check]) -> list[Problem]:
    if len(checks) > LAUNCH_CHECKS_MAX:
        return [Problem("/checks", f"has {len(checks)}, at most {LAUNCH_CHECKS_MAX} are allowed")]
    problems = _id_problems([check.id for check in checks], "/checks")
    for index, check in enumerate(checks):
        where = f"/checks/{index}"
        if told := offset_problem(check.before):
            problems.append(Problem(f"{where}/before", told))
        if not check.approvers or not all(each.strip() for each in check.approvers):
            problems.append(Problem(f"{where}/approvers", "name who may answer, such as `token:ann`"))
        if len(check.approvers) > NAMED_PEOPLE_MAX:
            problems.append(Problem(f"{where}/approvers", f"at most {NAMED_PEOPLE_MAX} are allowed"))
        if not check.text.strip() or len(check.text) > TEXT_CHARS_MAX:
            problems.append(Problem(f"{where}/text", f"say what is asked, in 1 to {TEXT_CHARS_MAX} characters"))
    return problems


def _id_problems(ids: Sequence[str], where: str) -> list[Problem]:
    problems = []
    for index, id in enumerate(ids):
        if not _ID.fullmatch(id):
            problems.append(Problem(f"{where}/{index}/id", f"{id[:70]!r} is not 1 to 64 of a-z, 0-9, '.', '_' and '-'"))
        elif id in ids[:index]:
            problems.append(Problem(f"{where}/{index}/id", f"{id!r} stands twice"))
    return problems
