"""The commands `flagstaff segment ...`: manage segments on a server."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from server.cli.files import read_file
from server.cli.options import given, group
from server.cli.output import print_table
from server.cli.remote import ABOUT_SERVERS, Remote, remote_read, remote_write
from server.core.counting import counted
from server.core.errors import InvalidRequest

if TYPE_CHECKING:
    from protos.flagstaff.v1 import segments_pb2

HELP: Final = f"""Create, show, change and delete segments, and their lists of keys.

A segment is a named condition, or a list of keys; rules refer to it. One with more than 10,000 keys is looked up by the
server only: flags that need it are not sent to in-process clients. {ABOUT_SERVERS}

\b
  flagstaff segment create beta --condition '{{"==": [{{"var": "plan"}}, "beta"]}}'
  flagstaff segment add-keys customers customers.txt
  flagstaff segment usage beta
"""

CREATE_HELP: Final = """Create a segment: of a condition, or of keys.

\b
  flagstaff segment create beta --condition '{"==": [{"var": "plan"}, "beta"]}'
  flagstaff segment create staff --key alice --key bob
  flagstaff segment create customers --attribute customerId
"""

LIST_HELP: Final = """List segments.

\b
  flagstaff segment list --text beta
"""

SHOW_HELP: Final = """Show one segment.

\b
  flagstaff segment show beta --json
"""

UPDATE_HELP: Final = """Set what is given of a segment.

\b
  flagstaff segment update beta --description "Those who volunteered"
  flagstaff segment update beta --condition '{"in": ["beta", {"var": "plans"}]}'
"""

DELETE_HELP: Final = """Delete a segment that nothing refers to.

\b
  flagstaff segment delete beta
"""

USAGE_HELP: Final = """Tell which flags and segments refer to a segment, directly or through others.

\b
  flagstaff segment usage beta
"""

ADD_HELP: Final = """Add the keys in a file, one a line, as one commit. Keys that are there already change nothing.

\b
  flagstaff segment add-keys customers customers.txt
  psql -Atc 'select id from customer' | flagstaff segment add-keys customers -
"""

REMOVE_HELP: Final = """Remove the keys in a file, one a line, as one commit. Keys that are not there change nothing.

\b
  flagstaff segment remove-keys customers gone.txt
"""

KEYS_HELP: Final = """Print the keys of a segment, one a line.

\b
  flagstaff segment keys customers > customers.txt
"""

FIND_HELP: Final = """Tell which of some keys are in a segment; exit code 1 when one is not.

\b
  flagstaff segment find customers alice bob
