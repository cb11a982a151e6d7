"""From the intent to finality, and back again when the chain takes a block away. On a real node."""

import pytest

from apps.chain import abi, metrics, selectors, services
from apps.chain.domain import OUT_OF_GAS, bump
from apps.chain.models import (
    Network,
    NetworkWatch,
    OutboundTransaction,
    Token,
    TransactionAttempt,
    WalletNonce,
)
from apps.core import doorbell, invariants
from apps.core.errors import Conflict
from apps.sandbox.runtime.deployment import Deployment
from tests.chain.conftest import GWEI, Chain


def assert_invariants() -> None:
    broken = [
        verdict for verdict in invariants.run_all() if verdict.name.startswith("chain.") and not verdict.holds
    ]
    assert broken == []


def test_a_transaction_is_signed_sent_mined_and_confirmed_at_depth(chain: Chain) -> None:
    row = chain.request()
    chain.sign()
    assert chain.read(row).state == "signed"
    assert chain.proxy.forwarded.count("eth_sendRawTransaction") == 0
    chain.send()
    assert chain.read(row).state == "sent"
    chain.node.mine()
    chain.watch()
    mined = chain.read(row)
    assert (mined.state, mined.is_final, mined.block_number) == ("mined", False, chain.node.block_number())
    chain.node.mine()
    chain.watch()
    assert chain.read(row).state == "mined"
    chain.node.mine()
    chain.watch()
    final = chain.read(row)
    assert (final.state, final.is_final, final.gas_used) == ("confirmed", True, 21_000)
    assert chain.balance(chain.recipient) == 1_000
    assert chain.topics(row) == ["transaction.sent", "transaction.mined", "transaction.confirmed"]
    assert_invariants()


def test_the_same_reference_is_one_transaction_and_other_content_is_refused(chain: Chain) -> None:
    first = chain.request(reference="once")
    again = chain.request(reference="once")
    assert first.pk == again.pk
    with pytest.raises(Conflict):
        chain.request(reference="once", value_units=2_000)


def test_nonces_follow_each_other_and_all_are_mined_in_one_block(chain: Chain) -> None:
    rows = [chain.request() for _ in range(5)]
    chain.sign()
    chain.send()
    chain.node.mine()
    chain.watch()
    nonces = sorted(chain.read(row).nonce or 0 for row in rows)
    assert nonces == [0, 1, 2, 3, 4]
    assert {chain.read(row).state for row in rows} == {"mined"}
    assert WalletNonce.objects.get().next_nonce == 5
    assert_invariants()


def test_a_stuck_transaction_is_outbid_by_an_eighth_and_mined_once(chain: Chain) -> None:
    row = chain.sent()
    first = chain.attempts(row)[0]
    for _ in range(4):
        chain.node.base_fee_set(wei=first.max_fee_units + GWEI)
        chain.node.mine()
    chain.watch()
    assert chain.read(row).state == "queued"
    chain.sign()
    chain.send()
    first, second = chain.attempts(row)
    assert (second.kind, second.nonce, second.number) == ("replacement", first.nonce, 2)
    assert second.max_fee_units >= bump(first.max_fee_units)
    assert second.priority_fee_units >= bump(first.priority_fee_units)
    assert 8 * second.max_fee_units >= 9 * first.max_fee_units
    chain.node.base_fee_set(wei=GWEI)
    chain.node.mine(blocks=3)
    chain.watch()
    final = chain.read(row)
    assert final.state == "confirmed"
    assert final.attempt == second
    assert chain.balance(chain.recipient) == 1_000
    assert chain.topics(row).count("transaction.replaced") == 1
    assert_invariants()


def test_at_the_cap_the_intent_is_cancelled_by_a_self_transfer(chain: Chain) -> None:
    row = chain.sent()
    first = chain.attempts(row)[0]
    Network.objects.update(max_fee_cap_units=first.max_fee_units)
    for _ in range(4):
        chain.node.base_fee_set(wei=first.max_fee_units + 1)
        chain.node.mine()
    chain.watch()
    chain.sign()
    chain.send()
    cancel = chain.attempts(row)[-1]
    assert (cancel.kind, cancel.number) == ("cancel", 2)
    chain.node.base_fee_set(wei=GWEI)
    chain.node.mine(blocks=3)
    chain.watch()
    final = chain.read(row)
    assert (final.state, final.attempt) == ("cancelled", cancel)
    assert final.gas_cost_units > 0
    assert chain.balance(chain.recipient) == 0
    assert_invariants()


def test_a_transaction_dropped_from_the_mempool_is_sent_again_with_the_same_bytes(chain: Chain) -> None:
    row = chain.sent()
    hash_before = chain.attempts(row)[0].hash
    assert chain.node.transaction_drop(hash_before)
    chain.node.mine()
    chain.watch()
    assert chain.attempts(row)[0].broadcasts == 2
    chain.node.mine(blocks=3)
    chain.watch()
    final = chain.read(row)
    assert final.state == "confirmed"
    assert [made.hash for made in chain.attempts(row)] == [hash_before]


