"""Turn rows into values by their JSON form, the same that users read and write."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

from server.core.definitions.environments import (
    read_approval_policy,
    read_freeze_windows,
    write_approval_policy,
    write_freeze_window,
)
from server.core.definitions.flags import read_flag, write_config_part, write_flag_part
from server.core.definitions.problems import Problems, pointer
from server.core.definitions.segments import read_segment, write_segment
from server.core.definitions.targeting import number_problem
from server.core.environments import NO_APPROVALS, Bucketing, Environment, FreezeWindow, Project
from server.core.flags import Flag, FlagConfig, FlagDefinition
from server.core.json import Json, Scalar
from server.core.limits import FREEZE_WINDOWS_MAX
from server.core.segments import Segment

Document: TypeAlias = dict[str, Any]
"""A stored definition as a JSON object, not yet checked."""

ENVIRONMENT_COLUMNS: Final = (
    "project",
    "key",
    "name",
    "bucketing",
    "critical",
    "metadata_document",
    "source",
    "sync",
    "protection_document",
)

CLOSED: Final = FreezeWindow(
    datetime.min.replace(tzinfo=UTC),
    datetime.max.replace(tzinfo=UTC),
    "its stored approval policy and freeze windows are damaged; set both anew, with a bypass",
)
"""Stands for protection that cannot be read: evaluation goes on, and nobody changes anything by accident."""


@dataclass(frozen=True, slots=True)
class FlagText:
    """A flag as it is stored: the part that all environments share, and this environment's part."""

    flag: str
    config: str

    @property
    def merged(self) -> str:
        """Both parts as one document; their names never meet."""
        if self.flag == "{}" or self.config == "{}":
            return self.flag if self.config == "{}" else self.config
        return f"{self.flag[:-1]},{self.config[1:]}"


def compact(document: Json) -> str:
    """JSON text without spaces, in the order of the document: the order of weights has a meaning."""
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def parse(raw: bytes | str | None) -> Document | None:
    """Read a stored document; None when it is damaged, so that one bad row does not stop the others."""
    if raw is None:
        return None
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def as_text(raw: bytes | str) -> str:
    """A stored document as text, whatever is in it."""
    return raw if isinstance(raw, str) else raw.decode("utf-8", "replace")


def merged(flag_part: Document | None, config_part: Document | None) -> Document | None:
    """Both parts of a flag as one document; None when one of them is damaged."""
    return None if flag_part is None or config_part is None else {**flag_part, **config_part}


def flag_text(definition: FlagDefinition) -> FlagText:
    """Write a flag for the store."""
    return FlagText(flag_part_text(definition.flag), config_text(definition.config))


def flag_part_text(flag: Flag) -> str:
    """Write what is the same in all environments."""
    return compact(write_flag_part(flag))


def config_text(config: FlagConfig) -> str:
    """Write what belongs to one environment."""
    return compact(write_config_part(config))


def turned_off(config: str) -> str:
    """A stored configuration as it is, but off; of one that is no JSON object only that is left."""
    return compact({**(parse(config) or {}), "enabled": False})


def segment_text(segment: Segment) -> str:
    """Write a segment for the store."""
    return compact(write_segment(segment))


def environment_text(environment: Environment) -> str:
    """Write an environment as revisions and audit entries keep it."""
    return compact(
        {
            "name": environment.name,
            "bucketing": environment.bucketing.value,
            "critical": environment.critical,
            "metadata": dict(environment.metadata),
            "source": environment.source,
            "sync": environment.sync,
            **protection_document(environment),
        }
    )


def protection_document(environment: Environment) -> Document:
    """Write an environment's approval policy and freeze windows; what it does not have is left out."""
    document: Document = {}
    if environment.approval_policy != NO_APPROVALS:
        document["approvalPolicy"] = write_approval_policy(environment.approval_policy)
    if environment.freeze_windows:
        document["freezeWindows"] = [write_freeze_window(window) for window in environment.freeze_windows]
    return document


