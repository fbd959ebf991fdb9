"""A directory with a file for each environment, as a repository keeps it."""

import json
from pathlib import Path
from typing import Any

import pytest

from server.core.errors import InvalidDefinition, InvalidRequest
from server.core.flags import Flag
from server.operations import directories
from server.operations.directories import read_directory, write_directory

FLAG: dict[str, Any] = {"variants": {"on": True, "off": False}, "default": "off"}


def _write(root: Path, name: str, **flags: Any) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"flags": flags}))


def _problems(root: Path) -> list[str]:
    with pytest.raises(InvalidDefinition) as caught:
        read_directory(root)
    return [str(problem) for problem in caught.value.problems]


def test_files_are_named_by_their_environment(tmp_path: Path) -> None:
    """The folder is the project, the file the environment; what else lies about is nobody's."""
    _write(tmp_path, "shop/production.json", a=FLAG)
    _write(tmp_path, "shop/staging.yaml", a={**FLAG, "default": "on"})
    _write(tmp_path, ".git/config.json", a=FLAG)
    (tmp_path / "README.md").write_text("flags")
    (tmp_path / "shop/notes.txt").write_text("none")

    assert [("shop", "production"), ("shop", "staging")] == [
        (file.project, file.environment) for file in read_directory(tmp_path)
    ]


def test_the_problems_of_all_files_come_together(tmp_path: Path) -> None:
    """Each with its file and its path."""
    _write(tmp_path, "shop/production.json", a={**FLAG, "default": "of"})
    _write(tmp_path, "shop/staging.json", b={**FLAG, "rulez": []})
    found = _problems(tmp_path)

    assert 2 == len(found)
    assert "shop/production.json /flags/a/default: variant 'of' does not exist" in found[0]
    assert found[1].startswith("shop/staging.json /flags/b/rulez: ")


def test_a_file_for_another_environment_is_refused(tmp_path: Path) -> None:
    """A file that was copied and not edited would bring one environment to another's state."""
    (tmp_path / "shop").mkdir()
    document = {"project": "shop", "environment": "production", "flags": {}}
    (tmp_path / "shop/staging.json").write_text(json.dumps(document))

    assert ["shop/staging.json: the file says that it is for 'shop/production'; move it there"] == _problems(tmp_path)


def test_two_files_for_one_environment_are_refused(tmp_path: Path) -> None:
    """Nobody can say which of them counts."""
    _write(tmp_path, "shop/staging.json", a=FLAG)
    _write(tmp_path, "shop/staging.yaml", a=FLAG)

    assert ["shop/staging.yaml: shop/staging.json is for the same environment; keep one"] == _problems(tmp_path)


def test_what_environments_share_is_written_alike(tmp_path: Path) -> None:
    """Else each file would undo what the other says, and the last one would win."""
    _write(tmp_path, "shop/production.json", a=FLAG)
    _write(tmp_path, "shop/staging.json", a={**FLAG, "variants": {"on": True, "off": False, "new": True}, "owner": "x"})
    _write(tmp_path, "other/staging.json", a={**FLAG, "owner": "y"})

    assert ["shop/staging.json /flags/a/variants", "shop/staging.json /flags/a/owner"] == [
        problem.partition(":")[0] for problem in _problems(tmp_path)
    ]


def test_everything_that_is_shared_is_compared() -> None:
    """A field that a flag gets later is not forgotten."""
    assert set(Flag.__dataclass_fields__) - {"key"} == set(directories._SHARED)


def test_an_empty_directory_is_a_mistake(tmp_path: Path) -> None:
    """A wrong path must not read as "remove everything"."""
    with pytest.raises(InvalidRequest, match=r"has no file of an environment; expected PROJECT/ENVIRONMENT\.yaml"):
        read_directory(tmp_path)
    with pytest.raises(InvalidRequest, match="cannot read"):
        read_directory(tmp_path / "none")


def test_stale_files_are_told_and_kept(tmp_path: Path) -> None:
    """They may be somebody's work."""
    _write(tmp_path, "shop/gone.json", a=FLAG)
    done = write_directory(tmp_path, {("shop", "production"): "flags: {}\n"})

    assert (("shop/production.yaml",), ("shop/gone.json",)) == (done.written, done.stale)
    assert (tmp_path / "shop/gone.json").exists()
