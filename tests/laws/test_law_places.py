"""Projects, environments and segments do what their model says, whatever is asked in whatever order."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.struct_pb2 import Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from protos.flagstaff.v1 import common_pb2 as common
from protos.flagstaff.v1 import environments_pb2 as environments
from protos.flagstaff.v1 import flags_pb2 as flags
from protos.flagstaff.v1 import projects_pb2 as projects
from protos.flagstaff.v1 import segments_pb2 as segments
from server.store.audit import list_entries
from server.store.engine import reading
from tests.laws.places_model import USUAL, Model, Segment
from tests.laws.places_model import Refused as ModelRefused
from tests.laws.served import REFUSALS, Served
from tests.laws.sizes import LONG
from tests.store.definitions import NOW

PROJECTS: Final = st.sampled_from(["shop", "shop", "bank"])
PLACES: Final = st.sampled_from([*USUAL, "canary"])
NAMES: Final = st.sampled_from(["", "Ann's", "Bob's"])
KEYS: Final = st.sampled_from(["a", "b", "c"])
UNITS: Final = st.sets(st.sampled_from(["ann", "bob", "eve"]))
MEMBERS: Final = st.builds(Segment, keys=UNITS) | st.builds(Segment, refers_to=st.none() | KEYS)
SEVERAL: Final = st.sampled_from([False, False, False, True])


class Places(RuleBasedStateMachine):
    """Every call goes to the model and to the services; they must agree on each."""

    kind = "sqlite"

    def __init__(self) -> None:
        super().__init__()
        self._served = Served(self.kind, shop=False)
        self.model = Model()
        self.highest: dict[tuple[str, str], int] = {}
        self.requests = 0

    def teardown(self) -> None:
        """What the past says is what is there, and nobody touched the trails."""
        try:
            self._served.check_past("shop", "bank")
        finally:
            self._served.close()

    @initialize()
    def begin(self) -> None:
        """There is something to work with."""
        self.create_project("shop", False)

    @rule(key=PROJECTS, is_bare=SEVERAL)
    def create_project(self, key: str, is_bare: bool) -> None:
        """With the usual environments, or without any."""
        request = projects.CreateProjectRequest(project=key, without_environments=is_bare)
        self._both(lambda model: model.create_project(key, () if is_bare else USUAL), "Project.Create", request)

    @rule(key=PROJECTS, name=NAMES)
    def rename_project(self, key: str, name: str) -> None:
        """A shared field of the project."""
        request = projects.UpdateProjectRequest(project=key, name=name, update_mask=FieldMask(paths=["name"]))
        self._both(lambda model: model.rename_project(key, name), "Project.Update", request)

    @rule(key=PROJECTS, confirm=PROJECTS)
    def delete_project(self, key: str, confirm: str) -> None:
        """With all that is in it."""
        request = projects.DeleteProjectRequest(project=key, confirm=confirm)
        self._both(lambda model: model.delete_project(key, confirm), "Project.Delete", request)

    @rule(project=PROJECTS, key=PLACES, name=NAMES)
    def create(self, project: str, key: str, name: str) -> None:
        """An environment without flags."""
        request = environments.CreateEnvironmentRequest(project=project, environment=key)
        request.settings.name = name
        self._both(lambda model: model.create(project, key, name), "Environment.Create", request)

    @rule(project=PROJECTS, key=PLACES, name=NAMES, source=PLACES)
    def clone(self, project: str, key: str, name: str, source: str) -> None:
        """An environment like another one."""
        request = environments.CloneEnvironmentRequest(
            project=project, environment=key, name=name, source_environment=source
        )
        self._both(lambda model: model.clone(project, key, source, name), "Environment.Clone", request)

    @rule(project=PROJECTS, key=PLACES, confirm=st.none() | PLACES)
    def delete(self, project: str, key: str, confirm: str | None) -> None:
        """An environment with all that is in it."""
        told = confirm or key
        request = environments.DeleteEnvironmentRequest(project=project, environment=key, confirm=told)
        self._both(lambda model: model.delete(project, key, told), "Environment.Delete", request)

    @rule(project=PROJECTS, key=PLACES, windows=st.sampled_from([0, 0, 1, 2]), critical=st.none() | SEVERAL)
    def freeze(self, project: str, key: str, windows: int, critical: bool | None) -> None:
        """Other freeze windows; alone, or together with the mark that it is critical."""
        open_ = [
            environments.FreezeWindow(starts_at=_instant(-1), ends_at=_instant(days + 1), reason="Holidays")
            for days in range(windows)
        ]
        given: dict[str, Any] = {} if critical is None else {"critical": critical}
        request = _update(project, key, freeze_windows=open_, **given)
        self._both(lambda model: model.update(project, key, windows=windows, **given), "Environment.Update", request)

    @rule(project=PROJECTS, key=PLACES, name=NAMES, bucketing=st.sampled_from([2, 3]))
    def set_up(self, project: str, key: str, name: str, bucketing: int) -> None:
        """Name and bucketing."""
        told = environments.Bucketing.Value(f"BUCKETING_V{bucketing}")
        request = _update(project, key, name=name, bucketing=told)
        self._both(
            lambda model: model.update(project, key, name=name, bucketing=bucketing), "Environment.Update", request
        )

    @rule(project=PROJECTS, place=PLACES, key=KEYS, members=MEMBERS)
    def create_segment(self, project: str, place: str, key: str, members: Segment) -> None:
        """A segment by its keys, or by a condition."""
        request = segments.CreateSegmentRequest(project=project, environment=place, segment=_told(key, members))
        self._both(
            lambda model: model.put_segment(project, place, key, _own(members), new=True), "Segment.Create", request
        )

    @rule(project=PROJECTS, place=PLACES, key=KEYS, members=MEMBERS)
    def update_segment(self, project: str, place: str, key: str, members: Segment) -> None:
        """Other members."""
        mask = FieldMask(paths=["condition" if members.keys is None else "key_list"])
        request = segments.UpdateSegmentRequest(
            project=project, environment=place, segment=_told(key, members), update_mask=mask
        )
        self._both(
            lambda model: model.put_segment(project, place, key, _own(members), new=False), "Segment.Update", request
        )

    @rule(project=PROJECTS, place=PLACES, key=KEYS)
    def delete_segment(self, project: str, place: str, key: str) -> None:
        """A segment that nobody refers to."""
        request = segments.DeleteSegmentRequest(project=project, environment=place, key=key)
        self._both(lambda model: model.delete_segment(project, place, key), "Segment.Delete", request)

    @rule(project=PROJECTS, place=PLACES, key=KEYS, units=UNITS, adds=st.booleans())
    def change_keys(self, project: str, place: str, key: str, units: set[str], adds: bool) -> None:
        """Keys one by one."""
        request = segments.ChangeSegmentKeysRequest(
            project=project, environment=place, key=key, keys=sorted(units), last=True
        )
        self._both(
            lambda model: model.change_keys(
                project, place, key, add=units if adds else set(), remove=set() if adds else units
            ),
            "Segment.AddKeys" if adds else "Segment.RemoveKeys",
            request,
        )

    @rule(project=PROJECTS, flag=st.sampled_from(["f", "g"]), segment=st.none() | KEYS)
    def create_flag(self, project: str, flag: str, segment: str | None) -> None:
        """A flag in all environments, with or without a rule that refers to a segment."""
        request = flags.CreateFlagRequest(project=project, flag=flags.Flag(key=flag))
        if segment is not None:
            request.config.rules.add(id="r", serve=flags.Serve(variant="on"), condition=_reference(segment))
        self._both(lambda model: model.create_flag(project, flag, segment), "Flag.Create", request)

    # What every call is also held to.

    def _both(self, change: Callable[[Model], None], name: str, request: Any) -> None:
        """Try it, do it, and say it again: only the second of these may change anything."""
        before, refused = self.model, self._tried(change)
        self.requests += 1
        request.options.dry_run = True
        told = self._told()
        outcomes = [self._outcome(name, request)]
        assert told == self._told()
        request.options.dry_run = False
        request.options.request_id = f"request-{self.requests}"
        outcomes.append(self._outcome(name, request))
        changed = self._told()
        outcomes.append(self._outcome(name, request))

        assert changed == self._told()
        if refused:
            assert (["refused"] * 3, told) == (outcomes, changed)
        elif before == self.model:
            assert (["unchanged"] * 3, told) == (outcomes, changed)
        else:
            assert ["would apply", "applied", "applied"] == outcomes
            assert told != changed

    def _tried(self, change: Callable[[Model], None]) -> bool:
        changed = self.model.copy()
        try:
            change(changed)
            changed.refuse_frozen(self.model)
        except ModelRefused:
            return True
        self.model = changed
        return False

    def _outcome(self, name: str, request: Any) -> str:
        path, reply = METHODS[name]
        try:
            result = self._served.call(path, reply, request).result
        except REFUSALS:
            return "refused"
        return common.Outcome.Name(result.outcome).removeprefix("OUTCOME_").lower().replace("_", " ")

    def _told(self) -> Any:
        """All revisions, and how long each trail is."""
        with reading(self._served.engine) as connection:
            trails = [len(list_entries(connection, project=key, limit=10**6)) for key in ("shop", "bank")]
        return self._served.revisions(), trails

    @invariant()
    def the_services_have_what_the_model_has(self) -> None:
        """Projects, environments and segments as they are told; a revision is never seen twice for different things."""
        listed = self._served.call(
            "/flagstaff.v1.ProjectService/ListProjects", projects.ListProjectsResponse, projects.ListProjectsRequest()
        ).projects
        assert self.model.projects == {each.key: each.name for each in listed}
        assert sorted(self.model.places) == sorted((each.key, name) for each in listed for name in each.environments)
        for key, revision in self._served.revisions().items():
            assert self.highest.get(key, 0) <= revision
            self.highest[key] = revision
        for each in listed:
            self._check_project(each.key)

    def _check_project(self, project: str) -> None:
        listed = self._served.call(
            "/flagstaff.v1.EnvironmentService/ListEnvironments",
            environments.ListEnvironmentsResponse,
            environments.ListEnvironmentsRequest(project=project),
        ).environments
        for each in listed:
            place = self.model.places[project, each.key]
            settings_, bucketing = each.settings, f"BUCKETING_V{place.bucketing}"
            assert (place.name, place.critical) == (settings_.name, settings_.critical)
            assert place.windows == len(settings_.freeze_windows)
            assert bucketing == environments.Bucketing.Name(settings_.bucketing)
            assert (len(place.flags), len(place.segments)) == (each.flag_count, each.segment_count)
            found = {key: self._segment(project, each.key, key) for key in place.segments}
            assert place.segments == found

    def _segment(self, project: str, place: str, key: str) -> Segment:
        request = segments.GetSegmentRequest(project=project, environment=place, key=key)
        found = self._served.call(
            "/flagstaff.v1.SegmentService/GetSegment", segments.GetSegmentResponse, request
        ).segment
        if found.HasField("key_list"):
            return Segment(set(found.key_list.keys))
        return Segment(refers_to=dict(found.condition.struct_value).get("$ref"))


METHODS: Final[dict[str, tuple[str, Any]]] = {
    "Project.Create": ("/flagstaff.v1.ProjectService/CreateProject", projects.ProjectResponse),
    "Project.Update": ("/flagstaff.v1.ProjectService/UpdateProject", projects.ProjectResponse),
    "Project.Delete": ("/flagstaff.v1.ProjectService/DeleteProject", projects.DeleteProjectResponse),
    "Environment.Create": ("/flagstaff.v1.EnvironmentService/CreateEnvironment", environments.EnvironmentResponse),
    "Environment.Update": ("/flagstaff.v1.EnvironmentService/UpdateEnvironment", environments.EnvironmentResponse),
    "Environment.Clone": ("/flagstaff.v1.EnvironmentService/CloneEnvironment", environments.EnvironmentResponse),
    "Environment.Delete": (
        "/flagstaff.v1.EnvironmentService/DeleteEnvironment",
        environments.DeleteEnvironmentResponse,
    ),
    "Segment.Create": ("/flagstaff.v1.SegmentService/CreateSegment", segments.SegmentResponse),
    "Segment.Update": ("/flagstaff.v1.SegmentService/UpdateSegment", segments.SegmentResponse),
    "Segment.Delete": ("/flagstaff.v1.SegmentService/DeleteSegment", segments.DeleteSegmentResponse),
    "Segment.AddKeys": ("/flagstaff.v1.SegmentService/AddSegmentKeys", segments.ChangeSegmentKeysResponse),
    "Segment.RemoveKeys": ("/flagstaff.v1.SegmentService/RemoveSegmentKeys", segments.ChangeSegmentKeysResponse),
    "Flag.Create": ("/flagstaff.v1.FlagService/CreateFlag", flags.FlagResponse),
}


def _update(project: str, key: str, **settings_: Any) -> environments.UpdateEnvironmentRequest:
    return environments.UpdateEnvironmentRequest(
        project=project,
        environment=key,
        settings=environments.EnvironmentSettings(**settings_),
        update_mask=FieldMask(paths=list(settings_)),
    )


def _instant(days: int) -> Timestamp:
    instant = Timestamp()
    instant.FromDatetime(NOW + timedelta(days=days))
    return instant


def _own(members: Segment) -> Segment:
    """Of one's own: what hypothesis draws is drawn once."""
    return Segment(None if members.keys is None else set(members.keys), members.refers_to)


def _told(key: str, members: Segment) -> segments.Segment:
    if members.keys is not None:
        return segments.Segment(key=key, key_list=segments.KeyList(keys=sorted(members.keys)))
    return segments.Segment(key=key, condition=_reference(members.refers_to) if members.refers_to else _plain())


def _reference(key: str) -> Value:
    return _value({"$ref": key})


def _plain() -> Value:
    return _value({"==": [{"var": "plan"}, "pro"]})


def _value(condition: dict[str, Any]) -> Value:
    struct = Struct()
    struct.update(condition)
    return Value(struct_value=struct)


class PlacesOnPostgres(Places):
    """The same on the other kind of database."""

    kind = "postgresql"


SETTINGS: Final = settings(
    max_examples=300 if LONG else 6,
    stateful_step_count=50 if LONG else 25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestPlaces = Places.TestCase
TestPlaces.settings = SETTINGS
TestPlacesOnPostgres = PlacesOnPostgres.TestCase
TestPlacesOnPostgres.settings = SETTINGS
