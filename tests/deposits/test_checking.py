"""A deposit is believed by what nodes show about its block; what they do not show is unknown, not absent."""

from apps.chain.models import Block, Network
from apps.core import work
from apps.deposits.kinds import CHECK, CREDIT
from apps.deposits.models import Deposit, DepositRule
from apps.deposits.services import deposits_ready
from tests.deposits.shore import Shore
from tests.deposits.support import USDC, topics

ETHER = 10**18


def usdc(shore: Shore) -> str:
    return shore.deployment.token("USDC").address


def send(shore: Shore, to: str, units: int) -> None:
    shore.contracts.write(usdc(shore), "transfer(address,uint256)", to, units)


def test_a_token_and_the_native_coin_arrive(shore: Shore) -> None:
    ann = shore.person()
    token = shore.allow("USDC", usdc(shore))
    send(shore, shore.address(ann), 25 * USDC)
    shore.contracts.send_value(shore.address(ann), wei=3 * ETHER)

    shore.look()
    assert [row.state for row in Deposit.objects.order_by("block_number")] == ["confirming"] * 2
    shore.land()

    rows = Deposit.objects.order_by("block_number")
    assert [(row.state, row.measured_units, row.credited_units) for row in rows] == [
        ("credited", 25 * USDC, 25 * USDC),
        ("credited", 3 * ETHER, 3 * ETHER),
    ]
    assert (
        shore.balance(ann, token.asset)
        == 25 * USDC
        == shore.custody(token.asset)
        == shore.on_chain(ann, usdc(shore))
    )
    assert shore.balance(ann, shore.native) == 3 * ETHER == shore.custody(shore.native) == shore.on_chain(ann)
    assert topics(rows[0]) == ["seen", "confirming", "credited"]


def test_several_of_one_block_share_one_measurement(shore: Shore) -> None:
    ann, ben = shore.person(), shore.person()
    token = shore.allow("USDC", usdc(shore))
    shore.node.mining_manual()
    for person, units in ((ann, 5), (ann, 7), (ben, 11)):
        data = _transfer(shore.address(person), units)
        shore.node.rpc.call(
            "eth_sendTransaction",
            {"from": shore.contracts.sender, "to": usdc(shore), "data": data, "gas": "0x186a0"},
        )
    shore.node.mine()

    shore.land()

    assert [shore.balance(person, token.asset) for person in (ann, ben)] == [12, 11]
    assert Deposit.objects.filter(state="credited").count() == 3


def _transfer(to: str, units: int) -> str:
    from apps.chain import abi

    return abi.call_data("transfer(address,uint256)", [to, units])


def test_what_is_not_allowed_waits_for_an_operator(shore: Shore) -> None:
    ann = shore.person()
    send(shore, shore.address(ann), 5)
    DepositRule.objects.update(enabled=False)
    shore.contracts.send_value(shore.address(ann), wei=5)

    shore.land()

    rows = Deposit.objects.order_by("block_number")
    assert [(row.state, row.reason) for row in rows] == [
        ("unsupported", "token_not_allowed"),
        ("unsupported", "deposits_disabled"),
    ]
    assert topics(rows[0]) == ["seen", "unsupported"]


def test_a_node_that_shows_no_receipt_is_asked_again(shore: Shore) -> None:
    ann = shore.person()
    shore.contracts.send_value(shore.address(ann), wei=5)
    shore.watch(2)
    shore.scan()
    shore.proxy.fault("null", method="eth_getTransactionReceipt")
    shore.due()
    work.drain(CHECK, budget_seconds=0)
    assert (Deposit.objects.get().state, Deposit.objects.get().attempts) == ("seen", 0)

    shore.proxy.clear()
    shore.land()

    assert Deposit.objects.get().state == "credited"


def test_a_reorg_between_look_and_verdict_concludes_nothing(shore: Shore) -> None:
    """The receipt is in another block by now: unknown, until the headers follow."""
    ann = shore.person()
    shore.contracts.send_value(shore.address(ann), wei=5)
    shore.watch(2)
    shore.scan()
    Deposit.objects.update(block_hash="0x" + "12" * 32)

    shore.due()
    work.drain(CHECK, budget_seconds=0)

    assert Deposit.objects.get().state == "seen"


def test_a_state_that_no_node_has_any_more_is_covered_by_the_balance(shore: Shore) -> None:
    ann, ben = shore.person(), shore.person()
    token = shore.allow("USDC", usdc(shore))
    send(shore, shore.address(ann), 25 * USDC)
    send(shore, shore.address(ben), 25 * USDC)
    shore.watch(2)
    shore.scan()
    # Ben's balance does not cover what was announced: something took a part of it.
    shore.node.rpc.call("anvil_impersonateAccount", shore.address(ben))
    shore.node.balance_set(shore.address(ben), wei=ETHER)
    shore.node.rpc.call(
        "eth_sendTransaction",
        {
            "from": shore.address(ben),
            "to": usdc(shore),
            "data": _transfer("0x" + "11" * 20, 1),
            "gas": "0x186a0",
        },
    )
    shore.node.mine(blocks=80)
    shore.watch(3)
    tip = Block.objects.get(hash=Network.objects.get().watched_hash)
    shore.proxy.fault("pruned", keep=(tip.hash,))

    shore.due()
    work.drain(CHECK, budget_seconds=0)
    deposits_ready()
    work.drain(CREDIT)

    assert Deposit.objects.get(user=ben).reason == "balance_mismatch"
    row = Deposit.objects.get(user=ann)
    assert (row.state, row.measured_units, row.credited_units) == ("credited", None, 25 * USDC)
    assert shore.balance(ann, token.asset) == 25 * USDC
