"""The commands `flagstaff metric ...`: what is measured, and what was observed of it."""

import uuid
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from server.cli.options import given, group
from server.cli.output import print_table
from server.cli.remote import ABOUT_SERVERS, Place, Remote, remote_read, remote_write
from server.core.errors import InvalidRequest

if TYPE_CHECKING:
    from protos.flagstaff.v1 import metrics_pb2

HELP: Final = f"""Say what is measured, and look at what was observed.

Services send their observations by MetricService/Record; guards judge them. {ABOUT_SERVERS}

\b
  flagstaff metric create errors --kind ratio --better lower
  flagstaff metric record errors 0 0 1 --denominator 1 --denominator 1 --denominator 1 --flag checkout --variant on
  flagstaff metric sums errors
"""

CREATE_HELP: Final = """Begin to measure something.

\b
  flagstaff metric create latency --kind mean --better lower --unit ms
  flagstaff metric create orders --kind count
  flagstaff metric create errors --kind ratio --better lower       errors over requests
  flagstaff metric create bought --kind conversion                 0 or 1 for each who could
"""

LIST_HELP: Final = """List metrics.

\b
  flagstaff metric list
  flagstaff metric list --project shop --json
"""

SHOW_HELP: Final = """Show one metric.

\b
  flagstaff metric show latency
  flagstaff metric show latency --json
"""

UPDATE_HELP: Final = """Change what a metric says about itself. Its kind stays: it is what was observed.

\b
  flagstaff metric update latency --unit s
  flagstaff metric update latency --better lower --description "Of the checkout, at its server"
"""

DELETE_HELP: Final = """Delete a metric and all that was observed of it.

\b
  flagstaff metric delete latency
  flagstaff metric delete latency --dry-run
"""

RECORD_HELP: Final = """Record a few observations, as a service does many.

\b
  flagstaff metric record latency 12.5 31 --flag checkout --variant on
  flagstaff metric record errors 2 --denominator 100
"""

SUMS_HELP: Final = """Show what was observed, by hour, flag, variant and step; by default of the last 24 hours.

\b
  flagstaff metric sums latency
  flagstaff metric sums latency --flag checkout --variant on --json
"""

app = group(HELP)

Key = Annotated[str, typer.Argument(metavar="KEY", help="The metric's key.")]


class KindName(StrEnum):
    """The kinds, as an option's choices."""

    COUNT = "count"
    MEAN = "mean"
    RATIO = "ratio"
    CONVERSION = "conversion"


class BetterName(StrEnum):
    """The directions, as an option's choices."""

    HIGHER = "higher"
    LOWER = "lower"


@app.command("create", help=CREATE_HELP)
@remote_write(Place.PROJECT, versioned=False)
def create(
    server: Remote,
    key: Key,
    *,
    kind: Annotated[KindName, given("--kind", "What its value is made of.")],
    better: Annotated[BetterName, given("--better", "Which way it is better.")] = BetterName.HIGHER,
    unit: Annotated[str, given("--unit", "As people read it.")] = "",
    description: Annotated[str, given("--description", "What it is for.")] = "",
) -> None:
    """Make it."""
    from protos.flagstaff.v1 import metrics_pb2 as messages

    metric = messages.Metric(
        key=key,
        kind=messages.MetricKind.Value(f"METRIC_KIND_{kind.name}"),
        better=messages.Better.Value(f"BETTER_{better.name}"),
        unit=unit,
        description=description,
    )
    request = messages.CreateMetricRequest(project=server.project, metric=metric, options=server.options())
    server.done(_stub(server).CreateMetric(request), f"metric {key} is there")


@app.command("list", help=LIST_HELP)
@remote_read(Place.PROJECT)
def list_metrics(server: Remote) -> None:
    """Read as many pages as it takes and list them."""
    from protos.flagstaff.v1 import metrics_pb2 as messages

    whole = messages.ListMetricsResponse()
    request = messages.ListMetricsRequest(project=server.project, page_size=1_000)
    while True:
        page = _stub(server).ListMetrics(request)
        whole.metrics.extend(page.metrics)
        whole.total_size = page.total_size
        request.page_token = page.next_page_token
        if not page.next_page_token:
            break
    if not server.prints(whole):
        print_table(("key", "kind", "better", "unit", "description"), [_row(each) for each in whole.metrics])
        typer.echo(f"\n{len(whole.metrics)} metric{'s' * (len(whole.metrics) != 1)}")


@app.command("show", help=SHOW_HELP)
@remote_read(Place.PROJECT)
def show(server: Remote, key: Key) -> None:
    """Read one and print it."""
    from protos.flagstaff.v1 import metrics_pb2 as messages

    reply = _stub(server).GetMetric(messages.GetMetricRequest(project=server.project, key=key))
    if not server.prints(reply):
        key, kind, better, unit, description = _row(reply.metric)
        typer.echo(f"{key}: {kind}, {better} is better, in {unit}; version {reply.metric.version}\n{description}")


