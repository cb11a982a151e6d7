"""The faucet pays once per reference, wherever it is killed, and whoever runs it next finishes what was left."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import pytest
from django.conf import settings
from django.db import connection

from apps.accounts.models import User
from apps.accounts.services import user_create
from apps.chain import services as chain
from apps.chain.models import Wallet
from apps.ledger.domain import AccountKind
from apps.ledger.errors import ReferenceReused
from apps.ledger.models import Account
from apps.sandbox.faucet import person_fund
from apps.sandbox.market import Market
from apps.sandbox.runtime.anvil import Anvil
from apps.sandbox.runtime.deployment import Deployment
from apps.sandbox.runtime.status import SandboxStatus
from tests.providers.support import House, house_open

AMOUNTS = {"USDC": "12.5", "WETH": "0.5", "ETH": "0.25"}
SCRIPT = """
import sys, json
from pathlib import Path
import django
django.setup()
from apps.sandbox.faucet import person_fund
from apps.sandbox.runtime.deployment import Deployment
from apps.sandbox.runtime.status import SandboxStatus
given = json.loads(sys.argv[1])
status = SandboxStatus(directory=Path(given["directory"]), running=True, urls={"rpc": given["rpc"]},
                       deployment=Deployment.from_dict(given["deployment"]))
person_fund(status=status, email="ann@example.org", asset_code=given["asset"], amount=given["amount"],
            reference=given["reference"])
"""


@dataclass(frozen=True)
class Desk:
    """What a test holds: a wallet that is empty on chain and in the books, a person, a chain mined by hand."""

    house: House
    wallet: Wallet
    person: User
    status: SandboxStatus

    def fund(self, asset: str, amount: str, reference: str | None) -> bool:
        """In this process; whether it had been done before."""
        return person_fund(
            status=self.status, email=self.person.email, asset_code=asset, amount=amount, reference=reference
        ).repeated

    def fund_in_a_process(self, asset: str, amount: str, reference: str | None, *, failpoint: str) -> int:
        """In a process of its own that dies at `failpoint`; its exit status."""
        given = {
            "directory": str(self.status.directory),
            "rpc": self.house.node.url,
            "deployment": self.house.deployment.as_dict(),
            "asset": asset,
            "amount": amount,
            "reference": reference,
        }
        environment = {
            **os.environ,
            "DATABASE_URL": "postgresql://{USER}:{PASSWORD}@{HOST}:{PORT}/{NAME}".format(
                **connection.settings_dict
            ),
            "SANDBOX_DIR": str(self.status.directory),
            "DJANGO_SETTINGS_MODULE": "config.settings.test",
            "FAILPOINTS": f"{failpoint}=kill@1",
        }
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, json.dumps(given)],
            cwd=settings.BASE_DIR, env=environment, timeout=60, check=False, capture_output=True, text=True,
        )  # fmt: skip
        return done.returncode

    def on_chain(self, asset: str) -> int:
        if asset == "ETH":
            return int(self.house.node.rpc.call("eth_getBalance", self.wallet.address, "latest"), 16)
        return Market(self.house.node.rpc, self.house.deployment).balance(
            symbol=asset, of=self.wallet.address
        )

    def in_the_books(self, asset: str) -> int:
        rows = Account.objects.filter(kind=AccountKind.AVAILABLE, asset=self.house.assets[asset])
        return sum(int(row.balance_units) for row in rows.filter(owner_id=self.person.pk))

    def units(self, asset: str, times: int = 1) -> tuple[int, int]:
        """What chain and books hold after `times` payments of the asset's amount."""
        units = times * int(Decimal(AMOUNTS[asset]) * 10 ** self.house.assets[asset].decimals)
        return units, units


@pytest.fixture
def desk(transactional_db: None, chain_node: Anvil, deployment: Deployment, tmp_path: Path) -> Desk:
    house = house_open(chain_node, deployment)
    chain_node.mining_manual()
    status = SandboxStatus(
        directory=tmp_path, running=True, urls={"rpc": chain_node.url}, deployment=deployment
    )
    return Desk(house, chain.wallet_create(role="swap"), user_create(email="ann@example.org"), status)


@pytest.mark.parametrize("asset", AMOUNTS)
def test_paid_once_per_reference(desk: Desk, asset: str) -> None:
    assert [desk.fund(asset, AMOUNTS[asset], "first") for _ in range(3)] == [False, True, True]
    assert (desk.on_chain(asset), desk.in_the_books(asset)) == desk.units(asset)
    assert desk.fund(asset, AMOUNTS[asset], "second") is False
    assert (desk.on_chain(asset), desk.in_the_books(asset)) == desk.units(asset, times=2)


PLACES = [
    "sandbox.faucet.before_till",
    "sandbox.faucet.after_till",
    "sandbox.faucet.sent",
    "sandbox.faucet.after_mint",
    "treasury.credit.before_commit",
    "sandbox.faucet.after_credit",
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("asset", "place"),
    [
        *(("USDC", place) for place in PLACES),
        *((asset, place) for asset in ("WETH", "ETH") for place in PLACES[1:3]),
    ],
)
def test_killed_there_and_repeated_it_is_paid_once(desk: Desk, asset: str, place: str) -> None:
    assert desk.fund_in_a_process(asset, AMOUNTS[asset], "first", failpoint=place) == -9
    desk.fund(asset, AMOUNTS[asset], "first")
    assert (desk.on_chain(asset), desk.in_the_books(asset)) == desk.units(asset)
    assert desk.fund(asset, AMOUNTS[asset], "first") is True
    assert (desk.on_chain(asset), desk.in_the_books(asset)) == desk.units(asset)


def test_a_refused_payment_mints_nothing_and_is_not_tried_again(desk: Desk) -> None:
    desk.fund("USDC", "12.5", "first")
    with pytest.raises(ReferenceReused):
        desk.fund("USDC", "7", "first")
    assert desk.fund("WETH", AMOUNTS["WETH"], "second") is False
    assert (desk.on_chain("USDC"), desk.in_the_books("USDC")) == desk.units("USDC")


@pytest.mark.slow
def test_who_gave_no_reference_is_paid_by_whoever_comes_next(desk: Desk) -> None:
    # given a payment without a reference that died with the tokens on chain and nothing in the books
    assert desk.fund_in_a_process("USDC", "12.5", None, failpoint="sandbox.faucet.after_mint") == -9
    assert (desk.on_chain("USDC"), desk.in_the_books("USDC")) == (12_500_000, 0)
    # when anybody is paid anything
    desk.fund("WETH", AMOUNTS["WETH"], "other")
    # then both are whole
    assert (desk.on_chain("USDC"), desk.in_the_books("USDC")) == desk.units("USDC")
    assert (desk.on_chain("WETH"), desk.in_the_books("WETH")) == desk.units("WETH")
