"""Serve flagstaff.v1.SimulationService: what a change would do, before it is made."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from google.protobuf.any_pb2 import Any as AnyMessage

from protos.flagstaff.v1 import simulation_pb2 as messages
from server.core.access import Action, Principal, Scope
from server.core.errors import InvalidRequest, TooLarge
from server.core.limits import SIMULATED_CONTEXTS_MAX
from server.core.references import Target
from server.core.simulation.laws import BrokenLaw, Law
from server.core.simulation.moves import Arm, ArmKind, Because, Dangling, FlagMoves
from server.core.simulation.samples import generated
from server.live.recent import RecentContexts
from server.operations.change_requests.review import Review
from server.operations.proposals import Removals, document_parts
from server.operations.requesting import parts_of
from server.operations.simulation import (
    EnvironmentSimulation,
    InTheWay,
    InTheWayKind,
    Simulation,
    simulate_write,
)
from server.operations.writes import Write, Writer, require
from server.rpc.context import decode
from server.rpc.management import Management, change_lines, named, parse, scope_of
from server.rpc.table import Table
from server.store.change_requests import content_of

SERVICE: Final = "flagstaff.v1.SimulationService"
GENERATED: Final = 1_000
"""Units of a sample that nobody described."""

Propose: TypeAlias = Callable[[Write], object]
Sample: TypeAlias = Callable[[str], Sequence[Mapping[str, Any]]]

_KINDS: Final = {each: messages.InTheWay.Kind.Value(f"KIND_{each.name}") for each in InTheWayKind}
_ARMS: Final = {each: messages.SimulatedArm.Kind.Value(f"KIND_{each.name}") for each in ArmKind}
_LAWS: Final = {each: messages.BrokenLaw.Law.Value(f"LAW_{each.name}") for each in Law}


def simulation_table(management: Management, writer: Writer, recent: RecentContexts | None) -> Table:
    """The service's handlers; `recent` holds contexts that were evaluated lately, None where none are kept."""
    service = _Simulation(management, writer, recent)
    return management.reads(SERVICE, {"Simulate": (messages.SimulateRequest, service.simulate)})


class _Simulation:
    def __init__(self, management: Management, writer: Writer, recent: RecentContexts | None) -> None:
        self._management, self._writer, self._recent = management, writer, recent

    def simulate(self, request: messages.SimulateRequest, principal: Principal) -> messages.SimulateResponse:
        named(request, "project")
        propose, write = self._proposal(request, principal)
        return _response(simulate_write(propose, write, sample=self._sample(request)))

    def _proposal(self, request: messages.SimulateRequest, principal: Principal) -> tuple[Propose, Write]:
        match request.WhichOneof("proposal"):
            case "document":
                return self._document(request, principal)
            case "write":
                return self._write(request, principal)
            case "change_request":
                return self._change_request(request, principal)
        raise InvalidRequest("SimulateRequest needs a proposal: document, change_request or write")

    def _document(self, request: messages.SimulateRequest, principal: Principal) -> tuple[Propose, Write]:
        named(request, "environment")
        document = request.document
        removals = Removals(tuple(document.remove_flags), tuple(document.remove_segments))
        parts = document_parts(
            document.text.encode(), project=request.project, environment=request.environment, removals=removals
        )
        write = Write(principal, Action.EDIT, self._management.clock())
        return lambda asked: self._writer.write(request.project, parts, asked), write

    def _write(self, request: messages.SimulateRequest, principal: Principal) -> tuple[Propose, Write]:
        function, inner, write = proposed(self._management, request.write, principal)
        if request.project != getattr(inner, "project", request.project):
            raise InvalidRequest(f"the write is for project {inner.project!r}, not {request.project!r}")
        return lambda asked: function(inner, asked), write

    def _change_request(self, request: messages.SimulateRequest, principal: Principal) -> tuple[Propose, Write]:
        found = Review(self._writer).read(principal, project=request.project, id=request.change_request)
        content = content_of(found)
        write = Write(principal, found.progress.action, self._management.clock())
        return (
            lambda asked: self._writer.write(
                request.project, parts_of(content, found.base), asked, replace_variants=content.replace_variants
            ),
            write,
        )

    def _sample(self, request: messages.SimulateRequest) -> Sample:
        match request.WhichOneof("sample"):
            case "contexts":
                _check_count(len(request.contexts.contexts))
                contexts = [decode(each.SerializeToString(), None) for each in request.contexts.contexts]
                return lambda _flag_set: contexts
            case "recent" if request.recent:
                return self._recent_sample
            case _:
                count = request.generated.count or GENERATED
                _check_count(count)
                made = generated(count, decode(request.generated.attributes.SerializeToString(), None))
                return lambda _flag_set: made

    def _recent_sample(self, flag_set: str) -> Sequence[Mapping[str, Any]]:
        if self._recent is None:
            raise InvalidRequest(
                "this server keeps no recent contexts; start it with --recent-contexts, or give contexts of your own"
            )
        return [decode(each, None) for each in self._recent.of(flag_set)[:SIMULATED_CONTEXTS_MAX]]


