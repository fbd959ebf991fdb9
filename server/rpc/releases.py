"""Serve flagstaff.v1.ReleaseService: flags that are let out step by step."""

from collections.abc import AsyncIterator, Callable
from datetime import datetime
from functools import partial
from typing import Any, Final

from protos.flagstaff.v1 import releases_pb2 as messages
from server.core.access import Principal
from server.core.methods import action_of
from server.core.releases.progress import Act
from server.live.trails import POLL_S, Trails
from server.operations.releases.going import Went
from server.operations.releases.looking import Looking
from server.operations.releases.moving import Releases
from server.operations.releases.templates import Templates
from server.operations.writes import Write, require_within
from server.rpc.call import Call
from server.rpc.management import Management, named, parse, result_of
from server.rpc.paging import LONG_SIZE, LONG_SIZE_MAX, read_place, size_of, write_place
from server.rpc.release_messages import read_gates, read_plan_message, read_state, read_target
from server.rpc.release_replies import event_messages, release_message, template_message, told_message
from server.rpc.table import Table, merge, server_stream
from server.store.release_templates import Template, TemplateStep
from server.store.releases import StoredEvent, StoredRelease, Wanted

SERVICE: Final = "flagstaff.v1.ReleaseService"
WATCH: Final = f"/{SERVICE}/WatchRelease"
TOLD_AGAIN_S: Final = 5.0
"""A release that is watched is told again after so long: its gates depend on time."""

_COMMANDS: Final = {
    "StartRelease": Act.START,
    "ApproveRelease": Act.APPROVE,
    "PauseRelease": Act.PAUSE,
    "ResumeRelease": Act.RESUME,
    "HoldRelease": Act.HOLD,
    "AdvanceRelease": Act.ADVANCE,
    "RestartRelease": Act.RESTART,
    "CompleteRelease": Act.COMPLETE,
    "AbortRelease": Act.ABORT,
}


def release_table(
    management: Management, releases: Releases, *, told_again_s: float = TOLD_AGAIN_S, poll_s: float = POLL_S
) -> Table:
    """The service's handlers."""
    looking, templates = Looking(releases.writer.engine), Templates(releases.writer)
    service = _Releases(management, releases, looking, templates)
    reads = management.reads(
        SERVICE,
        {
            "GetRelease": (messages.GetReleaseRequest, service.get),
            "ListReleases": (messages.ListReleasesRequest, service.list),
            "ListReleaseTemplates": (messages.ListReleaseTemplatesRequest, service.list_templates),
        },
        # Whether somebody may read one depends on the environments that it reaches.
        ask_access=False,
    )
    commands = {
        name: (getattr(messages, f"{name}Request"), partial(service.command, act)) for name, act in _COMMANDS.items()
    }
    writes = management.writes(
        SERVICE,
        {
            "CreateRelease": (messages.CreateReleaseRequest, service.create),
            "UpdateRelease": (messages.UpdateReleaseRequest, service.update),
            "JumpRelease": (messages.JumpReleaseRequest, service.jump),
            "AnswerRelease": (messages.AnswerReleaseRequest, service.answer),
            "RollBackRelease": (messages.RollBackReleaseRequest, service.roll_back),
            "PutReleaseTemplate": (messages.PutReleaseTemplateRequest, service.put_template),
            "DeleteReleaseTemplate": (messages.DeleteReleaseTemplateRequest, service.delete_template),
            **commands,
        },
    )
    watch = _Watch(management, looking, told_again_s, poll_s)
    return merge(reads, writes, {WATCH: server_stream(watch.stream)})


