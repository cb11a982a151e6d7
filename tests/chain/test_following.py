"""A transaction that counts on another one of the same wallet: it has the later nonce, or is not made at all."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from apps.chain import services
from apps.chain.domain import TransactionState
from apps.chain.kinds import SIGN_WORK
from apps.chain.models import OutboundTransaction
from apps.core import clock, doorbell, work
from apps.core.errors import Conflict
from tests.chain.conftest import Chain


def _later(row: OutboundTransaction) -> None:
    """What a failed try does: the row is due again in a while."""
    OutboundTransaction.objects.filter(pk=row.pk).update(run_after=clock.now() + timedelta(hours=1))


def test_it_waits_for_the_nonce_of_the_one_before_and_both_are_mined_in_that_order(chain: Chain) -> None:
    # given a first whose signature has to wait
    first = chain.request()
    second = chain.request(after_id=first.pk)
    alone = chain.request()
    _later(first)
    # when the signer looks
    work.drain(SIGN_WORK)
    # then what does not count on it goes ahead
    assert [chain.read(row).state for row in (first, second, alone)] == ["queued", "queued", "signed"]
    # and when the first has its nonce, the second gets a later one
    chain.sign()
    chain.sign()
    nonces = [chain.read(row).nonce or 0 for row in (alone, first, second)]
    assert nonces == [nonces[0], nonces[0] + 1, nonces[0] + 2]
    chain.send()
    chain.node.mine(blocks=3)
    chain.watch(3)
    assert {chain.read(row).state for row in (first, second)} == {"confirmed"}


def _give_up(chain: Chain, row: OutboundTransaction) -> None:
    services.transaction_cancel(transaction_id=row.pk)


def _refuse(chain: Chain, row: OutboundTransaction) -> None:
    OutboundTransaction.objects.filter(pk=row.pk).update(to="0x" + "f" * 40)
    work.drain(SIGN_WORK)


@pytest.mark.parametrize("end", [_give_up, _refuse])
def test_it_is_cancelled_when_the_one_before_ends_without_a_nonce(
    chain: Chain, end: Callable[[Chain, OutboundTransaction], None]
) -> None:
    first = chain.request()
    second = chain.request(after_id=first.pk, notify="bell")
    end(chain, first)

    chain.sign()

    first, second = chain.read(first), chain.read(second)
    assert (first.is_final, first.nonce) == (True, None)
    assert (second.state, second.nonce) == (TransactionState.CANCELLED, None)
    assert second.reason.startswith("what it counts on was not made: ")
    assert chain.topics(second) == ["transaction.cancelled"]
    assert chain.attempts(second) == []


def test_what_it_counts_on_is_part_of_the_reference(chain: Chain) -> None:
    first = chain.request()
    chain.request(reference="same", after_id=first.pk)

    with pytest.raises(Conflict, match="another after_id"):
        chain.request(reference="same")


def test_the_next_look_comes_soon_while_somebody_waits_for_a_block(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    rung: list[tuple[str, float]] = []
    monkeypatch.setattr(doorbell, "_ringer", lambda name, seconds: rung.append((name, seconds)))
    # Nobody waits: the tick is soon enough.
    chain.watch()
    assert [one for one in rung if one[1]] == []

    chain.sent()
    rung.clear()
    before = clock.now()
    chain.watch()
    after = clock.now()

    assert ("chain.watch", 0.25) in rung
    chain.network.refresh_from_db()
    assert before <= chain.network.watch.run_after - timedelta(seconds=0.25) <= after
