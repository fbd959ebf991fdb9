"""Check the values of projects and environments, whoever made them."""

import math

from server.core.definitions.environments import (
    read_approval_policy,
    read_freeze_windows,
    write_approval_policy,
    write_freeze_window,
)
from server.core.definitions.fields import name_problem
from server.core.definitions.problems import Problems
from server.core.environments import Environment, Project
from server.core.errors import InvalidRequest, TooLarge
from server.core.limits import METADATA_ENTRIES_MAX, TEXT_CHARS_MAX


def check_environment(environment: Environment) -> None:
    """Errors: InvalidRequest, TooLarge, InvalidDefinition for its approval policy and freeze windows."""
    check_name("project", environment.project)
    check_name("environment", environment.key)
    for what, text in (("name", environment.name), ("source", environment.source)):
        check_text(f"the {what} of environment {environment.flag_set!r}", text)
    metadata = environment.metadata
    if len(metadata) > METADATA_ENTRIES_MAX:
        raise InvalidRequest(
            f"environment {environment.flag_set!r} has {len(metadata)} metadata entries, "
            f"at most {METADATA_ENTRIES_MAX} are allowed"
        )
    for key, value in metadata.items():
        if not _is_scalar(value):
            raise InvalidRequest(
                f"metadata {key!r} of environment {environment.flag_set!r} is not a string, number or boolean"
            )
    _check_protection(environment)


def _check_protection(environment: Environment) -> None:
    # Written and read back: whoever made the values, what is kept is what was checked.
    problems = Problems()
    policy = write_approval_policy(environment.approval_policy)
    read_approval_policy(policy, problems=problems, path="/approvalPolicy")
    windows = [write_freeze_window(window) for window in environment.freeze_windows]
    read_freeze_windows(windows, problems=problems, path="/freezeWindows")
    problems.raise_if_any()


def check_project(project: Project) -> None:
    """Errors: TooLarge when one of its texts is too long."""
    check_text(f"the name of project {project.key!r}", project.name)
    check_text(f"the description of project {project.key!r}", project.description)


def check_text(what: str, text: str) -> None:
    """Errors: TooLarge when a text is too long."""
    if len(text) > TEXT_CHARS_MAX:
        raise TooLarge(f"{what} has {len(text)} characters, at most {TEXT_CHARS_MAX} are allowed")


def _is_scalar(value: object) -> bool:
    return isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))


def check_name(what: str, key: str) -> None:
    """Errors: InvalidRequest when a key is not one of a project or environment."""
    problem = name_problem(key)
    if problem:
        raise InvalidRequest(f"{what} key: {problem}")
