"""The command `flagstaff export`, and that what it writes can be imported again."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.cli.files import yaml_text
from server.core.definitions.text import parse_text
from server.core.json import Json
from tests.cli.conftest import Run, Write
from tests.cli.documents import flagd_file, flagd_flag

TEXTS = st.text(st.characters(codec="utf-8"), max_size=12)
NUMBERS = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
ODD = st.sampled_from(
    ["on", "No", "null", "~", "1e3", "0o17", "1_000", "12:30", "2026-01-01", "<<", "=", "", " a", "# b"]
)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS | ODD,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS | ODD, inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize("options", [(), ("--yaml",)])
def test_an_export_imports_as_it_was(shop: Run, tmp_path: Path, options: tuple[str, ...]) -> None:
    """Importing it again changes nothing, and exporting it again writes the same."""
    path = tmp_path / "exported"
    shop("export", *options, "--output", path)
    ran = shop("import", path, "--replace", "--json")

    assert (1, 7) == (ran.json["revision"], len(ran.json["flags"]["unchanged"]))
    assert path.read_text(encoding="utf-8") == shop("export", *options).out


@pytest.mark.parametrize("user", ["alice", "bob", "carol", "user-1", "user-8"])
def test_the_export_for_flagd_means_the_same(shop: Run, tmp_path: Path, user: str) -> None:
    """Lowered and imported into another project, every flag gives the same value."""
    shop("export", "--format", "flagd", "--output", tmp_path / "lowered.json")
    shop("import", tmp_path / "lowered.json", "--project", "other")
    context = json.dumps({"targetingKey": user, "email": f"{user}@shop.example", "country": "BE"})
    keys = [flag["key"] for flag in shop("flags", "--json").json["flags"]]

    def values(project: str) -> dict[str, Json]:
        asked = {key: shop("evaluate", key, "--project", project, "-c", context, "--json").json for key in keys}
        return {key: (each["value"], each["variant"]) for key, each in asked.items()}

    assert values("default") == values("other")


def test_a_flagd_file_survives(run: Run, write: Write) -> None:
    """Imported and exported in flagd's format, its flags are as they were written."""
    targeting = {"if": [{"$ref": "adult"}, {"fractional": [["on", 50], ["off", 50]]}]}
    file = {
        **flagd_file(x=flagd_flag(targeting), y=flagd_flag()),
        "$evaluators": {"adult": {">=": [{"var": "age"}, 18]}},
    }
    run("import", write("demo.json", file))

    assert file == run("export", "--format", "flagd").json


def test_what_is_not_there_cannot_be_exported(run: Run, shop: Run, tmp_path: Path) -> None:
    """Another environment is not found (1), another database cannot be read (3), a directory cannot be written (1)."""
    codes = [
        shop("export", "--environment", "staging").code,
        run("export", "--database-url", f"sqlite:///{tmp_path / 'other.db'}").code,
        shop("export", "--output", tmp_path).code,
    ]

    assert [1, 3, 1] == codes
    assert not (tmp_path / "other.db").exists()


@given(VALUES)
def test_yaml_reads_as_it_was_written(value: Json) -> None:
    """Also texts that look like numbers, dates and booleans, in either version of YAML."""
    document = {"value": value}
    again = parse_text(yaml_text(document), name="x.yaml")

    assert repr(document) == repr(again)


def test_all_environments_go_into_a_directory(shop: Run, write: Write, tmp_path: Path) -> None:
    """A file each; what is read back is what was written."""
    assert 0 == shop("import", write("s.json", {"flags": {}}), "--environment", "staging").code
    ran = shop("export", "--all", tmp_path / "flags")
    again = shop("import", tmp_path / "flags/default/production.yaml", "--replace", "--json").json

    assert "default/production.yaml\ndefault/staging.yaml\n" == ran.out
    assert [] == again["flags"]["updated"]
    assert 1 == again["revision"]


def test_a_project_without_environments_has_nothing_to_export(shop: Run, tmp_path: Path) -> None:
    """A slip in the name is said."""
    ran = shop("export", "--all", tmp_path / "flags", "--project", "shup")

    assert 1 == ran.code
    assert "there is no environment to export in project 'shup'" in ran.err


def test_what_flagd_cannot_have_is_told(run: Run, write: Write, tmp_path: Path) -> None:
    """A flag that needs a large segment is left out of the file for flagd, and not of our own."""
    rule = {"id": "many", "condition": {"$ref": "large"}, "serve": "on"}
    flag = {"variants": {"on": True, "off": False}, "default": "off"}
    segments = {"large": {"keys": [f"user-{number}" for number in range(10_001)]}}
    document = {"segments": segments, "flags": {"many": {**flag, "rules": [rule]}, "plain": flag}}
    run("import", write("large.json", document))
    flagd, own = run("export", "--format", "flagd"), run("export")
    evaluated = run("evaluate", "many", "--targeting-key", "user-7", "--json").json

    assert (0, ["plain"]) == (flagd.code, list(flagd.json["flags"]))
    assert "warning: flag many of default/production is left out: its keys are too many for flagd (large)" in flagd.err
    assert ("", segments["large"]["keys"]) == (own.err, sorted(own.json["segments"]["large"]["keys"], key=len_and_text))
    assert evaluated["value"] is True


def len_and_text(text: str) -> tuple[int, str]:
    """Numbers at the end in their own order."""
    return len(text), text
