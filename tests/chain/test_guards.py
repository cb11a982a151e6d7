"""The same bytes again, or new ones: what a lost answer costs without the rule, and that it costs nothing with it."""

import pytest

from apps.chain.models import OutboundTransaction
from tests.chain.conftest import Chain
from tests.chain.test_lifecycle import assert_invariants


@pytest.mark.parametrize(("same_bytes", "paid"), [(False, 2_000), (True, 1_000)])
def test_an_answer_that_was_lost_pays_twice_when_signed_anew_and_once_with_the_same_bytes(
    chain: Chain, same_bytes: bool, paid: int
) -> None:
    """Killed between the broadcast and its commit: the row says `signed`, the node has the transaction."""
    row = chain.request()
    chain.sign()
    chain.proxy.fault("drop_answer", method="eth_sendRawTransaction", times=1)
    chain.send()
    state = (
        {"state": "signed"} if same_bytes else {"state": "queued", "nonce": None, "next_attempt": "original"}
    )
    OutboundTransaction.objects.filter(pk=row.pk).update(**state)

    chain.sign()
    chain.send()
    chain.node.mine(blocks=3)
    chain.watch()

    assert chain.balance(chain.recipient) == paid
    assert len(chain.attempts(row)) == paid // 1_000
    assert chain.read(row).state == "confirmed"
    if same_bytes:
        assert_invariants()
