"""Define the options that several commands share; most can also come from the environment."""

from typing import Annotated, Any, Final

import typer

from server.settings import DATABASE_URL, ENVIRONMENT, PROJECT

ENVIRONMENT_PREFIX: Final = "FLAGSTAFF_"


def option(name: str, help: str, *more: str, **settings: Any) -> Any:
    """An option that is also read from FLAGSTAFF_<NAME>."""
    variable = ENVIRONMENT_PREFIX + name.partition("/")[0].removeprefix("--").replace("-", "_").upper()
    return typer.Option(name, *more, help=help, envvar=variable, **settings)


def given(name: str, help: str, *more: str, **settings: Any) -> Any:
    """An option that must be given with the command: what one change is about, which no variable may say for all."""
    return typer.Option(name, *more, help=help, **settings)


def group(help: str) -> typer.Typer:
    """A group of commands, such as `flagstaff profile`."""
    return typer.Typer(help=help, no_args_is_help=True, rich_markup_mode=None)


DatabaseUrl = Annotated[
    str,
    option(
        "--database-url",
        "Where flags are stored: sqlite:///PATH, relative or absolute, or postgresql+psycopg://USER:PASSWORD@HOST/NAME.",
    ),
]
Project = Annotated[str, option("--project", "The project.")]
EnvironmentName = Annotated[str, option("--environment", "The project's environment.")]
AsJson = Annotated[bool, option("--json", "Print JSON for machines; errors too, on standard error.")]
Lenient = Annotated[bool, option("--lenient", "Accept what flagd only warns about, and print the warnings.")]

DEFAULT_DATABASE_URL: Final = DATABASE_URL
DEFAULT_PROJECT: Final = PROJECT
DEFAULT_ENVIRONMENT: Final = ENVIRONMENT
