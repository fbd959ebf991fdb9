"""What the command line says of itself, and how quickly."""

import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version

import pytest
import typer.main

from server.cli.main import app
from tests.cli.conftest import Run

COMMANDS = ["backup", "check", "evaluate", "export", "flags", "import", "migrate", "restore", "serve"]
HEAVY = ["alembic", "grpc", "rich", "sqlalchemy", "sqlmodel", "starlette", "uvicorn", "yaml"]


def test_help_lists_the_commands(run: Run) -> None:
    """With examples and the exit codes."""
    ran = run("--help")

    assert COMMANDS == sorted(typer.main.get_group(app).commands)
    assert [] == [name for name in COMMANDS if f"\n  {name} " not in ran.out]
    assert "flagstaff serve --demo" in ran.out
    assert "Exit codes: 0 fine" in ran.out


@pytest.mark.parametrize("name", COMMANDS)
def test_help_teaches_by_examples(run: Run, name: str) -> None:
    """Each command shows at least two ways to call it."""
    ran = run(name, "--help")

    assert 0 == ran.code
    assert 2 <= ran.out.count(f"flagstaff {name}")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_an_environment_variable(name: str) -> None:
    """FLAGSTAFF_ and its name."""
    parameters = typer.main.get_group(app).commands[name].params
    options = {each.opts[0]: each.envvar for each in parameters if each.opts[0].startswith("--")}

    assert {flag: f"FLAGSTAFF_{flag[2:].replace('-', '_').upper()}" for flag in options} == options


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
