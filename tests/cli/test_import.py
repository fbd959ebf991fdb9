"""The command `flagstaff import`."""

import json
import sqlite3
from pathlib import Path
from typing import Any

from tests.cli.conftest import Run, Write
from tests.cli.documents import SWITCH, document, flagd_file, flagd_flag

NOTHING: dict[str, list[str]] = {"created": [], "updated": [], "unchanged": [], "removed": []}


def test_an_import_tells_what_became_of_each_flag(run: Run, write: Write) -> None:
    """Created, updated and unchanged ones are told apart; what the file does not have stays."""
    run("import", write("first.json", document(a=SWITCH, b=SWITCH, c=SWITCH)))
    ran = run("import", write("second.json", document(b=SWITCH, c={**SWITCH, "default": "on"}, d=SWITCH)), "--json")

    assert {"created": ["d"], "updated": ["c"], "unchanged": ["b"], "removed": []} == ran.json["flags"]
    assert ["a", "b", "c", "d"] == [flag["key"] for flag in run("flags", "--json").json["flags"]]


def test_an_import_is_one_revision(run: Run, write: Write) -> None:
    """Whatever is in the file; and none at all when it is so already."""
    path = write("flags.json", {**document(a=SWITCH, b=SWITCH), "segments": {"vip": {"keys": ["carol"]}}})
    revisions = [run("import", path, "--json").json["revision"] for _ in range(2)]

    assert [1, 1] == revisions


def test_replace_removes_what_the_file_does_not_have(run: Run, write: Write) -> None:
    """Flags, segments and metadata."""
    rule = {"condition": {"$ref": "vip"}, "serve": "on"}
    before = {"metadata": {"team": "shop"}, "segments": {"vip": {"keys": ["carol"]}}}
    run("import", write("first.json", {**before, **document(a={**SWITCH, "rules": [rule]}, b=SWITCH)}))
    ran = run("import", write("second.json", document(b=SWITCH)), "--replace", "--json")

    assert (["a"], ["vip"]) == (ran.json["flags"]["removed"], ran.json["segments"]["removed"])
    assert {"project", "environment", "flags"} == run("export").json.keys()


def test_a_dry_run_stores_nothing(run: Run, write: Write, tmp_path: Path) -> None:
    """It says the same as the import that follows it, also when there is no database yet, and makes none."""
    path = write("flags.json", document(a=SWITCH))
    tried = run("import", path, "--dry-run", "--json")
    assert not (tmp_path / "flags.db").exists()
    done = run("import", path, "--json")
    again = run("import", write("more.json", document(b=SWITCH)), "--dry-run")

    assert {**done.json, "dryRun": True} == tried.json
    assert "would be at revision 2" in again.out
    assert ["a"] == [flag["key"] for flag in run("flags", "--json").json["flags"]]


def test_every_problem_is_told_with_its_path(run: Run, write: Write) -> None:
    """And nothing is stored."""
    bad = {**SWITCH, "default": "of", "rules": [{"condition": {"ends_wiht": []}, "serve": "on"}]}
    path = write("bad.json", document(good=SWITCH, bad=bad))
    ran, described = run("import", path), run("import", path, "--json")

    assert (1, "") == (ran.code, ran.out)
    assert ["/flags/bad/default", "/flags/bad/rules/0/condition", "2 problems"] == [
        line.partition(":")[0].partition(";")[0] for line in ran.err.splitlines()
    ]
    error = json.loads(described.err)["error"]
    assert ("INVALID_ARGUMENT", {"path", "message", "warning"}) == (error["code"], error["problems"][0].keys())
    assert 3 == run("flags").code


def test_a_file_says_where_it_belongs(run: Run, write: Write) -> None:
    """Its own project and environment are taken, an option wins, and the default is default/production."""
    named = write("named.json", {"project": "shop", "environment": "staging", **document(a=SWITCH)})
    plain = write("plain.json", document(a=SWITCH))
    places = [
        run("import", named, "--json"),
        run("import", named, "--environment", "test", "--json"),
        run("import", plain, "--json"),
        run("import", plain, "--json", FLAGSTAFF_PROJECT="web"),
    ]

    assert ["shop/staging", "shop/test", "default/production", "web/production"] == [
        ran.json["flagSet"] for ran in places
    ]


def test_a_flagd_file_brings_metadata_and_source(run: Run, write: Write, tmp_path: Path) -> None:
    """The metadata goes to the environment; the source is the path as given, by which flagd's selector finds it."""
    path = write("demo.flagd.json", flagd_file(x=flagd_flag()))
    run("import", path)
    with sqlite3.connect(tmp_path / "flags.db") as connection:
        (source,) = connection.execute("SELECT source FROM environment").fetchone()
    connection.close()

    assert path == source
    assert {"version": "7"} == run("export").json["metadata"]


def test_a_file_without_metadata_leaves_it(run: Run, write: Write) -> None:
    """What a file does not speak of stays as it is."""
    run("import", write("first.json", {"metadata": {"team": "shop"}, **document(a=SWITCH)}))
    run("import", write("second.json", document(b=SWITCH)))

    assert {"team": "shop"} == run("export").json["metadata"]


def test_what_flagd_only_warns_about_needs_lenient(run: Run, write: Write) -> None:
    """Refused by default; with --lenient it is stored and the warnings are printed."""
    path = write("demo.json", flagd_file(x=flagd_flag({"if": [{"$ref": "nobody"}, "on"]})))
    strict, lenient = run("import", path), run("import", path, "--lenient")

    assert (1, 0) == (strict.code, lenient.code)
    assert "segment 'nobody' does not exist" in strict.err
    assert lenient.err.startswith("warning: /flags/x/targeting")