def test_a_revert_is_final_at_depth_and_books_its_gas(chain: Chain, token: Token) -> None:
    services.signer_rule_allow(
        network_id=chain.network.pk, to=token.address, signature="transfer(address,uint256)", amount_path="1"
    )
    services.wallet_cap_set(
        wallet_id=chain.wallet.pk, asset_id=token.asset_id, per_transaction_units=10**9, daily_units=10**9
    )
    data = abi.call_data("transfer(address,uint256)", [chain.recipient, 5])
    row = chain.sent(to=token.address, data=data, value_units=0, gas_limit=90_000)
    chain.node.mine()
    chain.watch()
    assert chain.read(row).state == "mined"
    chain.node.mine(blocks=2)
    chain.watch()
    final = chain.read(row)
    assert (final.state, final.is_final, final.succeeded) == ("reverted", True, False)
    assert final.gas_cost_units > 21_000
    assert_invariants()


def test_a_reorged_out_transaction_goes_back_to_sent_and_is_mined_again_once(chain: Chain) -> None:
    row = chain.sent()
    chain.node.mine()
    chain.watch()
    before = chain.read(row)
    assert before.state == "mined"
    chain.node.reorg(depth=1)
    chain.node.mine()
    chain.watch(2)
    back = chain.read(row)
    assert (back.state, back.block_hash, back.gas_used) == ("sent", "", None)
    chain.node.mine(blocks=3)
    chain.watch(2)
    final = chain.read(row)
    assert final.state == "confirmed"
    assert final.block_hash != before.block_hash
    assert len(chain.attempts(row)) == 1
    assert chain.balance(chain.recipient) == 1_000
    assert chain.topics(row).count("transaction.reorged") == 1
    assert_invariants()


def test_a_reorg_below_a_final_transaction_halts_the_network(chain: Chain) -> None:
    row = chain.sent()
    chain.node.mine(blocks=3)
    chain.watch()
    assert chain.read(row).state == "confirmed"
    chain.node.reorg(depth=3)
    chain.node.mine()
    chain.watch()
    network = Network.objects.get()
    assert network.halted_at is not None
    assert row.reference in network.halted_reason
    assert chain.read(row).state == "confirmed"
    later = chain.request()
    chain.sign()
    assert chain.read(later).state == "queued"
    assert TransactionAttempt.objects.filter(transaction=later).count() == 0
    doubtful = services.network_resume(network_id=network.pk, actor="test")
    assert [found.pk for found in doubtful] == [row.pk]
    chain.watch()
    assert Network.objects.get().watched_block == chain.node.block_number()


def test_a_foreign_transaction_at_our_nonce_supersedes_and_a_new_nonce_waits_for_depth(chain: Chain) -> None:
    row = chain.request()
    chain.sign()
    chain.node.rpc.call("anvil_impersonateAccount", chain.wallet.address)
    chain.node.rpc.call(
        "eth_sendTransaction",
        {
            "from": chain.wallet.address,
            "to": chain.recipient,
            "value": "0x7",
            "nonce": "0x0",
            "gas": "0x5208",
        },
    )
    chain.node.mine()
    chain.send()
    assert chain.read(row).state == "sent"
    chain.watch()
    seen = chain.read(row)
    assert (seen.state, seen.is_final, seen.nonce) == ("superseded", False, 0)
    chain.sign()
    assert chain.read(row).nonce == 0
    chain.node.mine(blocks=2)
    chain.watch()
    assert (chain.read(row).state, chain.read(row).nonce) == ("queued", None)
    chain.sign()
    chain.send()
    chain.node.mine(blocks=3)
    chain.watch()
    final = chain.read(row)
    assert (final.state, final.nonce, final.supersessions) == ("confirmed", 1, 1)
    assert chain.balance(chain.recipient) == 1_007
    assert_invariants()


def test_an_intent_without_nonce_is_cancelled_at_once_and_one_with_nonce_by_outbidding(chain: Chain) -> None:
    early, late = chain.request(), chain.request()
    assert services.transaction_cancel(transaction_id=early.pk).state == "cancelled"
    chain.sign()
    chain.send()
    services.transaction_cancel(transaction_id=late.pk)
    chain.sign()
    chain.send()
    chain.node.mine(blocks=3)
    chain.watch()
    assert chain.read(late).state == "cancelled"
    assert chain.balance(chain.recipient) == 0
    with pytest.raises(Conflict):
        services.transaction_cancel(transaction_id=late.pk)


def test_only_the_lowest_open_nonce_is_outbid_and_a_later_one_waits_its_turn(chain: Chain) -> None:
    first, second = chain.request(), chain.request()
    chain.sign()
    chain.send()
    assert (chain.read(first).nonce, chain.read(second).nonce) == (0, 1)
    fee = chain.attempts(first)[0].max_fee_units
    for _ in range(4):
        chain.node.base_fee_set(wei=fee + GWEI)
        chain.node.mine()
    chain.watch()
    assert (chain.read(first).state, chain.read(second).state) == ("queued", "sent")
    chain.sign()
    chain.send()
    replacement = chain.attempts(first)[-1]
    chain.node.base_fee_set(wei=fee + 1)
    assert replacement.max_fee_units > fee + 1
    chain.node.mine()
    chain.watch()
    assert (chain.read(first).state, chain.read(second).state) == ("mined", "sent")
    assert len(chain.attempts(second)) == 1
    assert_invariants()


