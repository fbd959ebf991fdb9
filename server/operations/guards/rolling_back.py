"""Take flags back, and let them come again: the changes that a policy's orders come to, made by the one door.

A roll-back goes to what was served before, so it asks for no approval and no freeze holds it; whoever made the policy
must still be allowed to switch flags off there.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection, Select, select

from server.core.access import Action, Principal, Scope
from server.core.changes import Change, PutFlag
from server.core.definitions.problems import Problems
from server.core.edits import AddRule, RemoveRule, ReplaceRule, SetEnabled
from server.core.errors import FlagstaffError, Refused, StoreCorrupt, StoreUnavailable
from server.core.flags import FlagDefinition, Rule, Share
from server.core.guards.policies import Aim, Policy, Reach, ReachKind
from server.core.limits import ROLLED_BACK_MAX
from server.core.policies import Permit, permit_all
from server.operations.guards.releasing import releases_on, take_release_back
from server.operations.writes import Write, Writer, require
from server.store import tables
from server.store.commit import Committed, Part, commit_within
from server.store.flagsets import load_documents
from server.store.history import texts_at
from server.store.launch_plan_tables import launch_plan_subjects
from server.store.launch_plans import read_launch_plan
from server.store.mapping import as_text, parse, parse_flag
from server.store.position import position
from server.store.rollback_policies import StoredPolicy, Taken
from server.store.saving import Cause, separated
from server.store.versions import read_versions


@dataclass(frozen=True, slots=True)
class TakenBack:
    """What a roll-back did."""

    taken: tuple[Taken, ...]
    revision: int
    """Of the environment, afterwards."""

    text: str = ""
    """What there is to say beside it."""


def flags_reached(connection: Connection, project: str, environment: str, reach: Reach) -> list[str]:
    """Keys of the flags that a policy takes back, sorted; the first ROLLED_BACK_MAX of them."""
    if reach.kind in (ReachKind.FLAG, ReachKind.RULE):
        return [reach.key]
    configs, flags = tables.flag_configs.c, tables.flags.c
    query = select(configs.key).where(configs.project == project, configs.environment == environment)
    if reach.kind is ReachKind.LABEL:
        query = query.join(tables.flags, (flags.project == configs.project) & (flags.key == configs.key)).where(
            position(flags.tags, separated([reach.key])) > 0
        )
    if reach.kind is ReachKind.PLAN:
        query = query.where(configs.key.in_(_flags_of_plan(project, environment, reach.key)))
    return list(connection.execute(query.order_by(configs.key).limit(ROLLED_BACK_MAX)).scalars())


def _flags_of_plan(project: str, environment: str, id: str) -> Select[tuple[str]]:
    subjects = launch_plan_subjects.c
    return select(subjects.key).where(
        subjects.project == project,
        subjects.launch_plan == id,
        subjects.environment == environment,
        subjects.kind == "flag",
    )


def take_back(connection: Connection, stored: StoredPolicy, why: Cause, writer: Writer) -> TakenBack:
    """Do what a policy aims at: with a flag that a release moves by taking the release back, else by itself.

    Where what was there cannot be put back, what the policy reaches is switched off.
    Errors: PermissionDenied when who made the policy may not any more; what a commit raises when nothing helps.
    """
    policy, principal = stored.policy, _author(stored, writer)
    _require_right(principal, Scope(stored.project, policy.environment))
    keys = flags_reached(connection, stored.project, policy.environment, policy.reach)
    releases = releases_on(connection, stored.project, policy.environment, keys)
    revision, moved = 0, set[str]()
    for id, flags in releases.items():
        moved.update(flags)
        revision = max(revision, take_release_back(connection, id, policy, why, writer=writer, principal=principal))
    left = [key for key in keys if key not in moved]
    told = f"release {', '.join(releases)} goes back" if releases else ""
    if policy.aim in (Aim.STEP, Aim.FREEZE):
        told = told or f"no release runs on what it reaches: {', '.join(left[:10])}"
        return TakenBack((), revision, told)
    if not left:
        return TakenBack((), revision, told)
    back = _take_flags_back(connection, stored, left, why)
    return replace(back, revision=max(back.revision, revision), text="; ".join(filter(None, (told, back.text))))


def _take_flags_back(connection: Connection, stored: StoredPolicy, keys: Sequence[str], why: Cause) -> TakenBack:
    if stored.policy.aim is Aim.OFF:
        return _put_back(connection, stored, stored.policy, keys, why)
    savepoint = connection.begin_nested()
    try:
        back = _put_back(connection, stored, stored.policy, keys, why)
    except (StoreUnavailable, StoreCorrupt):
        raise
    except FlagstaffError as error:
        savepoint.rollback()
        off = replace(stored.policy, aim=Aim.OFF)
        text = f"switched off, since it cannot be what it was: {str(error)[:500]}"
        return replace(_put_back(connection, stored, off, keys, why), text=text)
    savepoint.commit()
    return back


def _put_back(
    connection: Connection, stored: StoredPolicy, policy: Policy, keys: Sequence[str], why: Cause
) -> TakenBack:
    project, environment = stored.project, policy.environment
    now = _definitions(connection, project, environment, keys)
    then = _definitions_at(connection, project, environment, keys, stored.progress.anchor)
    changes: list[Change] = []
    for key in keys:
        before = then.get(key)
        served = None if before is None else _as_served(before, stored.progress.armed_at)
        changes += _changes(policy, key, now.get(key), served)
    versions = read_versions(connection, project=project, environment=environment, kind="flag", keys=keys)
    if not changes:
        return TakenBack((), 0, "there was nothing to take back")
    committed = _commit(connection, environment, changes, why, permit_all)
    if committed.unchanged:
        return TakenBack((), committed.revision, "all of it was so already")
    touched = sorted({event.key for event in committed.events if event.kind == "flag"})
    taken = tuple(Taken(key, versions[key], committed.revision) for key in touched if key in versions)
    return TakenBack(taken, committed.revision)


def bring_again(connection: Connection, stored: StoredPolicy, why: Cause, writer: Writer) -> TakenBack:
    """Make flags again what they were before they were taken back; one that changed since stays as it is.

    Errors: as a commit; Refused by a freeze.
    """
    project, environment = stored.project, stored.policy.environment
    keys = [each.key for each in stored.taken]
    versions = read_versions(connection, project=project, environment=environment, kind="flag", keys=keys)
    now = _definitions(connection, project, environment, keys)
    changes: list[Change] = []
    changed: list[str] = []
    for each in stored.taken:
        (before,) = _definitions_at(connection, project, environment, [each.key], each.revision).values() or (None,)
        current = now.get(each.key)
        if versions.get(each.key) != each.after or before is None or current is None:
            changed.append(each.key)
        else:
            changes.append(PutFlag(replace(before, flag=current.flag), rerandomise=True))
    text = f"changed meanwhile, and left as it is: {', '.join(changed)}" if changed else ""
    if not changes:
        return TakenBack((), 0, text or "there was nothing to bring again")
    write = Write(_author(stored, writer), Action.EDIT, why.now, reason=why.reason)
    committed = _commit(connection, environment, changes, why, writer.permit(write, permit_all))
    return TakenBack((), committed.revision, text)


def _changes(policy: Policy, key: str, now: FlagDefinition | None, then: FlagDefinition | None) -> list[Change]:
    if now is None:
        # Gone, or damaged: what can be switched off is.
        return [SetEnabled(key, False)]
    if policy.reach.kind is ReachKind.RULE:
        return _rule_changes(policy, key, _rule(now, policy.reach.rule), _rule(then, policy.reach.rule))
    if policy.aim is Aim.ANCHOR and then is not None:
        return [PutFlag(replace(then, flag=now.flag), rerandomise=True)]
    return [SetEnabled(key, False)] if now.config.enabled else []


def _rule_changes(policy: Policy, key: str, now: Rule | None, then: Rule | None) -> list[Change]:
    if policy.aim is Aim.ANCHOR and then is not None:
        return [AddRule(key, then) if now is None else ReplaceRule(key, then, rerandomise=True)]
    if now is None:
        return []
    if now.share is None or policy.aim is Aim.ANCHOR:
        return [RemoveRule(key, now.id)]
    return [ReplaceRule(key, replace(now, share=replace(now.share, parts=0, steps=())))]


def _as_served(definition: FlagDefinition, at: datetime) -> FlagDefinition:
    """A flag as it was served at an instant: the clock moves no share on, and begins no rule that had not begun."""
    rules = tuple(
        rule if rule.share is None else replace(rule, share=_still(rule.share, at))
        for rule in definition.config.rules
        if rule.starts_at is None or rule.starts_at <= at
    )
    return replace(definition, config=replace(definition.config, rules=rules))


def _still(share: Share, at: datetime) -> Share:
    return replace(share, parts=share.parts_at(at.timestamp()), steps=())


def _rule(definition: FlagDefinition | None, id: str) -> Rule | None:
    rules = () if definition is None else definition.config.rules
    return next((rule for rule in rules if rule.id == id), None)


def _definitions(
    connection: Connection, project: str, environment: str, keys: Sequence[str]
) -> dict[str, FlagDefinition]:
    stored = load_documents(connection, project=project, environment=environment, flags=keys, segments=())
    found = {key: parse_flag(key, document, problems=Problems()) for key, document in stored.flags.items()}
    return {key: definition for key, definition in found.items() if definition is not None}


def _definitions_at(
    connection: Connection, project: str, environment: str, keys: Sequence[str], revision: int
) -> dict[str, FlagDefinition]:
    texts = texts_at(connection, project, environment, things=[("flag", key) for key in keys], revision=revision)
    found: dict[str, FlagDefinition] = {}
    for key, text in zip(keys, texts, strict=True):
        definition = None if text is None else parse_flag(key, parse(as_text(text)), problems=Problems())
        if definition is not None:
            found[key] = definition
    return found


def _commit(
    connection: Connection, environment: str, changes: Sequence[Change], why: Cause, permit: Permit
) -> Committed:
    part = Part(environment, tuple(changes))
    return commit_within(connection, parts=(part,), why=why, permit=permit)[environment]


def _require_right(principal: Principal, scope: Scope) -> None:
    """Errors: PermissionDenied for who may neither change flags nor switch them off."""
    if not principal.may(Action.EDIT, scope):
        require(principal, Action.KILL, scope)


def _author(stored: StoredPolicy, writer: Writer) -> Principal:
    return writer.who_is(stored.author) or Principal(stored.author, stored.grants)


def refuse_unknown(connection: Connection, project: str, policy: Policy) -> None:
    """Errors: Refused when what a policy reaches is not there; NotFound for a launch plan."""
    if policy.reach.kind is ReachKind.PLAN:
        read_launch_plan(connection, project=project, id=policy.reach.key)
    if policy.reach.kind not in (ReachKind.FLAG, ReachKind.RULE):
        return
    found = _definitions(connection, project, policy.environment, [policy.reach.key])
    if policy.reach.key not in found:
        raise Refused(f"flag {policy.reach.key!r} is not in {project}/{policy.environment}; create it first")
    if policy.reach.rule and _rule(found[policy.reach.key], policy.reach.rule) is None:
        raise Refused(f"flag {policy.reach.key!r} has no rule {policy.reach.rule!r} in {project}/{policy.environment}")


def minute(at: datetime) -> str:
    """An instant as people read it."""
    return f"{at:%Y-%m-%d %H:%M} UTC"
