"""Let a command talk to a server: the options that all such commands share, and how they end.

A command is a function whose first parameter is the `Remote` it talks through; the decorators below give it the
options and take care of errors and exit codes:

    @app.command("get", help=GET_HELP)
    @remote_read()
    def get(server: Remote, key: Annotated[str, typer.Argument(metavar="KEY", help="The flag's key.")]) -> None:
        reply = FlagServiceStub(server.channel).GetFlag(...project=server.project, environment=server.environment...)
        if not server.prints(reply):
            typer.echo(...)

    @app.command("kill", help=KILL_HELP)
    @remote_write()
    def kill(server: Remote, key: ...) -> None:
        server.done(FlagServiceStub(server.channel).KillFlag(...options=server.options()...))
"""

import functools
import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn

import typer

from server.cli.channel import DEFAULT_SERVER, DEFAULT_TIMEOUT_S, Target, open_channel, read_address, read_token
from server.cli.files import read_file
from server.cli.options import DEFAULT_ENVIRONMENT, DEFAULT_PROJECT, AsJson, given, option
from server.cli.output import EXIT_REFUSED, EXIT_STORE, print_json, print_problems, reports_failures
from server.cli.profiles import NO_PROFILE, Profile, default_path, find_profile
from server.cli.refusals import Refusal, refusal_of
from server.core.errors import InvalidRequest

if TYPE_CHECKING:
    import grpc
    from google.protobuf.message import Message

    from protos.flagstaff.v1.common_pb2 import WriteOptions

ABOUT_SERVERS: Final = (
    "Where the server is, and the token for it, is said by --server and --token-file, by FLAGSTAFF_SERVER and "
    "FLAGSTAFF_TOKEN, or by a profile: see `flagstaff profile`."
)


class Place(StrEnum):
    """Which of --project and --environment a command has."""

    SERVER = "server"
    """Neither."""

    PROJECT = "project"
    ENVIRONMENT = "environment"
    """Both."""

    ANYWHERE = "anywhere"
    """Both; without --environment all environments are meant, and `Remote.environment` is empty."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """What was said before the command's name."""

    profile: str | None = None
    config: Path | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """How a change is asked for."""

    reason: str = ""
    cause: str = ""
    request_id: str = ""
    dry_run: bool = False
    expected_version: int = 0
    bypass_approval: bool = False


@dataclass(frozen=True, slots=True)
class Remote:
    """A server that a command talks to."""

    channel: "grpc.Channel"
    """Carries the token, and a deadline for each call with one answer. Errors of calls need not be caught."""

    address: str
    project: str
    environment: str
    as_json: bool
    asked: Asked

    def options(self, expected_version: int | None = None) -> "WriteOptions":
        """How a change is asked for, as every request for one has it."""
        from protos.flagstaff.v1 import common_pb2

        asked = self.asked
        return common_pb2.WriteOptions(
            request_id=asked.request_id,
            dry_run=asked.dry_run,
            reason=asked.reason,
            expected_version=asked.expected_version if expected_version is None else expected_version,
            bypass_approval=asked.bypass_approval,
            cause=asked.cause,
        )

    def prints(self, reply: "Message") -> bool:
        """Print a reply as JSON where that was asked for; False leaves it to the command."""
        if self.as_json:
            from server.cli.documents import as_document

            print_json(as_document(reply))
        return self.as_json

    def done(self, reply: Any, said: str = "") -> None:
        """Tell what became of a change, as the reply's `result` has it; `said` stands first when it was applied."""
        if not self.prints(reply):
            _print_result(reply.result, said)


def remote_read(place: Place = Place.ENVIRONMENT) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a command out of a function that asks a server something. Its `Remote` comes first."""
    return functools.partial(_command, more={**_CONNECTION, **_PLACES[place]}, place=place)


def remote_write(
    place: Place = Place.ENVIRONMENT, *, versioned: bool = True
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a command out of a function that has a server change something.

    Without `versioned` it has no --expected-version, since it changes nothing that has one.
    """
    more = {**_CONNECTION, **_PLACES[place], **_WRITE}
    if not versioned:
        del more["expected_version"]
    return functools.partial(_command, more=more, place=place)


