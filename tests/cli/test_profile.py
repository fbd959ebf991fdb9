"""The commands `flagstaff profile ...`."""

import stat
from pathlib import Path

import pytest

from server.cli.profiles import Profile, read_profiles, write_profiles
from tests.cli.conftest import Run


@pytest.fixture
def config(tmp_path: Path) -> str:
    """A file of profiles in a directory that is not there yet."""
    return str(tmp_path / "new" / "profiles.toml")


def test_profiles_are_set_listed_and_removed(run: Run, config: str) -> None:
    """A second `set` changes what it is given and leaves the rest."""
    assert 0 == run("profile", "set", "prod", "--server", "https://flags", FLAGSTAFF_CONFIG=config).code
    assert 0 == run("--config", config, "profile", "set", "prod", "--project", "shop").code
    listed = run("profile", "list", "--json", FLAGSTAFF_CONFIG=config).json
    assert [("prod", "https://flags", "shop")] == [
        (each["name"], each["server"], each["project"]) for each in listed["profiles"]
    ]
    assert 0 == run("profile", "remove", "prod", FLAGSTAFF_CONFIG=config).code

    assert {} == read_profiles(Path(config))


def test_a_token_is_kept_and_never_shown(run: Run, config: str) -> None:
    """The file is its owner's alone; the list says only that there is one."""
    run("profile", "set", "prod", "--token-file", "-", text="secret\n", FLAGSTAFF_CONFIG=config)
    listed = run("profile", "list", FLAGSTAFF_CONFIG=config)

    assert "secret" == read_profiles(Path(config))["prod"].token
    assert (0o600, False) == (stat.S_IMODE(Path(config).stat().st_mode), "secret" in listed.out)
    assert "kept here" in listed.out


def test_a_token_may_stay_in_its_file(run: Run, config: str, tmp_path: Path) -> None:
    """Its name takes the kept token's place, and an empty one takes it away."""
    run("profile", "set", "prod", "--token-file", "-", text="secret\n", FLAGSTAFF_CONFIG=config)
    run("profile", "set", "prod", "--token-path", str(tmp_path / "t"), FLAGSTAFF_CONFIG=config)
    assert Profile(token_file=str(tmp_path / "t")) == read_profiles(Path(config))["prod"]
    run("profile", "set", "prod", "--token-path", "", FLAGSTAFF_CONFIG=config)

    assert Profile() == read_profiles(Path(config))["prod"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("set", "a.b"),
        ("set", "a", "--server", "ftp://x"),
        ("set", "a", "--token-file", "x", "--token-path", "y"),
        ("remove", "none"),
    ],
)
def test_what_cannot_be_is_refused(run: Run, config: str, arguments: tuple[str, ...]) -> None:
    """And nothing is written."""
    assert 1 == run("profile", *arguments, FLAGSTAFF_CONFIG=config).code
    assert not Path(config).exists()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[a", "not TOML"),
        ('server = "x"', "stands outside of any profile"),
        ('[a]\nsever = "x"', "has 'sever'"),
        ("[a]\nserver = 3", "is not a str"),
    ],
)
def test_a_file_that_is_wrong_says_where(run: Run, tmp_path: Path, text: str, expected: str) -> None:
    """Named with the file."""
    path = tmp_path / "profiles.toml"
    path.write_text(text, encoding="utf-8")
    ran = run("profile", "list", FLAGSTAFF_CONFIG=str(path))

    assert (1, True, True) == (ran.code, expected in ran.err, str(path) in ran.err)


def test_a_profile_that_is_not_there_names_those_that_are(run: Run, config: str) -> None:
    """A slip is quickly seen."""
    run("profile", "set", "prod", FLAGSTAFF_CONFIG=config)
    ran = run("profile", "remove", "prood", FLAGSTAFF_CONFIG=config)

    assert "profile 'prood' is not in" in ran.err and "there is: prod" in ran.err


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    """Every field, also with characters that TOML has to escape."""
    odd = Profile(server='q"\\', token="\x7f", tls=False, project="ü\n", environment="e", tls_ca="/a b")
    write_profiles(tmp_path / "p.toml", {"a": odd, "b": Profile()})

    assert {"a": odd, "b": Profile()} == read_profiles(tmp_path / "p.toml")
