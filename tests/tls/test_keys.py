"""The server's secret key: where it is looked for, and that it is made once and for its owner only."""

import stat
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from server.core.errors import InvalidRequest, Refused
from server.keys import FILE_VARIABLE, HOOK_VARIABLE, VARIABLE, read_hook_keys, read_key
from tests.house.sources import ROOT

KEY: Final = "k" * 32


def test_a_key_is_made_beside_the_database(tmp_path: Path) -> None:
    """For its owner alone, 256 bits, and found again."""
    database = tmp_path / "flags.db"
    before = read_key(database, {}, make=False)
    made = read_key(database, {}, make=True)
    path = tmp_path / "flags.db.secret-key"

    assert (None, made, made) == (before, read_key(database, {}, make=True), read_key(database, {}, make=False))
    assert (0o600, 64, [path]) == (stat.S_IMODE(path.stat().st_mode), len(made or b""), list(tmp_path.iterdir()))


def test_a_key_from_the_environment_comes_first(tmp_path: Path) -> None:
    """The variable, then the file that another one names, then the one beside the database."""
    database, file = tmp_path / "flags.db", tmp_path / "key"
    read_key(database, {}, make=True)
    file.write_text(f"{KEY}file\n")
    file.chmod(0o600)

    assert f"{KEY}file".encode() == read_key(database, {FILE_VARIABLE: str(file)}, make=False)
    assert KEY.encode() == read_key(database, {VARIABLE: KEY, FILE_VARIABLE: str(file)}, make=False)


def test_several_starts_make_one_key(tmp_path: Path) -> None:
    """Whoever comes second takes the first one's."""
    program = "import sys; from pathlib import Path; from server.keys import read_key\n"
    program += "print(read_key(Path(sys.argv[1]), {}, make=True).decode())"
    command = [sys.executable, "-c", program, str(tmp_path / "flags.db")]
    processes = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    keys = {process.communicate(timeout=60)[0] for process in processes}

    assert (1, 1) == (len(keys), len(list(tmp_path.iterdir())))


def test_keys_that_cannot_be_used(tmp_path: Path) -> None:
    """Too short, not there, or readable by everybody; the message never has the key."""
    short, public = tmp_path / "short", tmp_path / "public"
    short.write_text("secret\n")
    short.chmod(0o600)
    public.write_text(KEY)
    public.chmod(0o644)
    for environ, said in (
        ({VARIABLE: "secret"}, "has 6 characters"),
        ({FILE_VARIABLE: str(short)}, "has 6 characters"),
        ({FILE_VARIABLE: str(public)}, "chmod 600"),
        ({FILE_VARIABLE: str(tmp_path / "missing")}, "No such file"),
    ):
        with pytest.raises(InvalidRequest, match=said) as refused:
            read_key(tmp_path / "flags.db", environ, make=True)
        assert "secret\n" not in str(refused.value) and KEY not in str(refused.value)


def test_a_shared_database_needs_a_given_key(tmp_path: Path) -> None:
    """No machine of several may make one of its own."""
    assert None is read_key(None, {}, make=False)
    with pytest.raises(InvalidRequest, match="all replicas share"):
        read_key(None, {}, make=True)


def test_a_directory_that_takes_no_file(tmp_path: Path) -> None:
    """Says what else there is."""
    with pytest.raises(InvalidRequest, match=f"give one by {FILE_VARIABLE}"):
        read_key(tmp_path / "missing" / "flags.db", {}, make=True)


def test_a_key_for_hooks_is_made_beside_the_database(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """For its owner alone; it is told once, and found again."""
    database = tmp_path / "flags.db"
    before = read_hook_keys(database, {}, make=False)
    made = read_hook_keys(database, {}, make=True)
    path = tmp_path / "flags.db.hook-keys"

    assert ((), made) == (before, read_hook_keys(database, {}, make=True))
    assert (0o600, 1, 64) == (stat.S_IMODE(path.stat().st_mode), len(made), len(made[0]))
    assert 1 == len(caplog.records) and made[0].decode() not in caplog.text


def test_keys_for_hooks_that_are_given(tmp_path: Path) -> None:
    """The newest first: in a variable with commas between them, or in a file, one a line."""
    database, file = tmp_path / "flags.db", tmp_path / "keys"
    file.write_text(f"# newest first\n{KEY}new\n\n{KEY}old\n")
    file.chmod(0o600)
    new, old = f"{KEY}new".encode(), f"{KEY}old".encode()

    assert (new, old) == read_hook_keys(database, {}, file=file, make=True)
    assert (old, new) == read_hook_keys(None, {HOOK_VARIABLE: f"{KEY}old, {KEY}new"}, file=file, make=True)
    assert [file] == list(tmp_path.iterdir())


def test_keys_for_hooks_that_cannot_be_used(tmp_path: Path) -> None:
    """Too short, none, too many, not there; where replicas share a database they must be given."""
    short, none = tmp_path / "short", tmp_path / "none"
    for path, content in ((short, f"{KEY}\nsecret\n"), (none, "# nothing\n")):
        path.write_text(content)
        path.chmod(0o600)
    for environ, file, said in (
        ({}, short, "has 6 characters"),
        ({}, none, "there are 0 keys"),
        ({}, tmp_path / "missing", "hooks need it"),
        ({HOOK_VARIABLE: ",".join([KEY] * 17)}, None, "there are 17 keys"),
    ):
        with pytest.raises(InvalidRequest, match=said) as refused:
            read_hook_keys(None, environ, file=file, make=True)
        assert KEY not in str(refused.value)
    assert () == read_hook_keys(None, {}, make=False)
    with pytest.raises(Refused, match=f"by --hook-keys-file or {HOOK_VARIABLE}"):
        read_hook_keys(None, {}, make=True)
