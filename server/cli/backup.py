"""The commands `flagstaff backup` and `flagstaff restore`: all that a database holds, in one file."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer

from server.cli.files import STANDARD
from server.cli.import_ import actor_name
from server.cli.options import DEFAULT_DATABASE_URL, AsJson, DatabaseUrl, option
from server.cli.output import print_json, reports_failures

BACKUP_HELP: Final = """Write everything that the database holds, of one instant, to one file.

The database may be in use: servers go on, and commits that come meanwhile are not in the backup. The file is of no
database's kind: `flagstaff restore` brings SQLite or PostgreSQL to it. It says itself whether it is whole.

\b
  flagstaff backup shop.backup
  flagstaff backup - | ssh elsewhere 'cat > shop.backup'
"""

RESTORE_HELP: Final = """Bring the database to the content of a backup, whole or not at all.

The backup is read, migrated and verified first, its audit trail too; then the database is changed in one transaction.
Servers that run on it follow like after any commit. Revisions go on above every one that a client can have seen, so
that no client takes the restored flags for older ones.

\b
  flagstaff restore shop.backup                              into a new or empty database
  flagstaff restore shop.backup --replace                    what is there now is given up
"""


@reports_failures
def backup(
    file: Annotated[str, typer.Argument(metavar="FILE", help="Where to, or - for standard output.")],
    *,
    database_url: DatabaseUrl = DEFAULT_DATABASE_URL,
    as_json: AsJson = False,
) -> None:
    """Write the file and tell how much is in it."""
    from server.operations import backups, databases

    now = datetime.now(UTC)
    with databases.open_to_read(database_url) as engine:
        if file == STANDARD:
            count = backups.back_up_to(engine, sys.stdout.buffer, now=now)
        else:
            count = backups.back_up(engine, Path(file), now=now)
    if file == STANDARD:
        typer.echo(f"{count} rows", err=True)
    elif as_json:
        print_json({"file": file, "rows": count, "createdAt": now.isoformat()})
    else:
        typer.echo(f"{file}: {count} rows of {now.isoformat(timespec='seconds')}")


@reports_failures
def restore(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A file that `flagstaff backup` wrote.")],
    *,
    database_url: DatabaseUrl = DEFAULT_DATABASE_URL,
    replace: Annotated[bool, option("--replace", "Give up what the database holds now.")] = False,
    accept_broken_trail: Annotated[
        bool, option("--accept-broken-trail", "Restore although the audit trail in the backup does not verify.")
    ] = False,
    reason: Annotated[str, option("--reason", "Why, for the audit trail.")] = "",
    as_json: AsJson = False,
) -> None:
    """Restore and tell where each environment is now."""
    from server.operations import backups, databases

    with databases.open_to_write(database_url) as engine:
        restored = backups.restore_from(
            engine,
            Path(file),
            actor=actor_name(),
            now=datetime.now(UTC),
            reason=reason,
            replace=replace,
            accept_broken_trail=accept_broken_trail,
        )
    if as_json:
        print_json(
            {
                "createdAt": restored.created_at.isoformat(),
                "rows": restored.row_count,
                "revisions": dict(restored.revisions),
                "gone": list(restored.gone),
            }
        )
        return
    typer.echo(f"{restored.row_count} rows of {restored.created_at.isoformat(timespec='seconds')}")
    for name, revision in restored.revisions.items():
        typer.echo(f"{name} is at revision {revision}")
    for name in restored.gone:
        typer.echo(f"{name} is gone; the backup does not have it")
