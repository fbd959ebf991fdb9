"""Change requests do what their model says: who asks, who agrees, what moves meanwhile, and what is made of it."""

from collections.abc import Callable
from typing import Any, Final

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.field_mask_pb2 import FieldMask
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from protos.flagstaff.v1 import change_requests_pb2 as messages
from protos.flagstaff.v1 import common_pb2 as common
from protos.flagstaff.v1 import environments_pb2 as environments
from protos.flagstaff.v1 import flags_pb2 as flags
from server.core.access import Grant, Principal, Role
from server.core.changes import PutFlag, UpdateEnvironment
from server.core.environments import ApprovalPolicy, Covered
from server.core.errors import ApprovalNeeded, Outdated
from tests.laws.requests_model import PRODUCTION, STAGING, Ask, Flag, Model
from tests.laws.requests_model import Refused as ModelRefused
from tests.laws.served import REFUSALS, Served
from tests.laws.sizes import LONG
from tests.store.definitions import flag as sound_flag
from tests.store.definitions import put

ROLES: Final = {
    "ann": {"edit"},
    "bob": {"edit", "approve"},
    "cat": {"approve"},
    "dan": {"edit", "bypass"},
    "eve": {"approve"},
}
PEOPLE: Final = {
    name: Principal(name, tuple(Grant(Role(role)) for role in sorted(roles))) for name, roles in ROLES.items()
}
WHO: Final = st.sampled_from(sorted(ROLES))
EDITORS: Final = st.sampled_from(["ann", "ann", "bob", "dan", "cat"])
APPROVERS: Final = st.sampled_from(["bob", "cat", "cat", "eve", "ann"])
FLAGS: Final = st.sampled_from(["f", "g"])
ASKS: Final[st.SearchStrategy[Ask]] = (
    st.tuples(st.just("default"), FLAGS, st.sampled_from(["on", "off"]))
    | st.tuples(st.just("owner"), FLAGS, st.sampled_from(["web", "app"]))
    | st.tuples(st.just("enabled"), FLAGS, st.just("yes"))
)
SELDOM: Final = st.sampled_from([False, False, False, True])
NUMBERS: Final = st.integers(0, 10**6)


