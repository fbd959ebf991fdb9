"""Gather the commands of `flagstaff` and run the one that was asked for."""

import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from server.cli import (
    actions,
    audit,
    backup,
    change_requests,
    check,
    directory,
    environment,
    evaluate,
    events,
    export,
    flag,
    flags,
    guards,
    history,
    import_,
    launch_plans,
    metrics,
    migrate,
    profile,
    project,
    release,
    rollback,
    rules,
    schedules,
    segment,
    serve,
    simulate,
    token,
    triggers,
)
from server.cli.options import option
from server.cli.remote import Chosen

HELP = """Feature flags for OpenFeature: store them, check them, evaluate them, serve them over gRPC.

\b
A first look:
  flagstaff serve --demo                     serve a small shop's sample flags
  flagstaff flags                            what is there
  flagstaff evaluate new-checkout --targeting-key alice --explain

\b
Your own flags, written for Flagstaff or for flagd, JSON or YAML:
  flagstaff check flags.json                 is it sound? prints every problem with its path
  flagstaff import flags.json                store it; a running server follows within moments

\b
A running server, here or elsewhere:
  flagstaff flag list                        its flags, and where they are on
  flagstaff flag kill payments               off at once, whatever stands in the way
  flagstaff profile set default --server https://flags.example.com:8013

Options that say where, as whom and how can also be set by an environment variable, FLAGSTAFF_ and the option's name:
FLAGSTAFF_DATABASE_URL, FLAGSTAFF_SERVER, FLAGSTAFF_TOKEN, and so on.

Exit codes: 0 fine, 1 refused or answered with an error, 2 wrong usage, 3 the server or the database cannot be reached.
"""

app = typer.Typer(
    name="flagstaff",
    help=HELP,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
app.command("serve", help=serve.HELP)(serve.serve)
app.command("import", help=import_.HELP)(import_.import_file)
app.command("export", help=export.HELP)(export.export)
app.command("evaluate", help=evaluate.HELP)(evaluate.evaluate)
app.command("flags", help=flags.HELP)(flags.flags)
app.command("check", help=check.HELP)(check.check)
app.command("migrate", help=migrate.HELP)(migrate.migrate)
app.command("plan", help=directory.PLAN_HELP)(directory.plan)
app.command("apply", help=directory.APPLY_HELP)(directory.apply)
app.command("backup", help=backup.BACKUP_HELP)(backup.backup)
app.command("restore", help=backup.RESTORE_HELP)(backup.restore)
app.command("simulate", help=simulate.HELP)(simulate.simulate)
app.add_typer(actions.app, name="action")
app.add_typer(audit.app, name="audit")
app.add_typer(change_requests.app, name="change-request")
app.add_typer(events.app, name="event")
app.add_typer(flag.app, name="flag")
app.add_typer(guards.app, name="guard")
app.add_typer(history.app, name="history")
app.add_typer(launch_plans.app, name="launch")
app.add_typer(metrics.app, name="metric")
app.add_typer(profile.app, name="profile")
app.add_typer(project.app, name="project")
app.add_typer(environment.app, name="environment")
app.add_typer(release.app, name="release")
app.add_typer(rollback.app, name="rollback")
app.add_typer(rules.app, name="rule")
app.add_typer(schedules.app, name="schedule")
app.add_typer(segment.app, name="segment")
app.add_typer(token.app, name="token")
app.add_typer(triggers.app, name="trigger")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; ends the process."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that is not UTF-8 shows escapes where it has no letter, instead of ending the command.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    app(None if arguments is None else list(arguments), prog_name="flagstaff")


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version

        try:
            typer.echo(f"flagstaff {version('flagstaff')}")
        except PackageNotFoundError:
            typer.echo("flagstaff, from a checkout that is not installed")
        raise typer.Exit()


@app.callback()
def _start(
    context: typer.Context,
    profile: Annotated[
        str | None, option("--profile", "The server that commands talk to, by its name: see `flagstaff profile`.")
    ] = None,
    config: Annotated[
        Path | None, option("--config", "The file with profiles; else in your directory for configuration.")
    ] = None,
    _version: Annotated[
        bool, typer.Option("--version", help="Print the version and end.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    context.obj = Chosen(profile, config)
