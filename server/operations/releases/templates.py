"""Manage the templates from which a project's releases are drawn up."""

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection

from server.core.access import Action, Principal
from server.core.definitions.places import check_name
from server.core.errors import InvalidDefinition, InvalidRequest, NotFound
from server.core.json import Json
from server.core.releases.checking import plan_problems
from server.core.releases.plan import Patch, Plan
from server.core.releases.recipes import curved
from server.operations.writes import Outcome, Write, Writer, Written, require_within
from server.store.engine import reading
from server.store.occurrences import Occurrence, note
from server.store.projects import find_project
from server.store.release_templates import (
    KIND,
    Template,
    delete_template,
    list_templates,
    put_template,
    read_template,
)
from server.store.turns import take_turn


class _TakenBack(Exception):
    """Ends the transaction of a dry run."""


@dataclass(frozen=True, slots=True)
class Templates:
    """The templates of one database. Errors: NotFound; PermissionDenied."""

    writer: Writer

    def put(self, write: Write, template: Template) -> Written:
        """Keep a template. Errors: InvalidDefinition, InvalidRequest, TooLarge."""
        require_within(write.principal, Action.EDIT, template.project)
        check_name("release template", template.name)
        steps = curved([(each.share_parts, each.gates) for each in template.steps], Patch("any", "any", "any"))
        problems = list(plan_problems(Plan(template.name, steps, description=template.description)))
        if problems:
            raise InvalidDefinition(problems)

        def work(connection: Connection) -> None:
            if find_project(connection, template.project) is None:
                raise NotFound(f"project {template.project!r} does not exist; create it first")
            before = put_template(connection, template)
            word = "created" if before is None else "updated"
            _note(connection, write, template, word, before)

        return self._carry_out(write, template.project, work)

    def delete(self, write: Write, *, project: str, name: str) -> Written:
        """Take a template away; releases that were drawn up from it stay."""
        require_within(write.principal, Action.EDIT, project)

        def work(connection: Connection) -> None:
            before = delete_template(connection, project, name)
            _note(connection, write, before, "deleted", before)

        return self._carry_out(write, project, work)

    def read(self, project: str, name: str) -> Template:
        """One template. Errors: NotFound, naming those that there are."""
        with reading(self.writer.engine) as connection:
            return read_template(connection, project, name)

    def list(self, principal: Principal, project: str) -> list[Template]:
        """All of a project, by name."""
        require_within(principal, Action.READ, project)
        with reading(self.writer.engine) as connection:
            return list_templates(connection, project)

    def _carry_out(self, write: Write, project: str, work: Callable[[Connection], None]) -> Written:
        if write.expected_version is not None:
            raise InvalidRequest("a release template has no version; leave expected_version out")

        def tried(connection: Connection) -> None:
            work(connection)
            if write.dry_run:
                raise _TakenBack

        try:
            take_turn(self.writer.engine, f"project/{project}", tried)
        except _TakenBack:
            return Written(Outcome.WOULD_APPLY)
        return Written(Outcome.APPLIED)


def _note(connection: Connection, write: Write, template: Template, word: str, before: Template | None) -> None:
    told: dict[str, Json] = {"name": template.name, "steps": [each.share_parts / 1000 for each in template.steps]}
    had = None if before is None else {"name": before.name, "steps": [each.share_parts / 1000 for each in before.steps]}
    note(
        connection,
        Occurrence(
            template.project,
            KIND,
            template.name,
            f"release_template.{word}",
            write.principal.actor,
            write.now,
            told,
            before=had,
            reason=write.reason,
            cause=write.cause,
        ),
    )
