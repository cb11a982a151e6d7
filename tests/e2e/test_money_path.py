"""`make up` and other terminals: money comes in on chain, is spent by a plan, and leaves to a wallet outside."""

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from apps.sandbox.deploy import deployment_cached
from apps.sandbox.market import Market
from apps.sandbox.outside import OutsideWallet
from apps.sandbox.runtime.rpc import Rpc
from tests.sandbox.platform import Terminal

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

# One token each of 6, 8 and 18 decimals, and native coin; amounts whose last decimal counts.
DEPOSITS = {
    "USDC": "500.000001",
    "WBTC": "0.01000001",
    "LINK": "12.000000000000000001",
    "ETH": "1.500000000000000001",
}
DECIMALS = {"USDC": 6, "WBTC": 8, "LINK": 18, "ETH": 18}


class Ann:
    """A person with the API, and with a wallet of her own that has nothing yet."""

    def __init__(self, terminal: Terminal) -> None:
        self.terminal = terminal
        self.email = "ann@example.com"
        assert terminal.manage("accounts", "create-user", "--email", self.email).returncode == 0
        made = terminal.manage("accounts", "create-key", "--email", self.email, "--scopes", "all")
        urls = terminal.status()["urls"]
        self.database = urls["database"]
        self.rpc = Rpc(urls["rpc"])
        self.market = Market(self.rpc, deployment_cached()[1])
        self.wallet = OutsideWallet(self.market)
        self.http = httpx.Client(
            base_url=urls["api"] + "/api/v1/",
            headers={"Authorization": f"Bearer {made.stdout.strip()}"},
            timeout=30,
        )

    def get(self, path: str) -> Any:
        answer = self.http.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, body: dict[str, Any], *, status: int = 201) -> Any:
        answer = self.http.post(path, json=body, headers={"Idempotency-Key": str(uuid.uuid4())})
        assert answer.status_code == status, answer.text
        return answer.json()

    def available(self) -> dict[str, int]:
        rows = self.get("balances")["data"]
        assert all(row["held_units"] == "0" for row in rows), rows
        return {row["asset"]: int(row["available_units"]) for row in rows}

    def wait(self, look: Callable[[], Any], *, seconds: float = 60, mine: bool = True) -> Any:
        """What `look` finds; blocks come a little faster than by the clock."""
        deadline, pause = time.monotonic() + seconds, threading.Event()
        while not (found := look()):
            assert time.monotonic() < deadline, (self.get("deposits"), self.get("withdrawals"))
            if mine:
                self.rpc.call("evm_mine")
            pause.wait(0.3)
        return found


def units(code: str) -> int:
    return int(Decimal(DEPOSITS[code]).scaleb(DECIMALS[code]))


@pytest.fixture
def ann(tmp_path: Path) -> Iterator[Ann]:
    terminal = Terminal(tmp_path / "home")
    try:
        terminal.start()
        ann = Ann(terminal)
        yield ann
        ann.http.close()
    finally:
        terminal.end()


@pytest.mark.timeout(480)
def test_deposited_spent_and_withdrawn_and_both_sides_agree_to_the_last_unit(ann: Ann) -> None:
    # given deposits from wallets outside, one of them sent as `up` says
    address = ann.get("deposit-addresses")["data"][0]["address"]
    wanted = ("--email", ann.email, "--asset", "USDC", "--amount", DEPOSITS["USDC"])
    sent = ann.terminal.manage("sandbox", "deposit", *wanted)
    assert sent.returncode == 0, sent.stderr
    assert address in sent.stdout
    for code in DEPOSITS.keys() - {"USDC"}:
        payer = OutsideWallet(ann.market)
        payer.fill(symbol=code, units=units(code))
        payer.send(symbol=code, to=address, units=units(code))

    # then each is credited once, as it is seen there, and nothing by hand
    def credited() -> Any:
        rows = ann.get("deposits")["data"]
        return len(rows) == 4 and all(row["state"] == "credited" for row in rows) and rows

    rows = ann.wait(credited)
    assert {row["asset"]: int(row["credited_units"]) for row in rows} == {
        code: units(code) for code in DEPOSITS
    }
    assert ann.available() == {code: units(code) for code in DEPOSITS}

    # when a plan buys ether with it
    plan = {
        "name": "Ether, hourly",
        "market": "USDC/WETH",
        "amount": "100",
        "schedule": {"kind": "hourly", "time_zone": "UTC", "max_runs": 1},
    }
    plan_id = ann.post("plans", plan)["id"]

    def settled() -> Any:
        slots = ann.get(f"plans/{plan_id}/slots")["data"]
        return slots and slots[0]["closed_at"] and slots[0]

    slot = ann.wait(settled)
    assert (slot["state"], slot["reason"]) == ("settled", "filled")
    had = {**{code: units(code) for code in DEPOSITS}, "WETH": int(slot["received_units"])}
    had["USDC"] -= int(slot["amount_units"])
    assert ann.available() == had

    # and when all of it is withdrawn, a day after the destination was added
    destination = ann.post("withdrawal-destinations", {"address": ann.wallet.address, "label": "mine"})[
        "address"
    ]
    early = ann.post("withdrawals", {"asset": "USDC", "amount": "1", "destination": destination}, status=400)
    assert early["code"] == "destination_waiting"
    assert ann.terminal.manage("sandbox", "travel", "--days", "1", "--seconds", "1").returncode == 0
    for row in ann.get("balances")["data"]:
        body = {"asset": row["asset"], "amount": row["available"], "destination": destination}
        ann.post("withdrawals", body)

    def confirmed() -> Any:
        rows = ann.get("withdrawals")["data"]
        return all(row["state"] == "confirmed" for row in rows) and rows

    withdrawals = {row["asset"]: row for row in ann.wait(confirmed)}

    # then what she had is what arrived, the fee, and what of the quoted fee came back
    assert set(withdrawals) == set(had)
    left = ann.available()
    for code, row in withdrawals.items():
        assert ann.wallet.balance(symbol=code) == int(row["sent_units"]), code
        assert had[code] == int(row["sent_units"]) + int(row["fee_charged_units"]) + left[code], code

    # and the whole platform's books equal the chain, which stands still so that both are read at its head
    ann.rpc.call("evm_setIntervalMining", 0)
    since = max(row["closed_at"] for row in withdrawals.values())
    assert ann.wait(lambda: ann.terminal.manage("invariants").returncode == 0, mine=False)

    def proved() -> Any:
        rows = ann.get("platform/reserves")["data"]
        return all(row["checked_at"] > since and row["verdict"] == "matched" for row in rows) and rows

    assert {(row["asset"], row["difference"]) for row in ann.wait(proved, mine=False)} == {
        (code, "0") for code in had
    }
    with psycopg.connect(ann.database) as connection:
        by_hand = connection.execute(
            "SELECT count(*) FROM ledger_journal WHERE kind = 'credit_by_hand'"
        ).fetchone()
    assert by_hand == (0,)
