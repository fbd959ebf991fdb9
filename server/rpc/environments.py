"""Serve flagstaff.v1.EnvironmentService."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from protos.flagstaff.v1 import environments_pb2 as messages
from protos.flagstaff.v1 import tokens_pb2 as tokens
from server.core.access import Principal, Role
from server.core.changes import UpdateEnvironment
from server.core.definitions.environments import read_approval_policy, read_freeze_windows
from server.core.definitions.fields import read_metadata
from server.core.definitions.problems import Problems
from server.core.environments import ApprovalPolicy, Bucketing, Covered, Environment, FreezeWindow
from server.core.errors import InvalidRequest, NotFound
from server.core.json import Json
from server.operations.environments import Environments, ManagedEnvironment, Updated
from server.operations.writes import Write
from server.rpc.management import Management, named, result_of
from server.rpc.masks import masked
from server.rpc.paging import paged
from server.rpc.table import Table, merge
from server.rpc.timestamps import document_instant
from server.rpc.values import json_of

SERVICE: Final = "flagstaff.v1.EnvironmentService"

_ROLES: Final = {tokens.Role.Value(f"ROLE_{role.name}"): role for role in Role}
_ROLE_NUMBERS: Final = {role: number for number, role in _ROLES.items()}
_SCHEMES: Final[Mapping[int, Bucketing]] = {
    messages.Bucketing.Value(f"BUCKETING_{each.name}"): each for each in Bucketing
}
_SCHEME_NUMBERS: Final = {each: messages.Bucketing.Value(f"BUCKETING_{each.name}") for each in Bucketing}
_SETTINGS: Final = tuple(field.name for field in messages.EnvironmentSettings.DESCRIPTOR.fields)


def environment_table(management: Management, environments: Environments) -> Table:
    """The service's handlers."""
    service = _Environments(environments)
    return merge(
        management.writes(
            SERVICE,
            {
                "CreateEnvironment": (messages.CreateEnvironmentRequest, service.create),
                "UpdateEnvironment": (messages.UpdateEnvironmentRequest, service.update),
                "CloneEnvironment": (messages.CloneEnvironmentRequest, service.clone),
                "DeleteEnvironment": (messages.DeleteEnvironmentRequest, service.delete),
            },
        ),
        management.reads(
            SERVICE,
            {
                "GetEnvironment": (messages.GetEnvironmentRequest, service.get),
                "ListEnvironments": (messages.ListEnvironmentsRequest, service.list),
            },
        ),
    )


class _Environments:
    def __init__(self, environments: Environments) -> None:
        self._environments = environments

    def create(self, request: messages.CreateEnvironmentRequest, write: Write) -> messages.EnvironmentResponse:
        named(request, "project", "environment")
        settings = read_settings(request.settings, _SETTINGS)
        environment = Environment(request.project, request.environment, **settings)
        return self._response(request, Updated(self._environments.create(environment, write)))

    def get(self, request: messages.GetEnvironmentRequest, _principal: Principal) -> messages.GetEnvironmentResponse:
        named(request, "project", "environment")
        found = self._environments.read(request.project, request.environment)
        return messages.GetEnvironmentResponse(environment=_message(found))

    def list(
        self, request: messages.ListEnvironmentsRequest, _principal: Principal
    ) -> messages.ListEnvironmentsResponse:
        named(request, "project")
        found = self._environments.list_all(request.project)
        page = paged(found, request, key=lambda each: each.stored.environment.key)
        return messages.ListEnvironmentsResponse(
            environments=map(_message, page.items), next_page_token=page.next_page_token, total_size=page.total_size
        )

    def update(self, request: messages.UpdateEnvironmentRequest, write: Write) -> messages.EnvironmentResponse:
        named(request, "project", "environment")
        chosen = masked(request.update_mask, _SETTINGS)
        if not chosen:
            raise InvalidRequest(f"update_mask is empty; name what is to be set, of: {', '.join(_SETTINGS)}")
        change = UpdateEnvironment(**read_settings(request.settings, chosen))
        return self._response(request, self._environments.update(request.project, request.environment, change, write))

    def clone(self, request: messages.CloneEnvironmentRequest, write: Write) -> messages.EnvironmentResponse:
        named(request, "project", "environment", "source_environment")
        wanted = Environment(request.project, request.environment, request.name)
        written = self._environments.clone(wanted, source=request.source_environment, write=write)
        return self._response(request, Updated(written))

    def delete(self, request: messages.DeleteEnvironmentRequest, write: Write) -> messages.DeleteEnvironmentResponse:
        named(request, "project", "environment")
        written = self._environments.delete(request.project, request.environment, confirm=request.confirm, write=write)
        return messages.DeleteEnvironmentResponse(result=result_of(written))

    def _response(self, request: Any, updated: Updated) -> messages.EnvironmentResponse:
        response = messages.EnvironmentResponse(
            moved=updated.moved, sample_users=updated.sample_users, result=result_of(updated.written)
        )
        try:
            found = self._environments.read(request.project, request.environment)
            response.environment.CopyFrom(_message(found))
        except NotFound:
            # A dry run, or a request for a change, created nothing.
            response.ClearField("environment")
        return response


