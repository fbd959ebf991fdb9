"""What the command line says of itself, and how quickly."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import pytest
import typer.main

from server.cli.main import app
from tests.cli.conftest import Run

HEAVY = ["alembic", "grpc", "protos", "rich", "sqlalchemy", "sqlmodel", "starlette", "uvicorn", "yaml"]


def _commands(group: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command by the words that call it."""
    for name, command in (group or typer.main.get_group(app)).commands.items():
        yield (*path, name), command
        if hasattr(command, "commands"):
            yield from _commands(command, (*path, name))


COMMANDS = dict(_commands())
NAMES = [" ".join(path) for path in COMMANDS]
LEAVES = [path for path, command in COMMANDS.items() if not hasattr(command, "commands")]
OF_SERVERS = {"plan", "apply", "simulate"}
# What one change is about: a variable that said it for all would do harm.
SAID_EACH_TIME = {"--request-id", "--expected-version", "--bypass-approval"}


def test_help_lists_the_commands(run: Run) -> None:
    """With examples and the exit codes."""
    ran = run("--help")

    assert [] == [path[0] for path in COMMANDS if len(path) == 1 and f"\n  {path[0]} " not in ran.out]
    assert "flagstaff serve --demo" in ran.out
    assert "Exit codes: 0 fine" in ran.out


@pytest.mark.parametrize("name", NAMES)
def test_help_teaches_by_examples(run: Run, name: str) -> None:
    """Each command shows at least two ways to call it; a group shows two of its commands."""
    ran = run(*name.split(), "--help")

    assert 0 == ran.code
    assert 2 <= len(re.findall(rf"flagstaff (--\S+ \S+ )?{name}", ran.out)) or 2 <= ran.out.count("  flagstaff ")


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_a_variable_has_the_name_of_its_option(path: tuple[str, ...]) -> None:
    """FLAGSTAFF_ and its name, for every option that says where, as whom or how, and for all of a local command."""
    parameters = COMMANDS[path].params
    options = {each.opts[0]: each.envvar for each in parameters if each.opts[0].startswith("--")}
    is_local = len(path) == 1 and path[0] not in OF_SERVERS
    named = {flag: f"FLAGSTAFF_{flag[2:].replace('-', '_').upper()}" for flag in options}

    assert options == {flag: named[flag] if is_local or options[flag] else None for flag in options}
    assert SAID_EACH_TIME.isdisjoint(flag for flag, variable in options.items() if variable)


def test_an_environment_variable_counts(shop: Run) -> None:
    """And an option wins over it."""
    asked = shop("flags", "--json", FLAGSTAFF_ENVIRONMENT="staging")
    won = shop("flags", "--json", "--environment", "production", FLAGSTAFF_ENVIRONMENT="staging")

    assert (1, 0) == (asked.code, won.code)


@pytest.mark.parametrize(
    "arguments", [("no-such-command",), ("flags", "--no-such-option"), ("import",), ("serve", "--http-port", "70000")]
)
def test_wrong_usage_has_its_own_exit_code(run: Run, arguments: tuple[str, ...]) -> None:
    """2, with a usage line."""
    ran = run(*arguments)

    assert 2 == ran.code
    assert "Usage: " in ran.err


def test_the_version_is_told(run: Run) -> None:
    """As the installed package has it."""
    try:
        installed = f"flagstaff {version('flagstaff')}"
    except PackageNotFoundError:
        installed = "flagstaff, from a checkout that is not installed"

    assert f"{installed}\n" == run("--version").out


def test_help_loads_nothing_heavy() -> None:
    """So that it is there at once: what a command needs, it imports when it runs."""
    program = f"import sys, server.cli.main; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)

    assert ("[]\n", "") == (done.stdout, done.stderr)


def test_a_shell_completes_the_commands() -> None:
    """`flagstaff --install-completion` sets it up; groups have their commands."""
    asked = {"_FLAGSTAFF_COMPLETE": "complete_bash", "COMP_WORDS": "flagstaff profile ", "COMP_CWORD": "2"}
    program = "from server.cli.main import main; main([])"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False, env=os.environ | asked
    )

    assert ["list", "set", "remove"] == done.stdout.split()