def _command(
    function: Callable[..., None], *, more: Mapping[str, tuple[Any, Any]], place: Place
) -> Callable[..., None]:
    @reports_failures
    def command(context: typer.Context, **values: Any) -> None:
        shared = {name: values.pop(name) for name in more}
        as_json = values.pop("as_json")
        chosen = context.find_root().obj
        server = _connect(shared, chosen if isinstance(chosen, Chosen) else Chosen(), place, as_json=as_json)
        with server.channel:
            _run(function, server, values)

    own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
    if any(each.name in more for each in own):
        raise TypeError(f"{function.__name__} has an option of its own that all remote commands have")
    wanted = [*own, *_parameters({**more, "as_json": (AsJson, False)})]
    ordered = [each for each in wanted if each.default is each.empty] + [
        each for each in wanted if each.default is not each.empty
    ]
    context = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
    keyword = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in ordered]
    command.__name__, command.__doc__ = function.__name__, function.__doc__
    command.__signature__ = inspect.Signature([context, *keyword])  # type: ignore[attr-defined]  # Read by inspect.
    command.__annotations__ = {each.name: each.annotation for each in [context, *keyword]}
    # Else its own signature would be found behind the one above.
    del command.__wrapped__  # type: ignore[attr-defined]  # Set by functools.wraps.
    return command


def _parameters(described: Mapping[str, tuple[Any, Any]]) -> list[inspect.Parameter]:
    kind = inspect.Parameter.KEYWORD_ONLY
    return [
        inspect.Parameter(name, kind, annotation=annotation, default=default)
        for name, (annotation, default) in described.items()
    ]


def _run(function: Callable[..., None], server: Remote, values: Mapping[str, Any]) -> None:
    import grpc

    try:
        function(server, **values)
    except grpc.RpcError as error:
        _fail(refusal_of(error, address=server.address), as_json=server.as_json)


def _fail(refusal: Refusal, *, as_json: bool) -> NoReturn:
    """Say on standard error what was refused, and end."""
    if as_json:
        typer.echo(json.dumps({"error": refusal.described()}, ensure_ascii=False), err=True)
    elif refusal.problems:
        print_problems(refusal.problems)
        count = len(refusal.problems)
        typer.echo(f"{count} problem{'s' * (count != 1)}; nothing was changed", err=True)
    else:
        typer.echo(f"error: {refusal.message or refusal.code}", err=True)
        if refusal.retry_after_s is not None:
            typer.echo(f"try again in {refusal.retry_after_s:g} s", err=True)
    if refusal.hint and not as_json:
        typer.echo(f"hint: {refusal.hint}", err=True)
    raise typer.Exit(EXIT_STORE if refusal.is_unreached else EXIT_REFUSED)


def _connect(shared: Mapping[str, Any], chosen: Chosen, place: Place, *, as_json: bool) -> Remote:
    profile = _profile(shared, chosen)
    target = _target(shared, profile)
    if target.token and not target.tls and not target.is_here:
        typer.echo(f"warning: the token goes to {target.address} unencrypted; --tls encrypts it", err=True)
    return Remote(
        channel=open_channel(target),
        address=target.address,
        project=shared.get("project") or profile.project or DEFAULT_PROJECT,
        environment=_environment(shared, profile, place),
        as_json=as_json,
        asked=Asked(**{name: shared[name] for name in _WRITE if name in shared}),
    )


def _environment(shared: Mapping[str, Any], profile: Profile, place: Place) -> str:
    said: str = shared.get("environment") or ""
    return said if place is Place.ANYWHERE else said or profile.environment or DEFAULT_ENVIRONMENT


def _profile(shared: Mapping[str, Any], chosen: Chosen) -> Profile:
    name = shared["profile"] or chosen.profile
    if name is None and shared["server"]:
        # The profile `default` is another server's, and so is the token in it.
        return NO_PROFILE
    profile = find_profile(chosen.config or default_path(), name)
    if shared["server"] and profile.server and shared["server"] != profile.server:
        raise InvalidRequest(
            f"server {shared['server']} is given beside profile {name!r}, which is for {profile.server}; "
            "its token is for that one: leave out --server (or FLAGSTAFF_SERVER) or the profile"
        )
    return profile


def _target(shared: Mapping[str, Any], profile: Profile) -> Target:
    address, wants_tls = read_address(shared["server"] or profile.server or DEFAULT_SERVER)
    certificates = {name: shared[name] or getattr(profile, name) for name in ("tls_ca", "tls_client_cert")}
    key = shared["tls_client_key"] or profile.tls_client_key
    said = shared["tls"] if shared["tls"] is not None else profile.tls
    implied = wants_tls or any(certificates.values()) or bool(key)
    return Target(
        address=address,
        tls=implied if said is None else said,
        tls_ca=_path(certificates["tls_ca"]),
        client_certificate=_path(certificates["tls_client_cert"]),
        client_key=_path(key),
        token=_token(shared, profile),
        timeout_s=shared["timeout_s"],
    )


def _path(text: str | None) -> Path | None:
    return Path(text).expanduser() if text else None


