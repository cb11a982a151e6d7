"""A journey of the whole platform: the clock, the chain, and what must not be taken by surprise."""

from datetime import UTC, datetime, timedelta

from apps.core import clock, doorbell, partitions, work
from apps.providers.services import price_snapshots_refresh
from apps.sandbox import clock as sandbox_clock


def platform_travel(*, to: datetime) -> datetime:
    """Move clock and chain to `to` and ring for what is due there; answers the instant reached.

    The partitions of the new months come first: a row that fell into a default partition would keep its month
    from ever getting one. Feeds are pushed by the chain's move, price snapshots follow them. Raises
    `SandboxError` for a step back.
    """
    target = to.astimezone(UTC)
    partitions.ensure(at=max(target, clock.now()))
    sandbox_clock.travel(to=target)
    bells_ring()
    price_snapshots_refresh()
    return clock.now()


def platform_travel_by(*, by: timedelta) -> datetime:
    """As `platform_travel`, from where the clock stands."""
    return platform_travel(to=clock.now() + by)


def bells_ring() -> None:
    """Ring for everything that is due, as the tick does, without waiting for the tick."""
    for name in work.due_names():
        doorbell.ring(name)