@app.command("update", help=UPDATE_HELP)
@remote_write(Place.PROJECT)
def update(
    server: Remote,
    key: Key,
    *,
    better: Annotated[BetterName | None, given("--better", "Which way it is better.")] = None,
    unit: Annotated[str | None, given("--unit", "As people read it.")] = None,
    description: Annotated[str | None, given("--description", "What it is for.")] = None,
) -> None:
    """Set what was given."""
    from protos.flagstaff.v1 import metrics_pb2 as messages

    request = messages.UpdateMetricRequest(project=server.project, options=server.options())
    request.metric.key = key
    if better is not None:
        request.metric.better = messages.Better.Value(f"BETTER_{better.name}")
    values = {"better": better, "unit": unit, "description": description}
    request.update_mask.paths.extend(name for name, value in values.items() if value is not None)
    request.metric.unit, request.metric.description = unit or "", description or ""
    server.done(_stub(server).UpdateMetric(request), f"metric {key} is changed")


@app.command("delete", help=DELETE_HELP)
@remote_write(Place.PROJECT)
def delete(server: Remote, key: Key) -> None:
    """Take it away."""
    from protos.flagstaff.v1 import metrics_pb2 as messages

    request = messages.DeleteMetricRequest(project=server.project, key=key, options=server.options())
    server.done(_stub(server).DeleteMetric(request), f"metric {key} is gone")


@app.command("record", help=RECORD_HELP)
@remote_read(Place.ENVIRONMENT)
def record(
    server: Remote,
    key: Key,
    values: Annotated[list[float], typer.Argument(metavar="VALUE...", help="What was observed.")],
    *,
    denominator: Annotated[list[float] | None, given("--denominator", "For ratios, one a value. Repeatable.")] = None,
    flag: Annotated[str, given("--flag", "Whose value those had who were observed.")] = "",
    variant: Annotated[str, given("--variant", "What they had of it.")] = "",
    step: Annotated[int, given("--step", "Of a release.", min=0)] = 0,
) -> None:
    """Send one batch, from a producer of its own."""
    from protos.flagstaff.v1 import metrics_pb2 as messages

    series = messages.ObservationSeries(
        metric=key, flag=flag, variant=variant, step=step, values=values, denominators=denominator or ()
    )
    request = messages.RecordRequest(
        project=server.project,
        environment=server.environment,
        producer=f"cli-{uuid.uuid4().hex}",
        sequence=1,
        series=[series],
    )
    (ack,) = _stub(server).Record(iter([request]))
    if ack.problems:
        told = "; ".join(f"{each.path}: {each.message}" if each.path else each.message for each in ack.problems)
        raise InvalidRequest(f"not taken: {told}")
    if not server.prints(ack):
        typer.echo(f"recorded {len(values)} observation{'s' * (len(values) != 1)} of {key}")


@app.command("sums", help=SUMS_HELP)
@remote_read(Place.ENVIRONMENT)
def sums(
    server: Remote,
    key: Key,
    *,
    flag: Annotated[str | None, given("--flag", "Only of this flag.")] = None,
    variant: Annotated[str | None, given("--variant", "Only of this variant.")] = None,
    step: Annotated[int | None, given("--step", "Only of this step.")] = None,
) -> None:
    """Read them and print a table."""
    from protos.flagstaff.v1 import metrics_pb2 as messages

    chosen: dict[str, Any] = {"flag": flag, "variant": variant, "step": step}
    request = messages.GetSumsRequest(
        project=server.project,
        environment=server.environment,
        metric=key,
        **{name: value for name, value in chosen.items() if value is not None},
    )
    reply = _stub(server).GetSums(request)
    if not server.prints(reply):
        print_table(("hour", "flag", "variant", "step", "count", "value"), [_sums_row(each) for each in reply.sums])


def _stub(server: Remote) -> Any:
    from protos.flagstaff.v1.metrics_pb2_grpc import MetricServiceStub

    return MetricServiceStub(server.channel)


def _row(metric: "metrics_pb2.Metric") -> list[str]:
    from protos.flagstaff.v1 import metrics_pb2 as messages
    from server.cli.documents import enum_name

    kind = enum_name(messages.MetricKind.DESCRIPTOR, metric.kind)
    better = enum_name(messages.Better.DESCRIPTOR, metric.better)
    return [metric.key, kind, better, metric.unit or "-", metric.description or "-"]


def _sums_row(each: "metrics_pb2.MetricSums") -> list[str]:
    value = f"{each.value:g}" if each.HasField("value") else "-"
    hour = f"{each.hour.ToDatetime():%Y-%m-%d %H:%M} UTC"
    return [hour, each.flag or "-", each.variant or "-", str(each.step), str(each.count), value]
