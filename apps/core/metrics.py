"""Gauges that are read from the database when somebody scrapes: what stands there is the truth, whoever wrote it.

An app registers a function per gauge; `apps.operations` hands them all to Prometheus. A gauge should cost one small
query.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

Sample = tuple[tuple[str, ...], float]


@dataclass(frozen=True, slots=True)
class Gauge:
    """`read` gives (label values, value) pairs."""

    name: str
    help: str
    labels: tuple[str, ...]
    read: Callable[[], Iterable[Sample]]


_gauges: dict[str, Gauge] = {}


def gauge(
    name: str, help_text: str, *, labels: tuple[str, ...] = ()
) -> Callable[[Callable[[], Iterable[Sample]]], Callable[[], Iterable[Sample]]]:
    """Register a function as the gauge `name`."""

    def register(read: Callable[[], Iterable[Sample]]) -> Callable[[], Iterable[Sample]]:
        _gauges[name] = Gauge(name, help_text, labels, read)
        return read

    return register


def gauges() -> list[Gauge]:
    return [_gauges[name] for name in sorted(_gauges)]
