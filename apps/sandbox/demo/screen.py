"""What the demo shows while it runs: a live table on a terminal, a line per few days anywhere else."""

import time
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from apps.sandbox.demo.room import Room, room_look
from apps.sandbox.demo.scenario import BERLIN, PlanSpec, Scenario

WIDTH = 100
_REFRESH_SECONDS = 0.25
_LINE_EVERY_DAYS = 5


def ether(units: int) -> str:
    """Wei as ether with eight places."""
    return f"{Decimal(units).scaleb(-18):.8f}"


class Screen:
    """Use as a context manager around the journey; `show()` may be called as often as one likes."""

    def __init__(self, *, console: Console, scenario: Scenario, plans: dict[UUID, PlanSpec]) -> None:
        self._console = console
        self._scenario = scenario
        self._plans = plans
        self._started = time.monotonic()
        self._shown_at = 0.0
        self._line_on: datetime | None = None
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        self.prices: dict[str, Decimal] = {}

    def __enter__(self) -> "Screen":
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        room = room_look()
        if self._live is not None:
            self._live.update(self._table(room), refresh=True)
            self._live.stop()
        else:
            self._line(room)

    def show(self) -> None:
        """Look and draw, but not more often than the eye follows."""
        now = time.monotonic()
        if now - self._shown_at < _REFRESH_SECONDS:
            return
        self._shown_at = now
        if self._live is not None:
            self._live.update(self._table(room_look()), refresh=True)
            return
        room = room_look()
        if self._line_on is None or (room.at - self._line_on).days >= _LINE_EVERY_DAYS:
            self._line_on = room.at.replace(hour=0, minute=0, second=0, microsecond=0)
            self._line(room)

    def _line(self, room: Room) -> None:
        at = room.at.astimezone(BERLIN)
        self._console.print(
            f"{at:%Y-%m-%d %H:%M} {at:%Z}".ljust(21)
            + f"  settled {room.settled:>3}  on chain {room.on_chain:>2}  skipped {room.skipped:>3}"
            f"  swaps {room.swaps:>3}  WBTC {self.prices.get('WBTC', Decimal(0)):>9,.2f}"
            f"  {time.monotonic() - self._started:>5.1f} s",
            highlight=False,
        )

    def _table(self, room: Room) -> Group:
        table = Table(width=WIDTH, box=None, header_style="bold underline", padding=(0, 2, 0, 0))
        for name, justify in (
            ("Plan", "left"), ("Next, Berlin", "left"), ("Opening", "right"), ("On chain", "right"),
            ("Settled", "right"), ("Skipped", "right"), ("Last outcome", "left"),
        ):  # fmt: skip
            table.add_column(name, justify=justify, no_wrap=True)  # type: ignore[arg-type]
        for plan_id, spec in self._plans.items():
            line = room.plans.get(plan_id)
            if line is None:
                continue
            runs = (
                f"{line.next_run_at.astimezone(BERLIN):%d %b %H:%M}" if line.state == "active" else line.state
            )
            good = line.last in {"", "filled"}
            table.add_row(
                f"{spec.owner}: {spec.name}",
                runs,
                _lit(line.waiting, "yellow"),
                _lit(line.on_chain, "cyan"),
                _lit(line.settled, "green"),
                _lit(line.skipped, "magenta"),
                Text(line.last, style="green" if good else "magenta"),
            )
        at = room.at.astimezone(BERLIN)
        done = (room.at - self._scenario.start) / (self._scenario.end - self._scenario.start)
        prices = "  ".join(f"{symbol} {price:,.2f}" for symbol, price in sorted(self.prices.items()))
        head = Text.assemble(
            (f"{at:%A %d %B %Y  %H:%M %Z (%z)}", "bold"),
            f"   {max(0.0, min(1.0, done)):>4.0%} of the way",
            f"   {time.monotonic() - self._started:.0f} s",
        )
        foot = Text(
            f"swaps on chain {room.swaps}   gas {ether(room.gas_units)} ETH   {prices} USD", style="dim"
        )
        return Group(head, Text(), table, Text(), foot)


def _lit(count: int, colour: str) -> Text:
    return Text(str(count) if count else "·", style=colour if count else "dim")