"""

PAGE_SIZE: Final = 1_000
KEYS_PAGE_SIZE: Final = 10_000
MESSAGE_CHARS_MAX: Final = 500_000
"""Of the keys in one message: well below 4 MiB, however they are written."""

app = group(HELP)

Key = Annotated[str, typer.Argument(metavar="SEGMENT", help="The segment's key.")]
File = Annotated[str, typer.Argument(metavar="FILE", help="A file of keys, one a line; - for standard input.")]
Description = Annotated[str | None, given("--description", "What it is.")]
Condition = Annotated[str | None, given("--condition", "JsonLogic, as JSON or YAML; @FILE reads a file.")]
Attribute = Annotated[str | None, given("--attribute", "The context attribute that is looked up; else targetingKey.")]


@app.command("create", help=CREATE_HELP)
@remote_write()
def create(
    server: Remote,
    key: Key,
    condition: Condition = None,
    keys: Annotated[list[str] | None, given("--key", "A key of the list. Repeatable.")] = None,
    attribute: Attribute = None,
    description: Description = None,
) -> None:
    """Create one."""
    from protos.flagstaff.v1 import segments_pb2 as messages

    if condition is not None and (keys or attribute):
        raise typer.BadParameter("a segment has a condition or keys, not both")
    segment = messages.Segment(key=key, description=description or "")
    if condition is None:
        segment.key_list.CopyFrom(messages.KeyList(keys=keys or (), attribute=attribute or ""))
    else:
        _set_condition(segment, condition)
    request = messages.CreateSegmentRequest(**_place(server), segment=segment, options=server.options())
    server.done(_stub(server).CreateSegment(request), f"segment {key} created")


@app.command("list", help=LIST_HELP)
@remote_read()
def list_segments(
    server: Remote, text: Annotated[str, given("--text", "Only keys that have this in them.")] = ""
) -> None:
    """List all pages."""
    from protos.flagstaff.v1 import segments_pb2 as messages

    found = messages.ListSegmentsResponse()
    request = messages.ListSegmentsRequest(**_place(server), text=text, page_size=PAGE_SIZE)
    while True:
        page = _stub(server).ListSegments(request)
        found.segments.extend(page.segments)
        found.total_size = page.total_size
        request.page_token = page.next_page_token
        if not page.next_page_token:
            break
    if not server.prints(found):
        rows = [[each.key, _members(each), str(each.version), each.description or "-"] for each in found.segments]
        print_table(("key", "members", "version", "description"), rows)
        typer.echo(f"\n{len(rows)} segment{'s' * (len(rows) != 1)} in {server.project}/{server.environment}")


@app.command("show", help=SHOW_HELP)
@remote_read()
def show(server: Remote, key: Key) -> None:
    """Show one."""
    from google.protobuf.json_format import MessageToJson

    from protos.flagstaff.v1 import segments_pb2 as messages

    reply = _stub(server).GetSegment(messages.GetSegmentRequest(**_place(server), key=key))
    if server.prints(reply):
        return
    segment = reply.segment
    typer.echo(f"key          {segment.key}")
    typer.echo(f"description  {segment.description or '-'}")
    typer.echo(f"version      {segment.version}")
    typer.echo(f"members      {_members(segment)}")
    if segment.HasField("condition"):
        typer.echo(MessageToJson(segment.condition, indent=2, ensure_ascii=False))
    elif segment.key_list.large:
        typer.echo(f"digest       {segment.key_list.digest}")
    for each in segment.key_list.keys:
        typer.echo(f"  {each}")


@app.command("update", help=UPDATE_HELP)
@remote_write()
def update(
    server: Remote,
    key: Key,
    condition: Condition = None,
    attribute: Attribute = None,
    description: Description = None,
) -> None:
    """Set what is given."""
    from protos.flagstaff.v1 import segments_pb2 as messages

    if condition is not None and attribute is not None:
        raise typer.BadParameter("a segment has a condition or keys, not both")
    segment = messages.Segment(key=key, description=description or "")
    chosen = ["description"] if description is not None else []
    if condition is not None:
        _set_condition(segment, condition)
        chosen.append("condition")
    if attribute is not None:
        segment.key_list.attribute = attribute
        chosen.append("key_list.attribute")
    if not chosen:
        raise typer.BadParameter("nothing is to be set; give --description, --condition or --attribute")
    request = messages.UpdateSegmentRequest(**_place(server), segment=segment, options=server.options())
    request.update_mask.paths.extend(chosen)
    server.done(_stub(server).UpdateSegment(request))


@app.command("delete", help=DELETE_HELP)
@remote_write()
def delete(server: Remote, key: Key) -> None:
    """Delete one."""
    from protos.flagstaff.v1 import segments_pb2 as messages

    request = messages.DeleteSegmentRequest(**_place(server), key=key, options=server.options())
    server.done(_stub(server).DeleteSegment(request), f"segment {key} deleted")


@app.command("usage", help=USAGE_HELP)
@remote_read()
def usage(server: Remote, key: Key) -> None:
    """Tell who refers to it."""
    from protos.flagstaff.v1 import segments_pb2 as messages

    reply = _stub(server).GetSegmentUsage(messages.GetSegmentUsageRequest(**_place(server), key=key))
    if not server.prints(reply):
        rows = [[use.kind, use.key, ", ".join(use.through) or "directly"] for use in reply.uses]
        print_table(("kind", "key", "through"), rows)
        typer.echo(f"\n{len(rows)} refer to segment {key}")


@app.command("add-keys", help=ADD_HELP)
@remote_write()
def add_keys(server: Remote, key: Key, file: File) -> None:
    """Send the file."""
    reply = _stub(server).AddSegmentKeys(_requests(server, key, file))
    server.done(reply, f"{counted(reply.changed, 'key')} added, segment {key} has {reply.count}")


@app.command("remove-keys", help=REMOVE_HELP)
@remote_write()
def remove_keys(server: Remote, key: Key, file: File) -> None:
    """Send the file."""
    reply = _stub(server).RemoveSegmentKeys(_requests(server, key, file))
    server.done(reply, f"{counted(reply.changed, 'key')} removed, segment {key} has {reply.count}")


@app.command("keys", help=KEYS_HELP)
@remote_read()
def keys(server: Remote, key: Key) -> None:
    """Print all pages; as JSON a page a line."""
    from protos.flagstaff.v1 import segments_pb2 as messages

    request = messages.ListSegmentKeysRequest(**_place(server), key=key, page_size=KEYS_PAGE_SIZE)
    while True:
        page = _stub(server).ListSegmentKeys(request)
        if not server.prints(page) and page.keys:
            typer.echo("\n".join(page.keys))
        request.page_token = page.next_page_token
        if not page.next_page_token:
            return


@app.command("find", help=FIND_HELP)
@remote_read()
def find(
    server: Remote, key: Key, keys: Annotated[list[str], typer.Argument(metavar="KEY...", help="What to look for.")]
) -> None:
    """Look some keys up."""
    from protos.flagstaff.v1 import segments_pb2 as messages

    reply = _stub(server).FindSegmentKeys(messages.FindSegmentKeysRequest(**_place(server), key=key, keys=keys))
    if not server.prints(reply):
        found = set(reply.found)
        print_table(("key", f"in {key}"), [[each, "yes" if each in found else "no"] for each in keys])
    if not set(keys) <= set(reply.found):
        raise typer.Exit(1)


def _requests(server: Remote, key: str, file: str) -> Iterator["segments_pb2.ChangeSegmentKeysRequest"]:
    # Read before the call begins: what is wrong with a file is said here.
    try:
        lines = read_file(file).decode().split("\n")
    except UnicodeDecodeError:
        raise InvalidRequest(f"{file} is not UTF-8") from None
    # A line's end belongs to no key, and an empty line is none.
    listed = [line for line in (line.removesuffix("\r") for line in lines) if line]
    return _messages(server, key, listed)


def _messages(server: Remote, key: str, listed: Sequence[str]) -> Iterator["segments_pb2.ChangeSegmentKeysRequest"]:
    from protos.flagstaff.v1 import segments_pb2 as messages

    request = messages.ChangeSegmentKeysRequest(**_place(server), key=key, options=server.options())
    for portion in _portions(listed):
        request.keys.extend(portion)
        yield request
        request = messages.ChangeSegmentKeysRequest()
    request.last = True
    yield request


def _portions(lines: Iterable[str]) -> Iterator[list[str]]:
    remaining = iter(lines)
    while portion := list(islice(remaining, KEYS_PAGE_SIZE)):
        # Very long keys are sent a few at a time.
        size = max(1, MESSAGE_CHARS_MAX // max(map(len, portion)))
        yield from (portion[start : start + size] for start in range(0, len(portion), size))


def _set_condition(segment: "segments_pb2.Segment", text: str) -> None:
    from google.protobuf.json_format import ParseDict

    from server.core.definitions.text import parse_text

    raw = read_file(text[1:]) if text.startswith("@") else text.encode()
    ParseDict(parse_text(raw, name="condition"), segment.condition)


def _members(segment: "segments_pb2.Segment") -> str:
    if segment.HasField("condition"):
        return "a condition"
    listed = segment.key_list
    by = f" by {listed.attribute}" if listed.attribute != "targetingKey" else ""
    return f"{counted(listed.count, 'key')}{by}{', large' if listed.large else ''}"


def _place(server: Remote) -> dict[str, Any]:
    return {"project": server.project, "environment": server.environment}


def _stub(server: Remote) -> Any:
    from protos.flagstaff.v1.segments_pb2_grpc import SegmentServiceStub

    return SegmentServiceStub(server.channel)
