"""The commands `flagstaff event ...`: what happened, as tools are told of it."""

import sys
from typing import TYPE_CHECKING, Annotated, Final

import typer

from server.cli.options import given, group
from server.cli.output import print_json, print_table
from server.cli.remote import ABOUT_SERVERS, Place, Remote, remote_read

if TYPE_CHECKING:
    from protos.flagstaff.v1 import events_pb2

HELP: Final = f"""Read the feed of events: what happened in a project, in one order, as tools are told of it.

The same events are delivered to webhooks. {ABOUT_SERVERS}

\b
  flagstaff event list --type 'release.*' --limit 20
  flagstaff event watch --environment production --type flag.killed
  flagstaff event types
"""

LIST_HELP: Final = """List events, the newest first.

\b
  flagstaff event list --type flag.killed --type 'guard.*'
  flagstaff event list --environment production --json
"""

WATCH_HELP: Final = """Print events as they happen, until Ctrl-C.

\b
  flagstaff event watch                                    from now on
  flagstaff event watch --after 0 --json                   all there are, then new ones; a JSON line each
"""

TYPES_HELP: Final = """List the types of events, and when each is told; with a name, describe its data as a JSON Schema.

\b
  flagstaff event types
  flagstaff event types flag.targeting_changed
"""

_KEYS: Final = (
    *("release_id", "schedule_id", "plan_id", "change_request_id", "policy_id", "guard_id", "metric_key"),
    *("flag_key", "segment_key", "key", "name"),
)
"""Fields that say what an event is about, the most telling first."""

app = group(HELP)

Environment = Annotated[str, given("--environment", "Only of this environment.")]
Types = Annotated[list[str] | None, given("--type", "A type, or how types begin: flag.killed, release.*. Repeatable.")]


@app.command("list", help=LIST_HELP)
@remote_read(Place.PROJECT)
def list_events(
    server: Remote,
    *,
    limit: Annotated[int, given("--limit", "Print at most so many.", min=1)] = 50,
    environment: Environment = "",
    types: Types = None,
) -> None:
    """Read pages until there are enough."""
    from protos.flagstaff.v1 import events_pb2 as messages
    from protos.flagstaff.v1.events_pb2_grpc import EventServiceStub

    whole = messages.ListEventsResponse()
    request = messages.ListEventsRequest(project=server.project, environment=environment, types=types or ())
    while True:
        request.page_size = min(1_000, limit - len(whole.events))
        page = EventServiceStub(server.channel).ListEvents(request)
        whole.events.extend(page.events)
        whole.next_page_token = request.page_token = page.next_page_token
        if not page.next_page_token or len(whole.events) >= limit:
            break
    if server.prints(whole):
        return
    print_table(("event", "at", "who", "what", "where", "about"), [_row(each) for each in whole.events])
    more = "; there are more: see --limit" if whole.next_page_token else ""
    typer.echo(f"\n{len(whole.events)} {'event' if len(whole.events) == 1 else 'events'}{more}")


@app.command("watch", help=WATCH_HELP)
@remote_read(Place.PROJECT)
def watch(
    server: Remote,
    *,
    after: Annotated[int, given("--after", "Begin behind this event; 0: with the first one.", min=-1)] = -1,
    environment: Environment = "",
    types: Types = None,
) -> None:
    """Print each as it comes."""
    from protos.flagstaff.v1 import events_pb2 as messages
    from protos.flagstaff.v1.events_pb2_grpc import EventServiceStub
    from server.cli.documents import as_document

    request = messages.WatchEventsRequest(
        project=server.project, environment=environment, types=types or (), after_sequence=after
    )
    for news in EventServiceStub(server.channel).WatchEvents(request):
        if not news.HasField("event"):
            continue
        if server.as_json:
            print_json(as_document(news.event), indent=None)
        else:
            typer.echo("  ".join(_row(news.event)))
        sys.stdout.flush()


@app.command("types", help=TYPES_HELP)
@remote_read(Place.PROJECT)
def list_types(server: Remote, name: Annotated[str, typer.Argument(help="One of them.")] = "") -> None:
    """Print what this program knows, or one type's schema."""
    from protos.flagstaff.v1 import events_pb2 as messages
    from protos.flagstaff.v1.events_pb2_grpc import EventServiceStub
    from server.cli.documents import as_document
    from server.core.errors import NotFound

    reply = EventServiceStub(server.channel).ListEventTypes(messages.ListEventTypesRequest())
    if name:
        found = next((each for each in reply.types if each.name == name), None)
        if found is None:
            raise NotFound(f"no event is called {name!r}; `flagstaff event types` lists those that there are")
        print_json(as_document(found)["schema"])
    elif not server.prints(reply):
        print_table(("type", "is told when"), [(each.name, each.fires) for each in reply.types])


def _row(event: "events_pb2.Event") -> tuple[str, ...]:
    at = event.timestamp.ToDatetime().isoformat(sep=" ", timespec="seconds")
    who = f"{event.actor_type}:{event.actor_id}" if event.actor_id else event.actor_type
    return str(event.sequence), at, who, event.type, event.environment or "-", _about(event)


def _about(event: "events_pb2.Event") -> str:
    """What it is about, and why it happened."""
    data = event.data.fields
    key = next((data[name].string_value for name in _KEYS if name in data), "")
    return " ".join(part for part in (key, data["reason"].string_value if "reason" in data else "") if part)