_APPROVED_ITSELF: Final = "it asks for approvals of its own, where its environments do: make it, and have it approved"
_OWN_WAY: Final = {
    "LaunchPlan": _APPROVED_ITSELF,
    "Release": _APPROVED_ITSELF,
    "Schedule": _APPROVED_ITSELF,
    "RollbackPolicy": "it goes back to what was served before, which needs no approval",
    "Guard": "it changes no flag",
}
"""What of a request's name tells that nobody proposes it, and what happens in place of that."""


def proposed(
    management: Management, given: AnyMessage, principal: Principal
) -> tuple[Callable[[Any, Write], object], Any, Write]:
    """The write request that came inside another request: its function, itself, and how it asks.

    Errors: InvalidRequest when it is of a kind that cannot be proposed; PermissionDenied when its caller may not read
    there.
    """
    name = given.type_url.rpartition("/")[2]
    found = management.proposable.get(name)
    if found is None:
        known = ", ".join(sorted(each.rpartition(".")[2] for each in management.proposable)) or "none"
        own = next((f" ({told})" for noun, told in _OWN_WAY.items() if noun in name), "")
        raise InvalidRequest(f"{name or 'an empty message'} is no write that can be proposed{own}; there are: {known}")
    inner: Any = parse(found.request, given.value)
    scope = scope_of(inner)
    # As with the write itself: a project's environments are each asked about where they are reached.
    require_read = scope if scope.environment or not scope.project else None
    if require_read is not None:
        require(principal, Action.READ, Scope(scope.project, scope.environment))
    return found.function, inner, management.asked(found.path, inner, principal)


def _check_count(count: int) -> None:
    if count < 0:
        raise InvalidRequest(f"the sample has {count} units, expected 0 or more")
    if count > SIMULATED_CONTEXTS_MAX:
        raise TooLarge(f"the sample has {count} units, at most {SIMULATED_CONTEXTS_MAX} are allowed")


def _response(simulation: Simulation) -> messages.SimulateResponse:
    return messages.SimulateResponse(
        applicable=not simulation.in_the_way,
        in_the_way=[_in_the_way(each) for each in simulation.in_the_way],
        environments=[_environment(each) for each in simulation.environments],
    )


def _in_the_way(each: InTheWay) -> messages.InTheWay:
    return messages.InTheWay(kind=_KINDS[each.kind], message=each.message, path=each.path)


def _environment(each: EnvironmentSimulation) -> messages.EnvironmentSimulation:
    simulated = each.simulated
    return messages.EnvironmentSimulation(
        environment=each.environment,
        revision=each.revision,
        changes=change_lines(each.events),
        contexts=simulated.context_count,
        flags=[_moves(flag) for flag in simulated.flags],
        flags_left_out=simulated.left_out_count,
        dangling=[_dangling(dangling) for dangling in simulated.dangling],
    )


def _moves(flag: FlagMoves) -> messages.FlagMoves:
    return messages.FlagMoves(
        flag_key=flag.key,
        dependent=flag.because is Because.DEPENDS,
        via=[_target(target) for target in flag.via],
        moved=flag.moved_count,
        other_value=flag.other_value_count,
        moves=[
            messages.UnitMove(before=_arm(before), after=_arm(after), units=count)
            for (before, after), count in flag.matrix.items()
        ],
        broken_laws=[_broken(law) for law in flag.broken_laws],
    )


def _arm(arm: Arm) -> messages.SimulatedArm:
    return messages.SimulatedArm(kind=_ARMS[arm.kind], name=arm.name)


def _broken(law: BrokenLaw) -> messages.BrokenLaw:
    return messages.BrokenLaw(law=_LAWS[law.law], rule=law.rule, units=law.unit_count, message=law.message)


def _dangling(each: Dangling) -> messages.DanglingReference:
    return messages.DanglingReference(
        subject=_target(each.subject), missing=_target(each.missing), removed=each.because_removed
    )


def _target(target: Target) -> str:
    return " ".join(target)