class _Releases:
    def __init__(self, management: Management, releases: Releases, looking: Looking, templates: Templates) -> None:
        self._clock: Callable[[], datetime] = management.clock
        self._releases, self._looking, self._templates = releases, looking, templates

    def get(self, request: Any, principal: Principal) -> messages.GetReleaseResponse:
        named(request, "project", "id")
        detail = self._looking.detail(principal, project=request.project, id=request.id)
        return messages.GetReleaseResponse(
            release=release_message(detail.stored, self._clock()),
            events=[message for each in detail.events for message in event_messages(each)],
            log_agrees=detail.log_agrees,
        )

    def list(self, request: Any, principal: Principal) -> messages.ListReleasesResponse:
        named(request, "project")
        size = size_of(request, usual=LONG_SIZE, most=LONG_SIZE_MAX)
        found = self._looking.page(
            principal,
            project=request.project,
            wanted=Wanted([read_state(each) for each in request.states], request.environment, request.flag_key),
            after=read_place(request.page_token),
            limit=size + 1,
        )
        shown, now = found[:size], self._clock()
        return messages.ListReleasesResponse(
            releases=[release_message(each, now) for each in shown],
            next_page_token=write_place(shown[-1].created_at, shown[-1].id) if len(found) > size else "",
        )

    def create(self, request: Any, write: Write) -> messages.ReleaseResponse:
        named(request, "project")
        plan = read_plan_message(request, self._looking, self._templates)
        return self._answer(self._releases.create(write, project=request.project, plan=plan), write)

    def update(self, request: Any, write: Write) -> messages.ReleaseResponse:
        named(request, "project", "id")
        plan = read_plan_message(request, self._looking, self._templates)
        went = self._releases.revise(write, project=request.project, id=request.id, plan=plan)
        return self._answer(went, write)

    def command(self, act: Act, request: Any, write: Write) -> messages.ReleaseResponse:
        named(request, "project", "id")
        went = self._releases.command(write, project=request.project, id=request.id, act=act, text=request.text)
        return self._answer(went, write)

    def jump(self, request: Any, write: Write) -> messages.ReleaseResponse:
        named(request, "project", "id", "step")
        went = self._releases.command(
            write, project=request.project, id=request.id, act=Act.JUMP, text=request.text, step=request.step - 1
        )
        return self._answer(went, write)

    def answer(self, request: Any, write: Write) -> messages.ReleaseResponse:
        named(request, "project", "id", "name")
        went = self._releases.answer(
            write, project=request.project, id=request.id, name=request.name, go=request.go, text=request.text
        )
        return self._answer(went, write)

    def roll_back(self, request: Any, write: Write) -> messages.ReleaseResponse:
        named(request, "project", "id")
        target = read_target(request.target) if request.HasField("target") else None
        went = self._releases.command(
            write, project=request.project, id=request.id, act=Act.ROLL_BACK, text=request.text, target=target
        )
        return self._answer(went, write)

    def put_template(self, request: Any, write: Write) -> messages.ReleaseTemplateResponse:
        named(request, "project", "template")
        given = request.template
        steps = [TemplateStep(each.share_parts, read_gates(each.gates)) for each in given.steps]
        template = Template(request.project, given.name, given.description, steps, write.principal.actor, write.now)
        written = self._templates.put(write, template)
        return messages.ReleaseTemplateResponse(template=template_message(template), result=result_of(written))

    def delete_template(self, request: Any, write: Write) -> messages.ReleaseTemplateResponse:
        named(request, "project", "name")
        written = self._templates.delete(write, project=request.project, name=request.name)
        return messages.ReleaseTemplateResponse(result=result_of(written))

    def list_templates(self, request: Any, principal: Principal) -> messages.ListReleaseTemplatesResponse:
        named(request, "project")
        found = self._templates.list(principal, request.project)
        return messages.ListReleaseTemplatesResponse(templates=[template_message(each) for each in found])

    def _answer(self, went: Went, write: Write) -> messages.ReleaseResponse:
        stored = went.stored
        came = StoredEvent(
            stored.release.progress.event_count,
            None,
            went.told,
            None,
            went.written.revisions,
            write.principal.actor,
            "",
            stored.updated_at,
        )
        return messages.ReleaseResponse(
            release=release_message(stored, write.now),
            events=[told_message(each, came) for each in went.told],
            result=result_of(went.written),
        )


class _Watch:
    def __init__(self, management: Management, looking: Looking, told_again_s: float, poll_s: float) -> None:
        self._management, self._looking, self._told_again_s = management, looking, told_again_s
        self._trails = Trails(self._last_sequences, poll_s=poll_s)

    async def stream(self, raw: bytes, call: Call) -> AsyncIterator[bytes]:
        """The release now and what happened behind the number that is known, then what happens."""
        request = parse(messages.WatchReleaseRequest, raw)
        require_within(call.principal, action_of(WATCH), request.project)
        named(request, "project", "id")
        number = request.after_number
        while True:
            # Before what is read: what happens meanwhile is looked at once more, and not missed.
            sequence = await self._management.run(partial(self._looking.last, request.project))
            stored, events = await self._management.run(
                partial(self._looking.read, call.principal, project=request.project, id=request.id, behind=number)
            )
            number = max([number, *(each.number for each in events)])
            yield self._message(stored, events).SerializeToString()
            await self._trails.wait(request.project, sequence, timeout_s=self._told_again_s)

    def _message(self, stored: StoredRelease, events: list[StoredEvent]) -> messages.WatchReleaseResponse:
        return messages.WatchReleaseResponse(
            release=release_message(stored, self._management.clock()),
            events=[message for each in events for message in event_messages(each)],
        )

    async def _last_sequences(self, projects: frozenset[str]) -> dict[str, int]:
        return await self._management.run(lambda: {project: self._looking.last(project) for project in projects})
