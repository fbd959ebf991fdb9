"""Read and write a directory that has one file for each environment, as a repository keeps it.

Its layout is PROJECT/ENVIRONMENT.yaml, in our format or in flagd's. A name that begins with a dot, and every file with
another ending, is nobody's.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from server.core.definitions.fields import name_problem
from server.core.definitions.problems import pointer
from server.core.errors import InvalidDefinition, InvalidRequest, Problem
from server.core.flags import Flag
from server.operations.flagsets import Definitions, Place, read_definitions

SUFFIXES: Final = (".yaml", ".yml", ".json")
FILES_MAX: Final = 10_000

_SHARED: Final = {
    "type": "type",
    "variants": "variants",
    "description": "description",
    "kind": "kind",
    "temporary": "temporary",
    "expected_lifetime_days": "expectedLifetimeDays",
    "owner": "owner",
    "tags": "tags",
    "links": "links",
    "metadata": "metadata",
    "archived_at": "archivedAt",
}
"""What all environments of a project share of a flag -> its name in a file."""


@dataclass(frozen=True, slots=True)
class EnvironmentFile:
    """One environment's file."""

    name: str
    """Its path below the directory."""

    text: bytes
    definitions: Definitions

    @property
    def project(self) -> str:
        """The project, by the folder's name."""
        return self.definitions.flag_set.environment.project

    @property
    def environment(self) -> str:
        """The environment, by the file's name."""
        return self.definitions.flag_set.environment.key


def read_directory(root: Path, *, lenient: bool = False) -> list[EnvironmentFile]:
    """Every environment's file, in the order of their names.

    Errors: InvalidDefinition with the problems of all files, each path behind its file's name, also where two files of
    a project say different things about what a flag is in all environments; InvalidRequest when there is no file.
    """
    problems: list[Problem] = []
    found: dict[tuple[str, str], EnvironmentFile] = {}
    for path in _paths(root):
        project, environment = path.parent.name, path.stem
        name = f"{project}/{path.name}"
        if (project, environment) in found:
            problems.append(Problem(name, f"{found[project, environment].name} is for the same environment; keep one"))
            continue
        try:
            found[project, environment] = _read(path, name, lenient=lenient)
        except InvalidDefinition as error:
            problems += (replace(each, path=f"{name} {each.path}".rstrip()) for each in error.problems)
    files = list(found.values())
    problems += _disagreements(files)
    if problems:
        raise InvalidDefinition(problems)
    if not files:
        raise InvalidRequest(f"{root} has no file of an environment; expected PROJECT/ENVIRONMENT.yaml or .json")
    return files


def _paths(root: Path) -> list[Path]:
    try:
        folders = sorted(each for each in root.iterdir() if each.is_dir() and not each.name.startswith("."))
        paths = [path for folder in folders for path in sorted(folder.iterdir()) if _is_ours(path)]
    except OSError as error:
        raise InvalidRequest(f"cannot read {error.filename}: {error.strerror or error}") from None
    if len(paths) > FILES_MAX:
        raise InvalidRequest(f"{root} has {len(paths)} files of environments, at most {FILES_MAX} are read")
    return paths


def _is_ours(path: Path) -> bool:
    return path.suffix in SUFFIXES and not path.name.startswith(".") and path.is_file()


def _read(path: Path, name: str, *, lenient: bool) -> EnvironmentFile:
    project, environment = path.parent.name, path.stem
    wrong = name_problem(project) or name_problem(environment)
    if wrong:
        raise InvalidDefinition([Problem("", wrong)])
    try:
        text = path.read_bytes()
    except OSError as error:
        raise InvalidRequest(f"cannot read {path}: {error.strerror or error}") from None
    # Not the folder's and the file's names at once: what the file says of itself must be the same.
    definitions = read_definitions(text, name=name, place=Place(None, None, project, environment), lenient=lenient)
    said = definitions.flag_set.environment
    if (said.project, said.key) != (project, environment):
        raise InvalidDefinition([Problem("", f"the file says that it is for {said.flag_set!r}; move it there")])
    return EnvironmentFile(name, text, definitions)


def _disagreements(files: Sequence[EnvironmentFile]) -> Iterator[Problem]:
    """Where files of a project differ in what a flag is in all its environments: the last one applied would win."""
    first: dict[tuple[str, str], tuple[EnvironmentFile, Flag]] = {}
    for file in files:
        for key, definition in file.definitions.flag_set.flags.items():
            other, flag = first.setdefault((file.project, key), (file, definition.flag))
            for field, written in _SHARED.items():
                if repr(getattr(flag, field)) != repr(getattr(definition.flag, field)):
                    yield Problem(
                        f"{file.name} {pointer(pointer('/flags', key), written)}",
                        f"differs from {other.name}; all environments of a project share it, so write it alike",
                    )


@dataclass(frozen=True, slots=True)
class WrittenFiles:
    """What a directory got, as paths below it."""

    written: tuple[str, ...]
    stale: tuple[str, ...]
    """Files of environments that were not written; they are left alone."""


def write_directory(root: Path, texts: Mapping[tuple[str, str], str]) -> WrittenFiles:
    """Write one YAML file for each (project, environment). Errors: InvalidRequest when one cannot be written."""
    written: list[str] = []
    for (project, environment), text in sorted(texts.items()):
        path = root / project / f"{environment}.yaml"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise InvalidRequest(f"cannot write {path}: {error.strerror or error}") from None
        written.append(f"{project}/{path.name}")
    there = [f"{path.parent.name}/{path.name}" for path in _paths(root)]
    return WrittenFiles(tuple(written), tuple(name for name in there if name not in written))
