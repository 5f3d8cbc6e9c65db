"""Commands on streams: stream GROUP, drain, compact, replay-dead-letters, rebuild, publish."""

from __future__ import annotations

import signal
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from feature_store.cli.context import definitions_option, load, open_store, settings_of
from feature_store.cli.output import examples, hint, print_table, progress_bar
from feature_store.errors import UnknownFeatureError, did_you_mean
from feature_store.extras import needs_extra

if TYPE_CHECKING:
    from feature_store.definitions.group import FeatureGroup
    from feature_store.definitions.loading import LoadedDefinitions
    from feature_store.streaming.settings import StreamSettings


class _RunByDefault(click.Group):
    """`stream GROUP` is short for `stream run GROUP`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            args.insert(0, "run")
        return super().parse_args(ctx, args)


@click.group(cls=_RunByDefault)
def stream() -> None:
    """Compute features from Kafka as events come.

    `feature-store stream GROUP` is short for `feature-store stream run GROUP`. The broker is FEATURE_STORE_KAFKA.
    """


@stream.command(name="run", epilog=examples("feature-store stream plane_punctuality --metrics-port 9464"))
@click.argument("group")
@click.option("--batch-events", type=click.IntRange(1), default=5000, show_default=True, help="Micro-batch, at most.")
@click.option("--linger", type=click.FloatRange(0.001), default=0.1, show_default=True, help="Seconds until it closes.")
@click.option("--checkpoint", type=click.FloatRange(0.1), default=15, show_default=True, help="Seconds to a snapshot.")
@click.option("--metrics-port", type=click.IntRange(0, 65535), help="Serve Prometheus metrics at this port.")
@definitions_option
def run(
    group: str,
    *,
    batch_events: int,
    linger: float,
    checkpoint: float,
    metrics_port: int | None,
    definitions: str | None,
) -> None:
    """Stream a group until interrupted.

    Rows go online at once, and to the topic features.GROUP; `stream drain` carries them into the offline store. Start
    it as often as you like: the partitions of the topic are shared.
    """
    from dataclasses import replace

    settings = replace(_settings(), batch_events=batch_events, linger_seconds=linger, checkpoint_seconds=checkpoint)
    from feature_store.definitions.event_stream import stream_of
    from feature_store.streaming.metrics import StreamMetrics

    loaded = load(definitions)
    chosen = loaded.group(group)
    source = stream_of(chosen, loaded.streams.values())
    metrics = StreamMetrics(chosen.name)
    if metrics_port is not None:
        metrics.serve(metrics_port)
    with open_store(definitions) as store:
        streamer = store.streamer(chosen, source, settings, metrics)

        def stop(*_: Any) -> None:
            hint("Stopping after the micro-batch in work.")
            streamer.stop()

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, stop)
        hint(f"Streaming {chosen.name} from topic {source.topic}. Ctrl-C stops.")
        streamer.run()


@stream.command(epilog=examples("feature-store stream drain plane_punctuality", "feature-store stream drain --all"))
@click.argument("group", required=False)
@click.option("--all", "all_groups", is_flag=True, help="All groups that have a stream.")
@click.option("--every", type=click.FloatRange(0.1), metavar="SECONDS", help="Again and again, with this pause.")
@definitions_option
def drain(group: str | None, *, all_groups: bool, every: float | None, definitions: str | None) -> None:
    """Carry streamed rows into the offline store."""
    if (group is None) != all_groups:
        raise click.UsageError("Name one group, or pass --all.")
    settings = _settings()
    loaded = load(definitions)
    chosen = _streamed(loaded) if group is None else [loaded.group(group)]
    with open_store(definitions) as store:
        while True:
            reports = [(each.name, store.drainer(each, settings).drain()) for each in chosen]
            cells = [
                (name, report.rows, report.files, report.retracted, report.lag, f"{report.delay_seconds:.1f}")
                for name, report in reports
            ]
            print_table(["group", "rows", "files", "taken back", "lag", "delay s"], cells)
            if every is None:
                return
            time.sleep(every)


@stream.command(epilog=examples("feature-store stream compact plane_punctuality"))
@click.argument("group", required=False)
@click.option("--all", "all_groups", is_flag=True, help="All groups that have a stream.")
@click.option(
    "--grace", type=click.FloatRange(1), default=3600, show_default=True, help="Seconds that replaced files stay."
)
@definitions_option
def compact(group: str | None, *, all_groups: bool, grace: float, definitions: str | None) -> None:
    """Fold the small files of streams into one per day and partition; readers notice nothing."""
    if (group is None) != all_groups:
        raise click.UsageError("Name one group, or pass --all.")
    loaded = load(definitions)
    chosen = _streamed(loaded) if group is None else [loaded.group(group)]
    with open_store(definitions) as store:
        reports = [(each.name, store.stream_files(each).compact(grace_seconds=grace)) for each in chosen]
    cells = [(name, r.folded, r.files, r.rows, r.superseded, r.removed) for name, r in reports]
    print_table(["group", "folded", "into", "rows", "superseded rows", "old files removed"], cells)


@stream.command(name="replay-dead-letters", epilog=examples("feature-store stream replay-dead-letters orders_7d"))
@click.argument("group")
@definitions_option
def replay_dead_letters(group: str, *, definitions: str | None) -> None:
    """Send a group's dead letters through its transform again, each once; a streamer has to run."""
    settings = _settings()
    from feature_store.streaming.dead_letters import replay

    chosen = load(definitions).group(group)
    report = replay(settings, chosen.name)
    click.echo(f"{report.sent:,} dead letters sent again.")
    if report.cut:
        click.echo(
            f"{report.cut:,} hold the head of a large message alone: read it from where it came, and send it again."
        )
    if report.lost:
        click.echo(
            f"{report.lost:,} offsets had left the topic before they were sent: let it keep its messages longer."
        )


