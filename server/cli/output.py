"""Print answers for people or machines, and failures with the exit code that says whose they are."""

import functools
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NoReturn, ParamSpec, TypeVar

import typer

from server.core.errors import FlagstaffError, InvalidDefinition, Problem, StoreCorrupt, StoreUnavailable
from server.core.json import Json

EXIT_REFUSED: Final = 1
"""The input is wrong, or the answer is an error."""

EXIT_USAGE: Final = 2
EXIT_STORE: Final = 3
"""The database cannot be reached, or cannot be trusted."""

PLAIN_WIDTH_CHARS: Final = 1_000
"""Room for a table that goes to a file or a pipe: nothing is cut or wrapped there."""

P = ParamSpec("P")
R = TypeVar("R")


def reports_failures(command: Callable[P, R]) -> Callable[P, R]:
    """Let a command end with a message and an exit code, never with a traceback, when something is refused."""

    @functools.wraps(command)
    def reporting(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except FlagstaffError as error:
            fail(error, as_json=bool(kwargs.get("as_json")))
        except BrokenPipeError:
            raise
        except OSError as error:
            fail(error, as_json=bool(kwargs.get("as_json")))

    return reporting


def fail(error: FlagstaffError | OSError, *, as_json: bool) -> NoReturn:
    """Say what is wrong on standard error and end."""
    if as_json:
        typer.echo(json.dumps({"error": _described(error)}, ensure_ascii=False), err=True)
    elif isinstance(error, InvalidDefinition):
        print_problems(error.problems)
        count = len(error.problems)
        typer.echo(f"{count} problem{'s' * (count != 1)}; nothing was changed", err=True)
    else:
        typer.echo(f"error: {error}", err=True)
    store = isinstance(error, StoreUnavailable | StoreCorrupt)
    raise typer.Exit(EXIT_STORE if store else EXIT_REFUSED)


def _described(error: FlagstaffError | OSError) -> dict[str, Json]:
    code = error.code.value if isinstance(error, FlagstaffError) else "UNAVAILABLE"
    described: dict[str, Json] = {"code": code, "message": str(error)}
    if isinstance(error, InvalidDefinition):
        described["problems"] = problems_json(error.problems)
    return described


def print_problems(problems: Iterable[Problem], *, before: str = "") -> None:
    """One line a problem on standard error, with its path."""
    for problem in problems:
        typer.echo(f"{before}{'warning: ' if problem.warning else ''}{problem}", err=True)


def problems_json(problems: Iterable[Problem]) -> list[Json]:
    """Problems as machines get them."""
    return [{"path": each.path, "message": each.message, "warning": each.warning} for each in problems]


def print_json(value: Json, *, indent: int | None = 2) -> None:
    """One JSON document on standard output."""
    typer.echo(json.dumps(value, indent=indent, ensure_ascii=not _is_utf8()))


def _is_utf8() -> bool:
    return (sys.stdout.encoding or "").lower().startswith("utf")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table on standard output; a terminal wraps long cells, a file gets them whole."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, box=box.SIMPLE_HEAD if _is_utf8() else box.ASCII2, pad_edge=False, show_edge=False)
    for row in rows:
        # As text, so that brackets in a flag's name are no markup.
        table.add_row(*map(Text, row))
    console = Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH_CHARS, highlight=False)
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        typer.echo(line.rstrip())


def in_short(value: Json, *, chars_max: int = 60) -> str:
    """A value as compact JSON, cut to a readable length."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= chars_max else f"{text[: chars_max - 3]}..."
