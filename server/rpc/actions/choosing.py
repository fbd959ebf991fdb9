"""List what a tool's user may choose from: projects, environments, flags and so on, each with a label."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeAlias

from protos.flagstaff.v1 import common_pb2 as common
from protos.flagstaff.v1 import flags_pb2 as flags
from protos.flagstaff.v1 import projects_pb2 as projects
from protos.flagstaff.v1 import releases_pb2 as releases
from protos.flagstaff.v1 import segments_pb2 as segments
from server.core.access import Action, Principal, Scope
from server.core.actions.choices import Choices, Question
from server.core.errors import NotFound
from server.operations.writes import require, require_within
from server.rpc.actions.doing import Doing, Request
from server.rpc.actions.running import Actions

PAGE_SIZE: Final = 1_000
RELEASES_PAGE_MAX: Final = 100


Choose: TypeAlias = Callable[[Doing, Question], Awaitable[Choices]]


async def choose(actions: Actions, what: str, question: Question, principal: Principal) -> Choices:
    """A page of what somebody may read. Errors: PermissionDenied, NotFound, InvalidRequest."""
    scope = Scope(question.project, question.environment)
    if scope.environment:
        require(principal, Action.READ, scope)
    elif scope.project:
        require_within(principal, Action.READ, scope.project)
    doing = Doing(actions.table, principal, {}, common.WriteOptions())
    return await CHOICES[what](doing, question)


async def _projects(doing: Doing, question: Question) -> Choices:
    return _found(question, [(each.key, each.name) for each in await _readable(doing)])


async def _environments(doing: Doing, question: Question) -> Choices:
    for each in await _readable(doing):
        if each.key == question.project:
            return _found(question, [(key, "") for key in each.environments])
    raise NotFound(f"project {question.project!r} does not exist")


async def _readable(doing: Doing) -> list[Any]:
    """Projects, each with the environments of it that may be read: not everybody may read a whole project."""
    found: list[Any] = []
    request = projects.ListProjectsRequest(page_size=PAGE_SIZE)
    while not found or request.page_token:
        reply = await doing.ask(Request("ProjectService/ListProjects", request))
        found.extend(reply.projects)
        request.page_token = reply.next_page_token
        if not reply.projects:
            break
    return found


async def _flags(doing: Doing, question: Question) -> Choices:
    asked = flags.ListFlagsRequest(
        project=question.project,
        environment=question.environment,
        filter=flags.FlagFilter(text=question.search),
        page_size=question.limit,
        page_token=question.page_token,
    )
    reply = await doing.ask(Request("FlagService/ListFlags", asked))
    items = [(each.flag.key, _label(each.flag.key, each.flag.description)) for each in reply.flags]
    return Choices(tuple(items), reply.next_page_token)


async def _variants(doing: Doing, question: Question) -> Choices:
    asked = flags.GetFlagRequest(project=question.project, environment=question.environment, key=question.flag_key)
    reply = await doing.ask(Request("FlagService/GetFlag", asked))
    return _found(question, [(each.key, "") for each in reply.flag.variants])


async def _segments(doing: Doing, question: Question) -> Choices:
    asked = segments.ListSegmentsRequest(
        project=question.project,
        environment=question.environment,
        text=question.search,
        page_size=question.limit,
        page_token=question.page_token,
    )
    reply = await doing.ask(Request("SegmentService/ListSegments", asked))
    items = [(each.key, _label(each.key, each.description)) for each in reply.segments]
    return Choices(tuple(items), reply.next_page_token)


async def _releases(doing: Doing, question: Question) -> Choices:
    asked = releases.ListReleasesRequest(
        project=question.project,
        environment=question.environment,
        page_size=min(question.limit, RELEASES_PAGE_MAX),
        page_token=question.page_token,
    )
    reply = await doing.ask(Request("ReleaseService/ListReleases", asked))
    return Choices(tuple((each.id, _released(each)) for each in reply.releases), reply.next_page_token)


def _released(release: Any) -> str:
    state = releases.ReleaseState.Name(release.state).removeprefix("RELEASE_STATE_").lower().replace("_", " ")
    return f"{release.plan.name or release.id} ({state})"


def _found(question: Question, items: list[tuple[str, str]]) -> Choices:
    """A page of a list that comes whole; its token is the last value."""
    wanted = question.search.casefold()
    fitting = [
        (value, _label(value, name))
        for value, name in sorted(items)
        if wanted in f"{value}\n{name}".casefold() and value > question.page_token
    ]
    more = len(fitting) > question.limit
    return Choices(tuple(fitting[: question.limit]), fitting[question.limit - 1][0] if more else "")


def _label(value: str, name: str) -> str:
    name = name.partition("\n")[0][:100]
    return f"{name} ({value})" if name and name != value else value


CHOICES: Final[Mapping[str, Choose]] = {
    "projects": _projects,
    "environments": _environments,
    "flags": _flags,
    "variants": _variants,
    "segments": _segments,
    "releases": _releases,
}
