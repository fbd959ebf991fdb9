"""Read instants that are given on the command line."""

from datetime import datetime

import typer


def read_instant(text: str, option: str) -> datetime:
    """An instant with its time zone. Errors: BadParameter, naming the option."""
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        instant = None
    if instant is None or instant.tzinfo is None:
        raise typer.BadParameter(f"{option} {text!r} is not an instant with its time zone, such as 2026-01-31T12:00Z")
    return instant
