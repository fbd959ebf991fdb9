"""Read what an environment asks of those who change it from JSON of ours, and write it."""

from collections.abc import Mapping
from typing import Any, Final

from server.core.access import ALLOWED, Action, Role
from server.core.definitions.fields import (
    check_fields,
    read_choice,
    read_instant,
    read_object,
    read_text,
    read_texts,
    write_instant,
)
from server.core.definitions.problems import Path, Problems, names, shown
from server.core.environments import NO_APPROVALS, ApprovalPolicy, Covered, FreezeWindow
from server.core.json import Json
from server.core.limits import APPROVALS_MAX, FREEZE_WINDOWS_MAX, KEY_CHARS_MAX, NAMED_PEOPLE_MAX

_POLICY_FIELDS: Final = frozenset({"approvals", "roles", "actors", "covers"})
_WINDOW_FIELDS: Final = frozenset({"from", "until", "reason", "roles", "actors"})
_COVERED: Final = {each.value: each for each in Covered}


def read_approval_policy(data: Json, *, problems: Problems, path: Path) -> ApprovalPolicy:
    """Read an approval policy; one that asks nobody when it is absent or there was an error."""
    if data is None:
        return NO_APPROVALS
    before = len(problems.errors)
    fields = read_object(data, path=path, problems=problems)
    if fields is None:
        return NO_APPROVALS
    check_fields(fields, _POLICY_FIELDS, path=path, problems=problems)
    approvals = _approvals(fields.get("approvals"), (path, "approvals"), problems)
    roles = _roles(fields, Action.APPROVE, path=path, problems=problems)
    policy = ApprovalPolicy(approvals, roles, _actors(fields, path, problems), _covers(fields, path, problems))
    return policy if len(problems.errors) == before else NO_APPROVALS


def write_approval_policy(policy: ApprovalPolicy) -> dict[str, Any]:
    """Write an approval policy; fields that have their default value are left out."""
    data: dict[str, Any] = {"approvals": policy.approvals, **_people(policy)}
    if policy.covers != tuple(Covered):
        data["covers"] = [each.value for each in policy.covers]
    return data


def read_freeze_windows(data: Json, *, problems: Problems, path: Path) -> tuple[FreezeWindow, ...]:
    """Read a list of freeze windows; those with an error are left out."""
    if data is None:
        return ()
    if not isinstance(data, list) or len(data) > FREEZE_WINDOWS_MAX:
        given = f"{len(data)} of them" if isinstance(data, list) else shown(data)
        problems.error(path, f"expected a list of at most {FREEZE_WINDOWS_MAX} freeze windows, not {given}")
        return ()
    read = (_window(window, (path, index), problems) for index, window in enumerate(data))
    return tuple(window for window in read if window is not None)


def write_freeze_window(window: FreezeWindow) -> dict[str, Any]:
    """Write a freeze window; `read_freeze_windows` gives it back."""
    when = {"from": write_instant(window.starts_at), "until": write_instant(window.ends_at)}
    return {**when, "reason": window.reason, **_people(window)}


def _approvals(value: Json, path: Path, problems: Problems) -> int:
    if type(value) is int and 0 <= value <= APPROVALS_MAX:
        return value
    problems.error(path, f"expected a whole number from 0 to {APPROVALS_MAX}, not {shown(value)}")
    return 0


def _covers(fields: Mapping[str, Json], path: Path, problems: Problems) -> tuple[Covered, ...]:
    if fields.get("covers") is None:
        return tuple(Covered)
    found = _choices(fields, "covers", _COVERED, path=path, problems=problems)
    if fields["covers"] == []:
        problems.error((path, "covers"), f"a policy covers at least one of: {names(_COVERED)}")
    return tuple(each for each in Covered if each in found)


def _window(data: Json, path: Path, problems: Problems) -> FreezeWindow | None:
    before = len(problems.errors)
    fields = read_object(data, path=path, problems=problems)
    if fields is None:
        return None
    check_fields(fields, _WINDOW_FIELDS, path=path, problems=problems)
    for name in ("from", "until"):
        if fields.get(name) is None:
            problems.error((path, name), "a freeze window begins and ends at an instant")
    starts_at, ends_at = (read_instant(fields, name, path=path, problems=problems) for name in ("from", "until"))
    if starts_at is not None and ends_at is not None and ends_at <= starts_at:
        problems.error((path, "until"), "a freeze window ends after it begins")
    reason = read_text(fields, "reason", path=path, problems=problems)
    if not reason.strip():
        problems.error((path, "reason"), "a freeze window says why, for those whom it stops")
    roles = _roles(fields, Action.EDIT, path=path, problems=problems)
    actors = _actors(fields, path, problems)
    if starts_at is None or ends_at is None or len(problems.errors) > before:
        return None
    return FreezeWindow(starts_at, ends_at, reason, roles, actors)


def _roles(fields: Mapping[str, Json], action: Action, *, path: Path, problems: Problems) -> tuple[Role, ...]:
    """Roles that may do something; a role which may not do it anyway is a mistake."""
    able = {role.value: role for role in Role if action in ALLOWED[role]}
    found = _choices(fields, "roles", able, path=path, problems=problems)
    return tuple(role for role in Role if role in found)


def _choices(
    fields: Mapping[str, Json], name: str, choices: Mapping[str, Any], *, path: Path, problems: Problems
) -> frozenset[Any]:
    given = read_texts(fields, name, path=path, problems=problems, items_max=len(choices), chars_max=KEY_CHARS_MAX)
    at = (path, name)
    return frozenset(
        read_choice({str(index): value}, str(index), choices, path=at, problems=problems, default=None)
        for index, value in enumerate(given)
    )


def _actors(fields: Mapping[str, Json], path: Path, problems: Problems) -> tuple[str, ...]:
    return read_texts(
        fields, "actors", path=path, problems=problems, items_max=NAMED_PEOPLE_MAX, chars_max=KEY_CHARS_MAX
    )


def _people(named: ApprovalPolicy | FreezeWindow) -> dict[str, Any]:
    people = {"roles": [role.value for role in named.roles], "actors": list(named.actors)}
    return {name: listed for name, listed in people.items() if listed}