def _token(shared: Mapping[str, Any], profile: Profile) -> str:
    """The token that is said first: by an option or variable, then by the profile."""
    for text, file in ((shared["token"], shared["token_file"]), (profile.token, profile.token_file)):
        if text and file:
            raise InvalidRequest(
                "a token (--token, FLAGSTAFF_TOKEN) and a file with one (--token-file, FLAGSTAFF_TOKEN_FILE) are "
                "given; leave one of them out"
            )
        if text:
            return read_token(text)
        if file:
            return read_token(read_file(file if file == "-" else str(_path(file))).decode("utf-8", "replace"))
    return ""


def _print_result(result: Any, said: str) -> None:
    from protos.flagstaff.v1 import common_pb2 as common

    for warning in result.warnings:
        typer.echo(f"warning: {warning}", err=True)
    match result.outcome:
        case common.OUTCOME_UNCHANGED:
            typer.echo("nothing to do: it is so already")
            return
        case common.OUTCOME_WOULD_APPLY:
            typer.echo("a dry run: nothing was changed; this would be:")
        case common.OUTCOME_REQUESTED:
            typer.echo(f"nothing was changed yet: change request {result.change_request} waits for approval")
        case _ if said:
            typer.echo(said)
    for change in result.changes:
        typer.echo(f"  {change}")
    would = "would be" if result.outcome == common.OUTCOME_WOULD_APPLY else "is"
    for environment in sorted(result.revisions):
        typer.echo(f"{environment} {would} at revision {result.revisions[environment]}")


_CONNECTION: Final[Mapping[str, tuple[Any, Any]]] = {
    "server": (
        Annotated[str | None, option("--server", f"HOST:PORT, or https://HOST:PORT; else {DEFAULT_SERVER}.")],
        None,
    ),
    "token": (
        Annotated[
            str | None,
            option(
                "--token",
                "Who you are. Other users of this machine can see it here: a variable, a file or a profile hides it.",
                show_envvar=True,
            ),
        ],
        None,
    ),
    "token_file": (
        Annotated[str | None, option("--token-file", "A file that holds the token; - for standard input.")],
        None,
    ),
    "tls": (Annotated[bool | None, option("--tls/--no-tls", "Encrypt the connection; else as --server says.")], None),
    "tls_ca": (
        Annotated[str | None, option("--tls-ca", "Who signs the server's certificate, PEM; means --tls.")],
        None,
    ),
    "tls_client_cert": (
        Annotated[str | None, option("--tls-client-cert", "A certificate to show to the server, PEM.")],
        None,
    ),
    "tls_client_key": (Annotated[str | None, option("--tls-client-key", "The certificate's key, PEM.")], None),
    "timeout_s": (
        Annotated[float, option("--timeout", "Seconds to wait for an answer.", min=0.001)],
        DEFAULT_TIMEOUT_S,
    ),
    "profile": (Annotated[str | None, option("--profile", "A server by its name: see `flagstaff profile`.")], None),
}
_PROJECT: Final = (Annotated[str | None, option("--project", f"The project; else `{DEFAULT_PROJECT}`.")], None)
_ENVIRONMENT: Final = (
    Annotated[str | None, option("--environment", f"The project's environment; else `{DEFAULT_ENVIRONMENT}`.")],
    None,
)
_ANYWHERE: Final = (Annotated[str | None, option("--environment", "Only this environment; else all of them.")], None)
_PLACES: Final[Mapping[Place, Mapping[str, tuple[Any, Any]]]] = {
    Place.SERVER: {},
    Place.PROJECT: {"project": _PROJECT},
    Place.ENVIRONMENT: {"project": _PROJECT, "environment": _ENVIRONMENT},
    Place.ANYWHERE: {"project": _PROJECT, "environment": _ANYWHERE},
}
_WRITE: Final[Mapping[str, tuple[Any, Any]]] = {
    "reason": (Annotated[str, option("--reason", "Why, for the audit trail.")], ""),
    "cause": (Annotated[str, option("--cause", "What it belongs to outside: a ticket, a pipeline's run.")], ""),
    "dry_run": (Annotated[bool, option("--dry-run", "Say what would happen, and change nothing.")], False),
    "request_id": (
        Annotated[str, given("--request-id", "A name for this change: sent again, it is not made again.")],
        "",
    ),
    "expected_version": (
        Annotated[int, given("--expected-version", "Refuse when it is at another version by now.", min=-1)],
        0,
    ),
    "bypass_approval": (
        Annotated[
            bool,
            given("--bypass-approval", "In an emergency: without the approvals that are asked for; needs --reason."),
        ],
        False,
    ),
}