class Requests(RuleBasedStateMachine):
    """Every call goes to the model and to the services; they must agree on each."""

    kind = "sqlite"

    def __init__(self) -> None:
        super().__init__()
        self._served = Served(self.kind, shop=True, people=PEOPLE)
        policy = ApprovalPolicy(approvals=1, covers=(Covered.FLAG,))
        put(self._served.engine, UpdateEnvironment(approval_policy=policy))
        for key in ("f", "g"):
            for place in (PRODUCTION, STAGING):
                put(self._served.engine, PutFlag(sound_flag(key, default="on")), environment=place)
        self.model = Model(ROLES, {"f": Flag(), "g": Flag()})
        self.ids: list[str] = []
        """Number in the model -> id."""

        self.calls = 0

    def teardown(self) -> None:
        """What the past says is what is there, and nobody touched the trail."""
        try:
            self._served.check_past("shop")
        finally:
            self._served.close()

    @rule(who=EDITORS, ask=ASKS, bypass=SELDOM, reason=st.sampled_from(["", "The bank is down"]))
    def write(self, who: str, ask: Ask, bypass: bool, reason: str) -> None:
        """A change by the service that makes it."""
        method, request = _asking(ask)
        request.options.bypass_approval, request.options.reason = bypass, reason
        self._both(
            lambda model: model.write(who, ask, bypass=bypass, reason=reason), f"FlagService/{method}", request, by=who
        )

    @rule(who=WHO, flag=FLAGS)
    def kill(self, who: str, flag: str) -> None:
        """The kill switch, which makes requests for the flag stale."""
        request = flags.KillFlagsRequest(project="shop", environment=PRODUCTION, keys=[flag])
        self._both(lambda model: model.kill(who, flag), "FlagService/KillFlags", request, by=who)

    @rule(approvals=st.sampled_from([0, 1, 1, 2]))
    def ask_for(self, approvals: int) -> None:
        """Another policy."""
        request = environments.UpdateEnvironmentRequest(
            project="shop", environment=PRODUCTION, update_mask=FieldMask(paths=["approval_policy"])
        )
        request.settings.approval_policy.approvals = approvals
        request.settings.approval_policy.covers.append("flag")
        self._both(lambda model: model.ask_for(approvals), "EnvironmentService/UpdateEnvironment", request)

    @precondition(lambda self: self.ids)
    @rule(who=APPROVERS, choice=NUMBERS)
    def approve(self, who: str, choice: int) -> None:
        """A yes."""
        number, request = self._chosen(choice, messages.ApproveChangeRequestRequest)
        self._both(lambda model: model.approve(who, number), f"{SERVICE}/ApproveChangeRequest", request, by=who)

    @precondition(lambda self: self.ids)
    @rule(who=APPROVERS, choice=NUMBERS)
    def reject(self, who: str, choice: int) -> None:
        """A no."""
        number, request = self._chosen(choice, messages.RejectChangeRequestRequest)
        request.text = "no"
        self._both(lambda model: model.reject(who, number), f"{SERVICE}/RejectChangeRequest", request, by=who)

    @precondition(lambda self: self.ids)
    @rule(who=EDITORS, choice=NUMBERS)
    def withdraw(self, who: str, choice: int) -> None:
        """Taken back."""
        number, request = self._chosen(choice, messages.WithdrawChangeRequestRequest)
        self._both(lambda model: model.withdraw(who, number), f"{SERVICE}/WithdrawChangeRequest", request, by=who)

    @precondition(lambda self: self.ids)
    @rule(who=EDITORS, choice=NUMBERS, ask=st.none() | ASKS)
    def revise(self, who: str, choice: int, ask: Ask | None) -> None:
        """Something else, or the same anew."""
        number, request = self._chosen(choice, messages.UpdateChangeRequestRequest)
        if ask is not None:
            packed = AnyMessage()
            packed.Pack(_asking(ask)[1])
            request.write.CopyFrom(packed)
        self._both(lambda model: model.revise(who, number, ask), f"{SERVICE}/UpdateChangeRequest", request, by=who)

    @precondition(lambda self: self.ids)
    @rule(who=EDITORS, choice=NUMBERS, bypass=SELDOM, reason=st.sampled_from(["", "The bank is down"]))
    def apply(self, who: str, choice: int, bypass: bool, reason: str) -> None:
        """What was asked for is made."""
        number, request = self._chosen(choice, messages.ApplyChangeRequestRequest)
        request.options.bypass_approval, request.options.reason = bypass, reason
        self._both(
            lambda model: model.apply(who, number, bypass=bypass, reason=reason),
            f"{SERVICE}/ApplyChangeRequest",
            request,
            by=who,
        )

    def _chosen(self, choice: int, request: Any) -> tuple[int, Any]:
        # The latest ones oftener: the others have mostly come to their end.
        number = len(self.ids) - 1 - choice % min(3, len(self.ids))
        return number, request(project="shop", id=self.ids[number])

    # What every call is also held to.

    def _both(self, call: Callable[[Model], str], method: str, request: Any, *, by: str = "") -> None:
        """Try it, do it, and say it again: only the second of these may change anything."""
        changed = self.model.copy()
        try:
            expected = call(changed)
        except ModelRefused:
            changed, expected = self.model, "refused"
        self.calls += 1
        told = self._told()
        request.options.dry_run = True
        tried = self._outcome(method, request, by)
        assert told == self._told()
        request.options.dry_run = False
        request.options.request_id = f"request-{self.calls}"
        outcome = self._outcome(method, request, by)
        if outcome == "requested":
            self.ids.append(self.opened)
        self.model, told = changed, self._told()

        assert expected == outcome
        assert tried == ("would apply" if outcome in ("applied", "requested") else outcome)
        if outcome in ("applied", "requested", "unchanged"):
            assert outcome == self._outcome(method, request, by)
            assert told == self._told()

    def _outcome(self, method: str, request: Any, by: str) -> str:
        descriptor = MESSAGES[method.partition("/")[0]].DESCRIPTOR.services_by_name[method.partition("/")[0]]
        name = descriptor.methods_by_name[method.partition("/")[2]].output_type.name
        reply = getattr(MESSAGES[method.partition("/")[0]], name)
        try:
            result = self._served.call(f"/flagstaff.v1.{method}", reply, request, by=by).result
        except Outdated:
            return "outdated"
        except ApprovalNeeded:
            return "lacking"
        except REFUSALS:
            return "refused"
        self.opened = result.change_request
        return common.Outcome.Name(result.outcome).removeprefix("OUTCOME_").lower().replace("_", " ")

    def _told(self) -> Any:
        return self._served.revisions(), self._requests(), self._flags()

    def _requests(self) -> dict[str, tuple[str, list[str], set[str]]]:
        path = "/flagstaff.v1.ChangeRequestService/ListChangeRequests"
        listed: dict[str, tuple[str, list[str], set[str]]] = {}
        token = ""
        while True:
            request = messages.ListChangeRequestsRequest(project="shop", page_size=100, page_token=token)
            page = self._served.call(path, messages.ListChangeRequestsResponse, request)
            for each in page.change_requests:
                state = messages.ChangeRequest.State.Name(each.state).removeprefix("STATE_")
                listed[each.id] = (state, [one.actor for one in each.approvals], set(each.authors))
            token = page.next_page_token
            if not token:
                return listed

    def _flags(self) -> dict[str, tuple[str, str, str]]:
        request = flags.ListFlagsRequest(project="shop", with_configs=True)
        listed = self._served.call("/flagstaff.v1.FlagService/ListFlags", flags.ListFlagsResponse, request)
        found = {}
        for each in listed.flags:
            (config,) = [one for one in each.configs if one.environment == PRODUCTION]
            found[each.flag.key] = (config.default_serve.variant, each.flag.owner, "yes" if config.enabled else "no")
        return found

    @invariant()
    def the_services_have_what_the_model_has(self) -> None:
        """Every request with its state, its approvals and its authors; and the flags."""
        requests = {
            self.ids[number]: (each.state, each.approvals, each.authors) for number, each in self.model.requests.items()
        }
        assert requests == self._requests()
        assert {
            key: (each.default, each.owner, each.enabled) for key, each in self.model.flags.items()
        } == self._flags()


