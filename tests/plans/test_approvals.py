"""A swap whose router may not take the token yet goes out right after the approval, and is mined with it."""

import pytest

from apps.chain import kinds as chain_kinds
from apps.chain.models import OutboundTransaction, SignerRule
from apps.core import work
from apps.plans import kinds
from apps.plans.models import Batch
from apps.plans.steps.settling import MAX_TRIES
from tests.plans.support import STEPS, Platform, books_hold, outcomes

pytestmark = pytest.mark.django_db(transaction=True)


def _asked() -> tuple[OutboundTransaction, OutboundTransaction]:
    approval = OutboundTransaction.objects.get(purpose="allowance")
    return approval, OutboundTransaction.objects.get(purpose="swap")


def test_the_first_swap_waits_for_no_block_of_its_approval(platform: Platform) -> None:
    plan = platform.plan(platform.person(usdc=1_000))
    work.drain(chain_kinds.WATCH_WORK)
    for step in STEPS[: STEPS.index(chain_kinds.WATCH_WORK)]:
        work.drain(step)
    approval, swap = _asked()
    assert (approval.state, swap.state) == ("sent", "sent")
    assert (swap.after_id, swap.nonce) == (approval.pk, (approval.nonce or 0) + 1)

    platform.settle()

    approval, swap = _asked()
    # The test's node mines each by itself, as soon as it has it.
    assert swap.block_number == (approval.block_number or 0) + 1
    assert outcomes(plan) == [(1, "settled", "filled")]
    books_hold()


def test_slots_whose_approvals_are_all_refused_do_not_end_as_reverted(platform: Platform) -> None:
    SignerRule.objects.filter(signature__startswith="approve").delete()
    plan = platform.plan(platform.person(usdc=1_000))
    for _ in range(MAX_TRIES):
        for step in (chain_kinds.WATCH_WORK, *STEPS):
            work.drain(step)
        platform.travel(seconds=120)
    assert outcomes(plan) == [(1, "failed", "transaction_refused")]
    tries = Batch.objects.get().decision["tries"]
    assert [one["outcome"] for one in tries] == ["cancelled"] * MAX_TRIES
    books_hold()


def test_a_swap_whose_approval_is_refused_is_priced_anew(platform: Platform) -> None:
    # given a signer that must not approve
    approving = SignerRule.objects.filter(signature__startswith="approve")
    rules = list(approving)
    approving.delete()
    plan = platform.plan(platform.person(usdc=1_000))
    # when the swap that counts on it is asked for
    for step in (chain_kinds.WATCH_WORK, *STEPS):
        work.drain(step)
    # then it is never signed, and the batch is priced again
    approval, swap = _asked()
    assert (approval.state, swap.state, swap.nonce) == ("failed", "cancelled", None)
    batch = Batch.objects.get()
    assert (batch.state, batch.try_number) == ("pricing", 2)
    # and not at once: the approval would be refused for the same reason
    work.drain(kinds.PRICE)
    assert OutboundTransaction.objects.count() == 2
    # but when the operators have seen to it
    SignerRule.objects.bulk_create(rules)
    platform.travel(seconds=120)
    platform.settle()
    assert outcomes(plan) == [(1, "settled", "filled")]
    books_hold()
