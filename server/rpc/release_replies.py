"""Write releases, what happened to them, and templates as messages."""

from datetime import datetime, timedelta

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from protos.flagstaff.v1 import releases_pb2 as messages
from server.core.releases.gates import Gate, gates_of
from server.core.releases.plan import Check, Gates, Patch, Plan, Reaction, Target
from server.core.releases.progress import Happening, Release
from server.core.releases.timing import projected_end
from server.core.releases.walking import Told
from server.rpc.flag_replies import prerequisite_messages, rule_message, serve_message, variant_messages
from server.rpc.release_messages import KINDS, POLICIES, SILENCES, STATES, TARGETS
from server.rpc.timestamps import timestamp
from server.rpc.values import value_of
from server.store.release_templates import Template
from server.store.releases import StoredEvent, StoredRelease


def release_message(stored: StoredRelease, now: datetime) -> messages.Release:
    """A release as it is at an instant."""
    progress = stored.release.progress
    end = projected_end(stored.release, now)
    return messages.Release(
        project=stored.project,
        id=stored.id,
        plan=plan_message(stored.release.plan),
        state=STATES[progress.state],
        step=progress.step + 1,
        reached=progress.reached + 1,
        gates=_gates(stored.release, now),
        note=progress.note,
        blocked=progress.blocked,
        next_at=_stamp(stored.next_at),
        projected_end=_stamp(end.at),
        projection_is_earliest=end.is_earliest,
        authors=progress.authors,
        owner=progress.owner,
        start_approvals=[each.actor for each in progress.start_approvals],
        step_approvals=[each.actor for each in progress.step_approvals],
        started_at=_stamp(progress.started_at),
        entered_at=_stamp(progress.entered_at),
        ended_at=_stamp(progress.ended_at),
        created_by=stored.created_by,
        created_at=timestamp(stored.created_at),
        updated_at=timestamp(stored.updated_at),
        version=progress.event_count,
    )


def event_messages(event: StoredEvent) -> list[messages.ReleaseEvent]:
    """What came of an event, one thing each."""
    told = event.told or (_drawn_up(event),)
    return [told_message(each, event) for each in told]


def told_message(told: Told, event: StoredEvent) -> messages.ReleaseEvent:
    """One thing that happened."""
    return messages.ReleaseEvent(
        number=event.number,
        happening=told.happening.value,
        actor=told.actor or event.actor,
        text=told.text,
        from_step=told.from_step + 1,
        to_step=told.to_step + 1,
        gates=[_gate(each) for each in told.gates],
        cause=event.cause,
        revisions=event.revisions,
        at=timestamp(event.at),
    )


def template_message(template: Template) -> messages.ReleaseTemplate:
    """A template."""
    return messages.ReleaseTemplate(
        name=template.name,
        description=template.description,
        steps=[
            messages.ReleaseTemplateStep(share_parts=each.share_parts, gates=_gates_message(each.gates))
            for each in template.steps
        ],
        updated_by=template.updated_by,
        updated_at=timestamp(template.updated_at),
    )


def plan_message(plan: Plan) -> messages.ReleasePlan:
    """What a release is to do."""
    message = messages.ReleasePlan(
        name=plan.name,
        description=plan.description,
        kind=KINDS[plan.kind],
        steps=[
            messages.ReleaseStep(
                name=step.name,
                patches=[_patch_message(each) for each in step.patches],
                gates=_gates_message(step.gates),
            )
            for step in plan.steps
        ],
        start_approvals=plan.start_approvals,
        starts_at=_stamp(plan.starts_at),
        cutoff_at=_stamp(plan.cutoff_at),
        lock=plan.locks,
        by_clock=plan.by_clock,
        back_to=_target_message(plan.back_to),
    )
    if plan.deadline is not None:
        message.deadline.CopyFrom(
            messages.ReleaseDeadline(at=timestamp(plan.deadline.at), policy=POLICIES[plan.deadline.policy])
        )
    return message


def _drawn_up(event: StoredEvent) -> Told:
    return Told(Happening.CREATED, event.actor, "", -1, -1)


def _gates(release: Release, now: datetime) -> list[messages.ReleaseGate]:
    return [_gate(each) for each in gates_of(release, now)]


def _gate(gate: Gate) -> messages.ReleaseGate:
    return messages.ReleaseGate(kind=gate.kind, name=gate.name, holds=gate.holds, text=gate.text)


def _target_message(target: Target) -> messages.RollBackTarget:
    return messages.RollBackTarget(to=TARGETS[target.to], step=target.step + 1 if target.to == "step" else 0)


def _patch_message(patch: Patch) -> messages.ReleasePatch:
    message = messages.ReleasePatch(
        environment=patch.environment,
        flag_key=patch.flag,
        rule_id=patch.rule,
        share_parts=patch.share_parts,
        enabled=patch.enabled,
        variants=variant_messages(patch.variants),
        add_first=patch.add_first,
        remove_rule=patch.remove_rule,
    )
    if patch.serve is not None:
        message.serve.CopyFrom(serve_message(patch.serve))
    if patch.sets_condition:
        message.condition.CopyFrom(value_of(patch.condition))
    if patch.prerequisites is not None:
        message.prerequisites.SetInParent()
        message.prerequisites.prerequisites.extend(prerequisite_messages(patch.prerequisites))
    if patch.add_rule is not None:
        message.add_rule.CopyFrom(rule_message(patch.add_rule))
    return message


def _gates_message(gates: Gates) -> messages.ReleaseGates:
    return messages.ReleaseGates(
        minimum=_duration(gates.minimum_s),
        sample_min=gates.sample_min,
        checks=[_check_message(each) for each in gates.checks],
        externals=[
            messages.ReleaseExternal(
                name=each.name,
                timeout=_duration(each.timeout_s),
                on_timeout=SILENCES[each.on_timeout],
                on_no_go=SILENCES[each.on_no_go],
            )
            for each in gates.externals
        ],
        approvals=gates.approvals,
        manual=gates.manual,
    )


def _check_message(check: Check) -> messages.ReleaseCheck:
    return messages.ReleaseCheck(
        guard=check.guard,
        fail=_reaction_message(check.fail),
        inconclusive=_reaction_message(check.inconclusive),
        no_data=_reaction_message(check.no_data),
        error=_reaction_message(check.error),
        passes=check.passes,
        initial_delay=_duration(check.initial_delay_s),
        dry_run=check.dry_run,
    )


def _reaction_message(reaction: Reaction) -> messages.VerdictReaction:
    return messages.VerdictReaction(policy=POLICIES[reaction.policy], limit=reaction.limit)


def _duration(seconds: float) -> Duration:
    message = Duration()
    message.FromTimedelta(timedelta(seconds=seconds))
    return message


def _stamp(at: datetime | None) -> Timestamp | None:
    return None if at is None else timestamp(at)