SERVICE: Final = "ChangeRequestService"
MESSAGES: Final[dict[str, Any]] = {
    SERVICE: messages,
    "FlagService": flags,
    "EnvironmentService": environments,
}


def _asking(ask: Ask) -> tuple[str, Any]:
    """The call that asks for a change."""
    what, flag, value = ask
    place: dict[str, Any] = {"project": "shop", "environment": PRODUCTION}
    match what:
        case "default":
            return "SetDefaultRule", flags.SetDefaultRuleRequest(**place, key=flag, serve=flags.Serve(variant=value))
        case "owner":
            shared = flags.Flag(key=flag, owner=value)
            mask = FieldMask(paths=["owner"])
            return "UpdateFlag", flags.UpdateFlagRequest(project="shop", flag=shared, update_mask=mask)
        case _:
            return "EnableFlags", flags.EnableFlagsRequest(**place, keys=[flag])


class RequestsOnPostgres(Requests):
    """The same on the other kind of database."""

    kind = "postgresql"


SETTINGS: Final = settings(
    max_examples=300 if LONG else 6,
    stateful_step_count=50 if LONG else 25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestRequests = Requests.TestCase
TestRequests.settings = SETTINGS
TestRequestsOnPostgres = RequestsOnPostgres.TestCase
TestRequestsOnPostgres.settings = SETTINGS
