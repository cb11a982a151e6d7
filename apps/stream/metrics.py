"""Open live streams for Prometheus, over all processes."""

from collections.abc import Iterable

from apps.core.metrics import Sample, gauge
from apps.stream.selectors import streams_count


@gauge("tranche_streams_open", "Live streams that are open, in all processes that live")
def streams_open() -> Iterable[Sample]:
    return [((), streams_count()[0])]


@gauge("tranche_stream_processes", "Processes that serve live streams")
def stream_processes() -> Iterable[Sample]:
    return [((), streams_count()[1])]