@stream.command(epilog=examples("feature-store stream rebuild plane_punctuality"))
@click.argument("group")
@definitions_option
def rebuild(group: str, *, definitions: str | None) -> None:
    """Begin a group's state anew, with the past of the source's files: after its topic has got more partitions.

    Stop all streamers of the group first. The next one goes on at what was read last.
    """
    settings = _settings()
    from feature_store.definitions.event_stream import stream_of

    loaded = load(definitions)
    chosen = loaded.group(group)
    with open_store(definitions) as store:
        store.streamer(chosen, stream_of(chosen, loaded.streams.values()), settings).rebuild()
    click.echo(f"The state of {chosen.name} begins anew: start its streamers again.")


@stream.command(epilog=examples("feature-store stream publish weather-observations.by-airport --rate 500"))
@click.argument("topic")
@click.option("--from", "first", type=click.DateTime(["%Y-%m-%d"]), help="First UTC day. Default: the source's start.")
@click.option("--to", "last", type=click.DateTime(["%Y-%m-%d"]), help="Last UTC day. Default: the last that landed.")
@click.option("--rate", type=click.FloatRange(0, min_open=True), help="Events per second. Default: full speed.")
@click.option("--partitions", type=click.IntRange(1), default=4, show_default=True, help="If the topic is created.")
@definitions_option
def publish(
    topic: str,
    *,
    first: datetime | None,
    last: datetime | None,
    rate: float | None,
    partitions: int,
    definitions: str | None,
) -> None:
    """Replay the landed events of a source through its topic, in order of time."""
    settings = _settings()
    from feature_store.day_windows import day_window
    from feature_store.partitions import Window
    from feature_store.streaming.publishing import publish_events
    from feature_store.streaming.topics import ensure_topics

    streams = load(definitions).streams
    if topic not in streams:
        raise UnknownFeatureError(f"No stream {topic!r} is defined. {did_you_mean(topic, streams)}")
    chosen = streams[topic]
    landed = list(chosen.source.landed_days())
    if not landed:
        raise click.ClickException(f"Nothing of source {chosen.source.name!r} has landed.")
    begin = first.date() if first else landed[0]
    end = last.date() if last else landed[-1]
    days = Window(day_window(begin).start, day_window(end).end)
    events = chosen.source.scan(days).collect()
    ensure_topics(settings.client, {topic: partitions})
    with progress_bar() as bar:
        task = bar.add_task(topic, total=events.height)
        sent = publish_events(settings, chosen, events, rate=rate, progress=lambda n: bar.advance(task, n))
    click.echo(f"{sent:,} events sent to {topic}.")


def _settings() -> StreamSettings:
    with needs_extra("stream", "A stream"):
        import confluent_kafka  # noqa: F401 - whether it is there
        import prometheus_client  # noqa: F401
    from feature_store.streaming.settings import StreamSettings

    return StreamSettings.of(settings_of())


def _streamed(loaded: LoadedDefinitions) -> list[FeatureGroup]:
    from feature_store.definitions.event_stream import streamed_groups

    names = streamed_groups(loaded.groups.values(), loaded.streams.values())
    return [loaded.groups[name] for name in names]