def test_a_change_of_bucketing_says_whom_it_moves(run: Run, write: Write) -> None:
    """About half of an even split; an import that does not speak of bucketing leaves it."""
    halves = {**SWITCH, "default": {"weights": {"on": 1, "off": 1}}}
    path = write("flags.json", document(a=SWITCH, b=halves))
    run("import", path)
    tried = run("import", path, "--bucketing", "v3", "--dry-run", "--json")
    changed, kept = run("import", path, "--bucketing", "v3"), run("import", path)

    assert ["b"] == list(tried.json["moved"])
    assert 400 <= tried.json["moved"]["b"] <= 600
    assert f"b: {tried.json['moved']['b']} of 1000 sample users" in changed.err
    assert "" == kept.err
    assert "v3" == run("export").json["bucketing"]


def test_a_dry_run_asks_the_other_environments(run: Run, write: Write) -> None:
    """What they cannot take is refused as the import would be, and what it would do to them is told."""
    run("import", write("staging.json", document(a=SWITCH)), "--environment", "staging")
    both = {**SWITCH, "variants": {**SWITCH["variants"], "maybe": False}}
    wider = write("wider.json", document(a=both))
    none_left = write("none.json", document(a={"variants": {"yes": True}, "default": "yes"}))
    tried = run("import", wider, "--dry-run", "--json")
    done = run("import", wider, "--json")

    assert {**done.json, "dryRun": True} == tried.json
    assert {"staging": 2} == tried.json["elsewhere"]
    refused = [run("import", none_left, *how) for how in ([], ["--dry-run"])]
    assert [1, 1] == [each.code for each in refused]
    assert "in environment 'staging'" in refused[0].err
    assert refused[0].err == refused[1].err


def test_what_would_move_users_is_asked_for(run: Run, write: Write) -> None:
    """Hashing another attribute is refused, tried or not, unless the import says that it may draw anew."""

    def by(**attribute: str) -> dict[str, Any]:
        return {**SWITCH, "rules": [{"id": "r", "share": {"percent": 20, **attribute}, "serve": "on"}]}

    run("import", write("first.json", document(a=by())))
    other = write("second.json", document(a=by(bucketBy="company")))
    refused = [run("import", other), run("import", other, "--dry-run")]
    allowed = run("import", other, "--rerandomise", "--json")

    assert [1, 1, 0] == [ran.code for ran in (*refused, allowed)]
    assert all(ran.err.startswith("/flags/a/rules/0/share/bucketBy: ") for ran in refused)
    assert ["a"] == allowed.json["flags"]["updated"]


def test_a_variant_that_is_served_elsewhere_keeps_its_value(run: Run, write: Write) -> None:
    """Unless the import is told that it may take another."""
    run("import", write("first.json", document(a={"variants": {"x": 1}})))
    other = write("second.json", document(a={"variants": {"x": 2}}))
    refused = run("import", other, "--environment", "staging")
    allowed = run("import", other, "--environment", "staging", "--replace-variants", "--json")

    assert (1, 0) == (refused.code, allowed.code)
    assert refused.err.startswith("/flags/a/variants/x: ")
    assert {"production": 2} == allowed.json["elsewhere"]


def test_a_damaged_flag_is_mended_by_importing_it_again(run: Run, write: Write, tmp_path: Path) -> None:
    """What is wrong in the database does not stand in the way of putting it right."""
    path = write("flags.json", document(a=SWITCH, b=SWITCH))
    run("import", path)
    with sqlite3.connect(tmp_path / "flags.db") as connection:
        connection.execute("UPDATE flag_config SET document = '[' WHERE key = 'a'")
    connection.close()
    broken, mended = run("flags"), run("import", path, "--json")

    assert 1 == broken.code
    assert ({**NOTHING, "updated": ["a"], "unchanged": ["b"]}, 0) == (mended.json["flags"], run("flags").code)


def test_what_does_not_fit_into_a_message_needs_another_home_or_no_sync(run: Run, write: Write) -> None:
    """Refused, tried or not, with the set, its size and the way out; stored for evaluation here with --no-sync."""
    bulk = {"variants": {"on": {str(number): "x" * 1_000 for number in range(60)}}, "default": "on"}
    path = write("huge.json", document(**{f"flag-{number}": bulk for number in range(70)}))
    refused = [run("import", path), run("import", path, "--dry-run")]
    taken, kept, back = run("import", path, "--no-sync"), run("import", path, "--json"), run("import", path, "--sync")

    assert [1, 1, 0, 0, 1] == [ran.code for ran in (*refused, taken, kept, back)]
    assert 1 == len({ran.err for ran in (*refused, back)})
    assert back.err.startswith("error: flag set 'default/production' takes 4")
    assert "--no-sync" in back.err
    assert "unchanged" == kept.json["environment"]


def test_the_reason_and_the_person_are_kept(run: Run, write: Write, tmp_path: Path) -> None:
    """In the audit trail."""
    run("import", write("flags.json", document(a=SWITCH)), "--reason", "Summer sale")
    with sqlite3.connect(tmp_path / "flags.db") as connection:
        rows = connection.execute("SELECT DISTINCT substr(actor, 1, 3), reason FROM audit_entry").fetchall()
    connection.close()

    assert [("cli", "Summer sale")] == rows


def test_standard_input_can_be_imported(run: Run) -> None:
    """JSON or YAML; there is no name to tell which."""
    ran = run("import", "-", "--json", text="flags:\n  a: {variants: {on: true}, default: on}\n")

    assert ["a"] == ran.json["flags"]["created"]


def test_a_file_that_is_not_there_is_refused(run: Run, tmp_path: Path) -> None:
    """By its name, without a traceback."""
    ran = run("import", tmp_path / "nothing.json")

    assert (1, f"error: cannot read {tmp_path / 'nothing.json'}: No such file or directory\n") == (ran.code, ran.err)