def project_text(project: Project) -> str:
    """Write a project as audit entries keep it."""
    described = {"description": project.description} if project.description else {}
    return compact({"name": project.name, **described})


def project_from_text(key: str, text: str) -> Project:
    """Read a project as `project_text` wrote it, now or in an earlier version."""
    document = parse(text) or {}
    return Project(key, document.get("name", ""), document.get("description", ""))


def parse_flag(key: str, document: Document | None, *, problems: Problems) -> FlagDefinition | None:
    """Read a stored flag by the rules that it was accepted with; None and problems when it is damaged."""
    path = pointer("/flags", key)
    if document is None:
        problems.error(path, "the stored definition is not a JSON object; put the flag again")
        return None
    return read_flag(key, document, problems=problems, path=path)


def read_turned_off(key: str, document: Document | None) -> FlagDefinition | None:
    """A damaged flag that is turned off, as far as that can be served: without its rules, which nobody asks then.

    None when it is not off, or its variants are damaged too.
    """
    if document is None or document.get("enabled") is not False:
        return None
    # Whoever turned it off wants its off variant; where that is damaged, the caller's own default will do.
    for names in (("type", "variants", "metadata", "lenient", "offVariant"), ("type", "variants", "lenient")):
        kept = {name: document[name] for name in names if name in document}
        definition = read_flag(key, {**kept, "enabled": False}, problems=Problems(), path="")
        if definition is not None:
            return definition
    return None


def parse_segment(key: str, document: Document | None, *, problems: Problems) -> Segment | None:
    """Read a stored segment by the rules that it was accepted with; None and problems when it is damaged."""
    path = pointer("/segments", key)
    if document is None:
        problems.error(path, "the stored definition is not a JSON object; put the segment again")
        return None
    return read_segment(key, document, problems=problems, path=path, stored=True)


def environment_from_row(row: Mapping[str, Any]) -> Environment:
    """Read an environment's row."""
    return Environment(
        project=row["project"],
        key=row["key"],
        name=row["name"],
        bucketing=Bucketing(row["bucketing"]),
        critical=bool(row["critical"]),
        metadata=_metadata(row["metadata_document"]),
        source=row["source"],
        sync=bool(row["sync"]),
        **_protection(_document(row["protection_document"])),
    )


def environment_from_text(project: str, key: str, text: str) -> Environment:
    """Read an environment as `environment_text` wrote it, now or in an earlier version."""
    document = json.loads(text)
    return Environment(
        project,
        key,
        name=document["name"],
        bucketing=Bucketing(document["bucketing"]),
        critical=document["critical"],
        metadata=document["metadata"],
        source=document["source"],
        sync=document.get("sync", True),
        **_protection(document),
    )


def _document(raw: object) -> Document | None:
    return parse(raw) if isinstance(raw, str | bytes) else None


def _protection(document: Document | None) -> dict[str, Any]:
    problems = Problems()
    read = document or {}
    policy = read_approval_policy(read.get("approvalPolicy"), problems=problems, path="/approvalPolicy")
    windows = read_freeze_windows(read.get("freezeWindows"), problems=problems, path="/freezeWindows")
    if document is None or problems.errors:
        windows = (*windows[: FREEZE_WINDOWS_MAX - 1], CLOSED)
    return {"approval_policy": policy, "freeze_windows": windows}


def _metadata(raw: str) -> dict[str, Scalar]:
    # No answer depends on flag-set metadata, so a damaged one is dropped and does not stop a whole environment.
    document = parse(raw) or {}
    return {key: value for key, value in document.items() if _is_sound(key, value)}


def _is_sound(key: str, value: Json) -> bool:
    """Whether every protocol can carry this entry."""
    if isinstance(value, str):
        return is_text(key) and is_text(value)
    return is_text(key) and isinstance(value, int | float) and not number_problem(value)


def is_text(text: str) -> bool:
    """Whether it can be written as UTF-8: a document may hold half of a surrogate pair, and no row is called so."""
    return not any("\ud800" <= character <= "\udfff" for character in text)
