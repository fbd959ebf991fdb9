"""The commands `flagstaff profile ...`: name servers, to speak of them by name."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from server.cli.channel import DEFAULT_SERVER, read_address, read_token
from server.cli.files import STANDARD, read_file
from server.cli.options import AsJson, given, group
from server.cli.output import print_json, print_table, reports_failures
from server.cli.profiles import Profile, check_name, default_path, read_profiles, write_profiles
from server.cli.remote import Chosen
from server.core.errors import InvalidRequest, NotFound

HELP: Final = """Name servers, to speak of them by name.

A profile has a server's address, the token for it, and what else is needed to reach it. `--profile NAME` or
FLAGSTAFF_PROFILE chooses one; without a name the profile called `default` counts, if there is one. They are kept in
a TOML file that only you can read; `--config` or FLAGSTAFF_CONFIG names another file.

\b
  flagstaff profile set production --server https://flags.example.com:8013 --token-file -
  flagstaff --profile production flag list
"""

LIST_HELP: Final = """List the profiles, without their tokens.

\b
  flagstaff profile list
  flagstaff profile list --json
"""

SET_HELP: Final = """Add a profile, or change what is given of one.

The token is kept in the file of profiles, or only the name of a file that holds it. An empty value takes a field away.

\b
  flagstaff profile set default --server localhost:8013 --project shop
  flagstaff profile set production --server https://flags.example.com:8013 --token-file -     reads the token
  flagstaff profile set production --token-path ~/.flagstaff-token                            reads it when it is used
  flagstaff profile set production --tls-ca ca.pem --tls-client-cert me.pem --tls-client-key me.key
"""

REMOVE_HELP: Final = """Remove profiles, and the tokens in them.

\b
  flagstaff profile remove production
  flagstaff profile remove staging canary
"""

app = group(HELP)

Text = str | None
"""None leaves a field as it is, "" takes it away."""


@app.command("list", help=LIST_HELP)
@reports_failures
def list_profiles(context: typer.Context, *, as_json: AsJson = False) -> None:
    """Read the file and list it."""
    path = _path(context)
    described = [_described(name, profile) for name, profile in sorted(read_profiles(path).items())]
    if as_json:
        print_json({"file": str(path), "profiles": described})
        return
    columns = ("name", "server", "token", "project", "environment")
    print_table(columns, [[str(row.get(column) or "-") for column in columns] for row in described])
    typer.echo(f"\n{len(described)} profile{'s' * (len(described) != 1)} in {path}")


@app.command("set", help=SET_HELP)
@reports_failures
def set_profile(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The profile's name.")],
    *,
    server: Annotated[Text, given("--server", f"HOST:PORT, or https://HOST:PORT; else {DEFAULT_SERVER}.")] = None,
    token_file: Annotated[
        Text, given("--token-file", "Keep the token that this file holds; - reads it from standard input.")
    ] = None,
    token_path: Annotated[Text, given("--token-path", "Keep only this name of a file that holds the token.")] = None,
    tls: Annotated[bool | None, given("--tls/--no-tls", "Encrypt the connection; else as --server says.")] = None,
    tls_ca: Annotated[Text, given("--tls-ca", "Who signs the server's certificate, PEM.")] = None,
    tls_client_cert: Annotated[Text, given("--tls-client-cert", "A certificate to show to the server, PEM.")] = None,
    tls_client_key: Annotated[Text, given("--tls-client-key", "The certificate's key, PEM.")] = None,
    project: Annotated[Text, given("--project", "The project where a command names none.")] = None,
    environment: Annotated[Text, given("--environment", "The environment where a command names none.")] = None,
) -> None:
    """Change one profile and write the file."""
    check_name(name)
    path = _path(context)
    profiles = read_profiles(path)
    if server:
        read_address(server)
    files = {
        field: _absolute(text)
        for field, text in (
            ("tls_ca", tls_ca),
            ("tls_client_cert", tls_client_cert),
            ("tls_client_key", tls_client_key),
        )
    }
    changes: dict[str, Any] = {
        "server": server,
        **_token(token_file, token_path),
        "tls": tls,
        **files,
        "project": project,
        "environment": environment,
    }
    said = {field: None if value == "" else value for field, value in changes.items() if value is not None}
    verb = "changed" if name in profiles else "added"
    profiles[name] = replace(profiles.get(name, Profile()), **said)
    write_profiles(path, profiles)
    typer.echo(f"profile {name} {verb} in {path}")


@app.command("remove", help=REMOVE_HELP)
@reports_failures
def remove_profiles(
    context: typer.Context, names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Their names.")]
) -> None:
    """Take profiles out of the file."""
    path = _path(context)
    profiles = read_profiles(path)
    for name in names:
        if profiles.pop(name, None) is None:
            known = ", ".join(sorted(profiles)) or "none"
            raise NotFound(f"profile {name!r} is not in {path}; there is: {known}")
    write_profiles(path, profiles)
    typer.echo(f"removed {', '.join(names)} from {path}")


def _path(context: typer.Context) -> Path:
    chosen = context.find_root().obj
    return (chosen.config if isinstance(chosen, Chosen) else None) or default_path()


def _token(file: Text, path: Text) -> dict[str, Text]:
    """The fields of a profile that say its token; one of them takes the other away."""
    if file is not None and path is not None:
        raise InvalidRequest("--token-file keeps the token and --token-path the file's name; give one of them")
    if file is not None:
        token = "" if file == "" else read_token(read_file(file).decode("utf-8", "replace"))
        return {"token": token, "token_file": ""}
    if path is not None:
        return {"token": "", "token_file": _absolute(path)}
    return {}


def _absolute(text: Text) -> Text:
    # A profile is used from any directory.
    return text if not text or text == STANDARD else str(Path(text).expanduser().absolute())


def _described(name: str, profile: Profile) -> dict[str, Any]:
    """A profile as it is shown: that there is a token, never which."""
    token = "kept here" if profile.token else profile.token_file
    return {
        "name": name,
        "server": profile.server or DEFAULT_SERVER,
        "token": token,
        "tls": profile.tls,
        "tlsCa": profile.tls_ca,
        "tlsClientCert": profile.tls_client_cert,
        "tlsClientKey": profile.tls_client_key,
        "project": profile.project,
        "environment": profile.environment,
    }
