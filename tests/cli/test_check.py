"""The command `flagstaff check`."""

from pathlib import Path

from tests.cli.conftest import SAMPLES, Run, Write
from tests.cli.documents import SWITCH, document, flagd_file, flagd_flag


def test_the_sample_flags_are_sound(run: Run) -> None:
    """They are what a reader copies first."""
    ran = run("check", SAMPLES)

    assert (0, f"{SAMPLES}: sound, 7 flags and 2 segments in flagstaff's format\n") == (ran.code, ran.out)


def test_all_problems_of_all_files_are_told(run: Run, write: Write) -> None:
    """Each line names the file and the path."""
    bad = write("bad.json", document(a={**SWITCH, "default": "of"}, b={**SWITCH, "offVariant": "of"}))
    broken = write("broken.yaml", "flags: [")
    ran = run("check", bad, SAMPLES, broken)

    assert 1 == ran.code
    assert [f"{bad}: /flags/a/default", f"{bad}: /flags/b/offVariant", f"{broken}: /"] == [
        ": ".join(line.split(": ")[:2]) for line in ran.err.splitlines()
    ]


def test_lenient_turns_problems_into_warnings(run: Run, write: Write) -> None:
    """For what flagd only warns about."""
    path = write("demo.json", flagd_file(x=flagd_flag({"if": [{"$ref": "nobody"}, "on"]})))
    strict, lenient = run("check", path), run("check", path, "--lenient")

    assert (1, 0) == (strict.code, lenient.code)
    assert "warning: /flags/x/targeting" in lenient.err


def test_json_reports_each_file(run: Run, write: Write) -> None:
    """Whether it is valid, and its problems."""
    bad = write("bad.json", document(a={**SWITCH, "default": "of"}))
    good = write("good.json", flagd_file(x=flagd_flag()))
    ran = run("check", bad, good, "--json")

    assert (1, "") == (ran.code, ran.err)
    message = "variant 'of' does not exist; the flag has: on, off"
    assert [
        {"file": bad, "valid": False, "problems": [{"path": "/flags/a/default", "message": message, "warning": False}]},
        {"file": good, "valid": True, "problems": [], "format": "flagd", "flags": 1, "segments": 0},
    ] == ran.json


def test_a_file_that_cannot_be_read_is_refused(run: Run, tmp_path: Path) -> None:
    """As a directory, for example."""
    assert 1 == run("check", tmp_path).code


def test_no_database_is_touched(run: Run, tmp_path: Path) -> None:
    """A check is for machines that have none."""
    run("check", SAMPLES)

    assert [] == list(tmp_path.iterdir())
