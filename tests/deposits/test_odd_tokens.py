"""Every odd token ends credited right, or refused with a clear state; never credited wrong."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from apps.accounts.models import User
from apps.chain import abi
from apps.chain.models import Token
from apps.deposits.models import Deposit, Holding
from apps.sandbox.runtime.compiler import Artifact, contracts_compile
from tests.deposits.shore import Shore

ETHER = 10**18
SOURCES = [Path(__file__).parent.parent / "support" / "contracts" / "OddTokens.sol"]


@pytest.fixture(scope="session")
def odd() -> dict[str, Artifact]:
    return contracts_compile(SOURCES)


Deploy = Callable[..., str]


@pytest.fixture
def deploy(shore: Shore, odd: dict[str, Artifact]) -> Deploy:
    """A fresh contract, with plenty of its coins in the hands of the sender."""

    def make(name: str, *arguments: Any) -> str:
        address = shore.contracts.deploy(odd[name], *arguments)
        shore.contracts.write(address, "mint(address,uint256)", shore.contracts.sender, 10**30)
        return address

    return make


def send(shore: Shore, token: str, to: str, units: int) -> None:
    shore.contracts.write(token, "transfer(address,uint256)", to, units)


def one_block(shore: Shore, *calls: tuple[str, str]) -> None:
    """These (contract, data), each a transaction, in one block."""
    shore.node.mining_manual()
    for contract, data in calls:
        call = {"from": shore.contracts.sender, "to": contract, "data": data, "gas": "0x186a0"}
        shore.node.rpc.call("eth_sendTransaction", call)
    shore.node.mine()
    shore.node.mining_automatic()


def outcome(shore: Shore, person: User, token: Token) -> list[tuple[str, str, int]]:
    """State, reason and credit of each deposit; books, holdings and person agree, and never exceed the chain."""
    rows = Deposit.objects.filter(asset=token.asset).order_by("block_number", "position", "pk")
    credited = sum(row.credited_units for row in rows)
    assert shore.balance(person, token.asset) == credited == shore.custody(token.asset)
    assert credited == sum(int(one.units) for one in Holding.objects.filter(asset=token.asset))
    return [(row.state, row.reason, row.credited_units) for row in rows]


@pytest.mark.parametrize(
    ("name", "arguments", "units"),
    [
        ("NoReturn", (), 25_000_000),
        ("Plain", (0,), 3),
        ("Plain", (24,), 123_456_789 * 10**20 + 1),
    ],
    ids=["returns nothing", "0 decimals", "24 decimals"],
)
def test_harmless_ones_are_credited(
    shore: Shore, deploy: Deploy, name: str, arguments: tuple[int, ...], units: int
) -> None:
    ann = shore.person()
    contract = deploy(name, *arguments)
    token = shore.allow("ODD", contract)
    assert token.asset.decimals == (arguments[0] if arguments else 6)
    send(shore, contract, shore.address(ann), units)

    shore.land()

    assert outcome(shore, ann, token) == [("credited", "", units)]
    assert shore.on_chain(ann, contract) == units


def test_a_fee_on_transfer_is_refused(shore: Shore, deploy: Deploy) -> None:
    ann = shore.person()
    contract = deploy("FeeOnTransfer")
    token = shore.allow("ODD", contract)
    send(shore, contract, shore.address(ann), 1_000)

    shore.land()

    assert outcome(shore, ann, token) == [("unsupported", "balance_mismatch", 0)]


def test_a_fee_on_transfer_that_an_operator_allows_is_credited_as_measured(
    shore: Shore, deploy: Deploy
) -> None:
    ann = shore.person()
    contract = deploy("FeeOnTransfer")
    token = shore.allow("ODD", contract, credit_measured=True)
    send(shore, contract, shore.address(ann), 1_000)
    transfer = abi.call_data
    one_block(
        shore,
        (contract, transfer("transfer(address,uint256)", [shore.address(ann), 101])),
        (contract, transfer("transfer(address,uint256)", [shore.address(ann), 1_001])),
    )

    shore.land()

    assert [state for state, _, _ in outcome(shore, ann, token)] == ["credited"] * 3
    # 970; then 98 and 971 of one measurement, shared by largest remainder.
    assert [units for _, _, units in outcome(shore, ann, token)] == [970, 98, 971]
    assert shore.on_chain(ann, contract) == 970 + 98 + 971


def test_a_rebase_in_the_same_block_is_refused(shore: Shore, deploy: Deploy) -> None:
    ann = shore.person()
    contract = deploy("Rebasing")
    token = shore.allow("ODD", contract)
    one_block(
        shore,
        (contract, abi.call_data("transfer(address,uint256)", [shore.address(ann), 1_000])),
        (contract, abi.call_data("rebase(uint256)", [ETHER // 2])),
    )

    shore.land()

    assert outcome(shore, ann, token) == [("unsupported", "balance_mismatch", 0)]
    assert shore.on_chain(ann, contract) == 500


def test_a_rebasing_token_at_rest_is_credited_and_one_that_grows_is_not_credited_more(
    shore: Shore, deploy: Deploy
) -> None:
    ann = shore.person()
    contract = deploy("Rebasing")
    token = shore.allow("ODD", contract)
    send(shore, contract, shore.address(ann), 1_000)
    shore.land()
    one_block(
        shore,
        (contract, abi.call_data("transfer(address,uint256)", [shore.address(ann), 1_000])),
        (contract, abi.call_data("rebase(uint256)", [2 * ETHER])),
    )
    shore.land()

    assert outcome(shore, ann, token) == [("credited", "", 1_000), ("unsupported", "balance_mismatch", 0)]


def test_a_token_that_paused_is_credited_if_it_arrived_before(shore: Shore, deploy: Deploy) -> None:
    """The balance is read as of the block: a pause since then changes nothing about it."""
    ann = shore.person()
    contract = deploy("Pausable")
    token = shore.allow("ODD", contract)
    send(shore, contract, shore.address(ann), 1_000)
    shore.contracts.write(contract, "pause(bool)", True)

    shore.land()

    assert outcome(shore, ann, token) == [("credited", "", 1_000)]


def test_a_token_that_pauses_in_the_same_block_is_refused(shore: Shore, deploy: Deploy) -> None:
    ann = shore.person()
    contract = deploy("Pausable")
    token = shore.allow("ODD", contract)
    other = shore.allow("USDC", shore.deployment.token("USDC").address)
    one_block(
        shore,
        (contract, abi.call_data("transfer(address,uint256)", [shore.address(ann), 1_000])),
        (contract, abi.call_data("pause(bool)", [True])),
        (other.address, abi.call_data("transfer(address,uint256)", [shore.address(ann), 7])),
    )

    shore.land()

    assert outcome(shore, ann, token) == [("unsupported", "balance_mismatch", 0)]
    # The others of its chunk do not suffer.
    assert outcome(shore, ann, other) == [("credited", "", 7)]


def test_a_transfer_that_moves_nothing_is_refused(shore: Shore, deploy: Deploy) -> None:
    ann = shore.person()
    contract = deploy("Lying")
    token = shore.allow("ODD", contract)
    measured = shore.allow("MEASURED", deploy("Lying"), credit_measured=True)
    send(shore, contract, shore.address(ann), 1_000)
    send(shore, measured.address, shore.address(ann), 1_000)

    shore.land()

    assert outcome(shore, ann, token) == [("unsupported", "balance_mismatch", 0)]
    assert outcome(shore, ann, measured) == [("unsupported", "balance_mismatch", 0)]


def test_a_transfer_that_reenters_is_credited_for_what_came(
    shore: Shore, deploy: Deploy, odd: dict[str, Artifact]
) -> None:
    """The sender doubled its coins; whatever that token is worth, both transfers really arrived."""
    ann = shore.person()
    contract = deploy("Reentered")
    token = shore.allow("ODD", contract)
    thief = shore.contracts.deploy(odd["Reenterer"])
    shore.contracts.write(contract, "mint(address,uint256)", thief, 1_000)
    shore.contracts.write(thief, "start(address,address,uint256)", contract, shore.address(ann), 1_000)

    shore.land()

    assert outcome(shore, ann, token) == [("credited", "", 1_000), ("credited", "", 1_000)]
    assert shore.on_chain(ann, contract) == 2_000


def test_coins_from_a_contract_beside_native_ones_do_not_hold_those_up(
    shore: Shore, odd: dict[str, Artifact]
) -> None:
    """Without traces nobody sees them; the transfer that everybody sees cannot lie."""
    ann = shore.person()
    several = shore.contracts.deploy(odd["Several"])
    shore.node.mining_manual()
    sender = shore.contracts.sender
    pay = abi.call_data("pay(address)", [shore.address(ann)])
    for to, data in ((shore.address(ann), "0x"), (several, pay)):
        call = {"from": sender, "to": to, "data": data, "value": hex(ETHER), "gas": "0x186a0"}
        shore.node.rpc.call("eth_sendTransaction", call)
    shore.node.mine()
    shore.node.mining_automatic()

    shore.land()

    row = Deposit.objects.get()
    assert (row.state, row.credited_units) == ("credited", ETHER)
    assert shore.on_chain(ann) == 2 * ETHER
