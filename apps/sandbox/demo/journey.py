"""Through two months, from one due instant to the next, no faster than the platform opens and sends."""

import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal

from apps.core import doorbell
from apps.sandbox.demo.room import read_look, trouble_look, unfinished_look
from apps.sandbox.demo.scenario import BERLIN, Scenario
from apps.sandbox.market import Market
from apps.sandbox.runtime.errors import SandboxError
from apps.sandbox.travel import bells_ring, platform_travel, platform_travel_by

_STEP_SECONDS = 180.0
_END_SECONDS = 240.0
_LOOK_SECONDS = 0.03
# A node in a hurry: whoever waits for a block asks for it, at most this often.
_MINE_SECONDS = 0.25


class Journey:
    """Moves time, prices and blocks. `show` is called while it waits."""

    def __init__(self, *, scenario: Scenario, market: Market, show: Callable[[], None]) -> None:
        self._scenario = scenario
        self._market = market
        self._show = show
        self._pause = threading.Event()
        self._prices: dict[str, Decimal] = {}
        self.steps = 0

    @property
    def prices(self) -> dict[str, Decimal]:
        """The dollar prices that were pushed last."""
        return self._prices

    def depart(self) -> None:
        """To the story's first second, with the market at its first prices."""
        platform_travel(to=self._scenario.start)
        self._move_market(self._scenario.start)

    def travel_through(self) -> None:
        """Visit every instant at which a plan is due, then the end, and wait until everything is final."""
        for instant in self._scenario.instants:
            self._step(instant)
        self._arrive()

    def travel_by(self, by: timedelta) -> None:
        """Let time pass in which nothing is due."""
        platform_travel_by(by=by)

    def wait(
        self, done: Callable[[], bool], *, what: str, bells: Sequence[str] = (), mine: bool = True
    ) -> None:
        """Mine and ring until `done`; `bells` besides those of work that is due."""
        deadline = time.monotonic() + _END_SECONDS
        while not done():
            if time.monotonic() > deadline:
                raise SandboxError("\n".join([f"{what}: not after {_END_SECONDS:.0f} s", *trouble_look()]))
            if mine:
                self._mine()
            bells_ring()
            for name in bells:
                doorbell.ring(name)
            self._pause.wait(_MINE_SECONDS)

    def rest(self) -> None:
        """Let the chain stand still, and wait until the platform has read all of it."""
        rpc = self._market.chain.rpc
        rpc.call("evm_setIntervalMining", 0)
        head = int(rpc.call("eth_blockNumber"), 16)
        self.wait(lambda: read_look() >= head, what=f"block {head} being read", mine=False)

    def _step(self, instant: datetime) -> None:
        self._move_market(instant)
        platform_travel(to=instant)
        self.steps += 1
        self._wait_until_sent()

    def _wait_until_sent(self) -> None:
        """Until every due slot is open, priced and broadcast; then one block takes what was broadcast.

        Settlement needs the confirmations of later blocks and goes on while time moves.
        """
        deadline, mined_at, rung_at = time.monotonic() + _STEP_SECONDS, 0.0, time.monotonic()
        while (left := unfinished_look()).holds_time:
            now = time.monotonic()
            if now > deadline:
                raise SandboxError("\n".join([f"nothing moves any more: {left}", *trouble_look()]))
            # An approval must be confirmed before its swap can be sent.
            if left.pricing and not left.unsent and now - mined_at > _MINE_SECONDS:
                self._mine()
                mined_at = now
            if now - rung_at > 1:
                bells_ring()
                rung_at = now
            self._show()
            self._pause.wait(_LOOK_SECONDS)
        if left.unmined:
            self._mine()
        self._show()

    def _arrive(self) -> None:
        platform_travel(to=self._scenario.end + timedelta(seconds=1))
        deadline = time.monotonic() + _END_SECONDS
        while (left := unfinished_look()).anything:
            if time.monotonic() > deadline:
                raise SandboxError("\n".join([f"not everything became final: {left}", *trouble_look()]))
            self._mine()
            bells_ring()
            if not left.unclosed:
                doorbell.ring("treasury.gas")
            self._show()
            self._pause.wait(_MINE_SECONDS)
        self._show()

    def _move_market(self, instant: datetime) -> None:
        """Feeds and pools to the day's prices: bitcoin every day, ether every fourth."""
        wanted = self._scenario.prices_at(instant)
        day = instant.astimezone(BERLIN).toordinal()
        for symbol in ("WETH", "WBTC") if day % 4 == 0 or not self._prices else ("WBTC",):
            if self._prices.get(symbol) != wanted[symbol]:
                self._market.move_asset(symbol=symbol, price=wanted[symbol])
                self._prices[symbol] = wanted[symbol]

    def _mine(self) -> None:
        self._market.chain.rpc.call("evm_mine")