def test_bytes_that_can_never_be_mined_free_their_nonce_by_a_cancellation(chain: Chain) -> None:
    bad, good = chain.request(gas_limit=20_999), chain.request()
    chain.sign()
    chain.send()
    assert chain.read(bad).state == "queued"
    assert "gas" in chain.read(bad).reason
    chain.sign()
    chain.send()
    chain.node.mine(blocks=3)
    chain.watch()
    assert (chain.read(bad).state, chain.read(good).state) == ("cancelled", "confirmed")
    assert_invariants()


def test_a_wallet_without_gas_money_waits_and_loses_no_nonce(chain: Chain) -> None:
    chain.node.balance_set(chain.wallet.address, wei=0)
    row = chain.sent()
    for _ in range(3):
        chain.send()
    waiting = chain.read(row)
    # It is the wallet that lacks something: no attempt of the row's is used up, and it is told once.
    assert (waiting.state, waiting.nonce, waiting.reason, waiting.attempts) == ("signed", 0, OUT_OF_GAS, 0)
    assert chain.topics(row) == ["wallet.out_of_gas"]
    assert list(metrics.out_of_gas()) == [(("anvil", chain.wallet.address), 1)]
    chain.node.balance_set(chain.wallet.address, wei=10**18)
    chain.send()
    assert (chain.read(row).reason, list(metrics.out_of_gas())) == ("", [])
    chain.node.mine(blocks=3)
    chain.watch()
    assert chain.read(row).state == "confirmed"


def test_signing_waits_while_the_base_fee_is_over_the_cap(chain: Chain) -> None:
    chain.node.base_fee_set(wei=chain.network.max_fee_cap_units + GWEI)
    chain.node.mine()
    row = chain.request()
    chain.sign()
    waiting = chain.read(row)
    assert (waiting.state, waiting.nonce) == ("queued", None)
    assert waiting.last_error == "the base fee is over the network's cap"


def test_effects_are_read_from_transfer_logs_without_gas(
    chain: Chain, token: Token, deployment: Deployment
) -> None:
    services.signer_rule_allow(
        network_id=chain.network.pk, to=token.address, signature="transfer(address,uint256)", amount_path="1"
    )
    services.wallet_cap_set(
        wallet_id=chain.wallet.pk, asset_id=token.asset_id, per_transaction_units=10**9, daily_units=10**9
    )
    give = abi.call_data("transfer(address,uint256)", [chain.wallet.address, 1_000_000])
    chain.node.rpc.call(
        "eth_sendTransaction", {"from": deployment.deployer, "to": token.address, "data": give}
    )
    chain.node.mine()
    chain.watch()
    data = abi.call_data("transfer(address,uint256)", [chain.recipient, 400_000])
    moved = chain.sent(to=token.address, data=data, value_units=0, gas_limit=90_000)
    native = chain.sent(value_units=77)
    chain.node.mine(blocks=3)
    chain.watch()
    assert selectors.transaction_effects(selectors.transaction_get(transaction_id=moved.pk)) == [
        (token.address, -400_000)
    ]
    assert selectors.transaction_effects(selectors.transaction_get(transaction_id=native.pk)) == [(None, -77)]
    tip = chain.node.block_number()
    balance = services.token_balance_read(
        network_id=chain.network.pk, token=token.address, address=chain.wallet.address, block=tip
    )
    assert balance == 600_000
    assert token.decimals == 6


def test_a_poked_watch_looks_again_at_once(chain: Chain) -> None:
    pokes = NetworkWatch.objects.get().pokes
    chain.sent()
    assert NetworkWatch.objects.get().pokes == pokes + 1


def test_who_asked_is_told_when_it_is_out_and_when_it_is_over(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    rung: list[str] = []
    monkeypatch.setattr(doorbell, "_ringer", lambda name, _: rung.append(name))
    heard = []
    for _ in range(6):
        chain.request(notify="asker")
    chain.sign()
    heard.append(rung.count("asker"))
    chain.send()
    heard.append(rung.count("asker"))
    chain.node.mine(blocks=1)
    chain.watch()
    assert set(OutboundTransaction.objects.values_list("state", flat=True)) == {"mined"}
    heard.append(rung.count("asker"))
    chain.node.mine(blocks=2)
    chain.watch()
    assert set(OutboundTransaction.objects.values_list("state", flat=True)) == {"confirmed"}
    heard.append(rung.count("asker"))
    # Not when it is signed or mined; and six that end in one commit ring for four processes, not six times.
    assert heard == [0, 6, 6, 10]