def read_settings(given: messages.EnvironmentSettings, chosen: Sequence[str] | frozenset[str]) -> dict[str, Any]:
    """Settings by the names that an Environment has for them. Errors: InvalidRequest, InvalidDefinition."""
    problems = Problems()
    read = {
        "name": given.name,
        "critical": given.critical,
        "bucketing": _scheme(given.bucketing),
        "metadata": read_metadata(
            {"metadata": json_of(given.metadata)}, path="/settings", problems=problems, lenient=False
        ),
        "sync": not given.without_sync,
        "approval_policy": read_approval_policy(
            _policy_document(given.approval_policy), problems=problems, path="/settings/approvalPolicy"
        ),
        "freeze_windows": read_freeze_windows(
            [_window_document(window) for window in given.freeze_windows],
            problems=problems,
            path="/settings/freezeWindows",
        ),
    }
    problems.raise_if_any()
    return {_FIELD_NAMES.get(name, name): read[_FIELD_NAMES.get(name, name)] for name in chosen}


_FIELD_NAMES: Final = {"without_sync": "sync"}


def _scheme(number: int) -> Bucketing:
    if number == messages.BUCKETING_UNSPECIFIED:
        return Bucketing.V2
    if number not in _SCHEMES:
        raise InvalidRequest(f"{number} is no bucketing that this version knows")
    return _SCHEMES[number]


def _policy_document(policy: messages.ApprovalPolicy) -> Json:
    document = {"approvals": policy.approvals, **_people(policy)}
    return {**document, "covers": list(policy.covers)} if policy.covers else document


def _window_document(window: messages.FreezeWindow) -> Json:
    document: dict[str, Json] = {"reason": window.reason, **_people(window)}
    for name, field in (("from", "starts_at"), ("until", "ends_at")):
        if window.HasField(field):  # type: ignore[arg-type]  # One of two names of fields.
            document[name] = document_instant(getattr(window, field))
    return document


def _people(named_in: messages.ApprovalPolicy | messages.FreezeWindow) -> dict[str, Json]:
    roles = [_ROLES[number].value if number in _ROLES else f"{number}" for number in named_in.roles]
    return {"roles": roles, "actors": list(named_in.actors)}


def _message(managed: ManagedEnvironment) -> messages.Environment:
    environment = managed.stored.environment
    return messages.Environment(
        project=environment.project,
        key=environment.key,
        settings=_settings(environment),
        source=environment.source,
        revision=managed.stored.revision,
        version=managed.version,
        flag_count=managed.flag_count,
        segment_count=managed.segment_count,
    )


def _settings(environment: Environment) -> messages.EnvironmentSettings:
    settings = messages.EnvironmentSettings(
        name=environment.name,
        critical=environment.critical,
        bucketing=_SCHEME_NUMBERS[environment.bucketing],
        without_sync=not environment.sync,
        approval_policy=_policy(environment.approval_policy),
        freeze_windows=map(_window, environment.freeze_windows),
    )
    settings.metadata.update(dict(environment.metadata))
    return settings


def _policy(policy: ApprovalPolicy) -> messages.ApprovalPolicy:
    covers = () if policy.covers == tuple(Covered) else [each.value for each in policy.covers]
    roles = [_ROLE_NUMBERS[role] for role in policy.roles]
    return messages.ApprovalPolicy(approvals=policy.approvals, roles=roles, actors=policy.actors, covers=covers)


def _window(window: FreezeWindow) -> messages.FreezeWindow:
    message = messages.FreezeWindow(
        reason=window.reason, roles=[_ROLE_NUMBERS[role] for role in window.roles], actors=window.actors
    )
    message.starts_at.FromDatetime(window.starts_at)
    message.ends_at.FromDatetime(window.ends_at)
    return message
