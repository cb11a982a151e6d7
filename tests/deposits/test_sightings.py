"""What the scanner hands over becomes deposits once each, whatever it hands over again."""

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.chain.models import Network, OutboundTransaction, TransactionAttempt, Wallet
from apps.deposits.domain import DepositKind
from apps.deposits.models import Deposit, DepositRule
from apps.deposits.services import deposits_orphan, sightings_record
from apps.events.models import Event
from tests.deposits.support import CONTRACT, STRANGER, USDC, Bank, hash_of, topics
from tests.ledger.test_races import at_once
from tests.treasury.conftest import statements


def test_a_transfer_to_an_address_of_ours_is_a_deposit(bank: Bank) -> None:
    ann = bank.person()
    sighting = bank.sighting(ann, 25 * USDC, transaction="one", position=3)

    assert sightings_record(bank.network.pk, [sighting]) == 1

    row = Deposit.objects.get()
    assert (row.user_id, row.asset_id, row.amount_units) == (ann.pk, bank.usdc.pk, 25 * USDC)
    assert (row.state, row.sighting, row.position, row.block_number) == ("seen", 1, 3, 5)
    assert (row.contract, row.sender, row.credited_units, row.measured_units) == (CONTRACT, STRANGER, 0, None)
    event = Event.objects.get(topic="deposit.seen")
    assert (event.subject_id, event.object_id) == (ann.pk, row.pk)
    assert (event.payload["asset"], event.payload["amount_units"]) == ("USDC", str(25 * USDC))


def test_the_same_again_changes_nothing(bank: Bank) -> None:
    ann = bank.person()
    sighting = bank.sighting(ann)
    bank.seen(sighting)
    before = list(Deposit.objects.values())

    assert sightings_record(bank.network.pk, [sighting, sighting]) == 0

    assert list(Deposit.objects.values()) == before
    assert Event.objects.filter(topic="deposit.seen").count() == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"amount_units": 0},
        {"address": STRANGER},
        {"block_hash": hash_of(5, "another")},
        {"sender": "0x" + "aa" * 20},
        {"transaction_hash": "0x" + "bb" * 32},
    ],
    ids=[
        "nothing",
        "to a stranger",
        "in a block that the headers contradict",
        "from a wallet of ours",
        "by us",
    ],
)
def test_what_is_no_deposit_is_left_out(bank: Bank, changes: dict[str, Any]) -> None:
    ann = bank.person()
    wallet = Wallet.objects.create(address="0x" + "aa" * 20, role="gas", key_ciphertext=b"none")
    ours = OutboundTransaction.objects.create(
        network=bank.network, wallet=wallet, reference="r", purpose="p", to=STRANGER, gas_limit=1
    )
    TransactionAttempt.objects.create(
        transaction=ours, network=bank.network, wallet=wallet, nonce=0, number=0, kind="original",
        hash="0x" + "bb" * 32, raw=b"", max_fee_units=1, priority_fee_units=1,
    )  # fmt: skip

    assert sightings_record(bank.network.pk, [bank.sighting(ann, **changes)]) == 0
    assert not Deposit.objects.exists()


def test_the_native_coin_and_unknown_tokens_are_kept_as_what_they_are(bank: Bank) -> None:
    ann = bank.person()
    native = bank.sighting(ann, kind=DepositKind.NATIVE, contract="")
    internal = bank.sighting(ann, kind=DepositKind.INTERNAL, contract="", position=4)
    unknown = bank.sighting(ann, contract="0x" + "ee" * 20)

    assert sightings_record(bank.network.pk, [native, internal, unknown]) == 3

    assets = {row.transaction_hash: row.asset_id for row in Deposit.objects.all()}
    assert assets[native.transaction_hash] == assets[internal.transaction_hash] == bank.native.pk
    assert assets[unknown.transaction_hash] is None


def test_included_again_elsewhere_it_is_the_same_deposit(bank: Bank) -> None:
    ann = bank.person()
    (row,) = bank.seen(bank.sighting(ann, transaction="one"))
    bank.blocks(4, 9, chain="b")
    assert deposits_orphan(bank.network.pk) == 1
    assert bank.read(row).state == "orphaned"

    again = bank.sighting(ann, transaction="one", number=7, chain="b")
    assert sightings_record(bank.network.pk, [again]) == 0

    row = bank.read(row)
    assert (row.state, row.sighting, row.block_number, row.block_hash) == ("seen", 2, 7, hash_of(7, "b"))
    assert topics(row) == ["seen", "orphaned", "seen"]


def test_it_moves_even_when_nobody_noticed_the_fork(bank: Bank) -> None:
    ann = bank.person()
    (row,) = bank.seen(bank.sighting(ann, transaction="one"))
    bank.blocks(4, 9, chain="b")

    bank.seen(bank.sighting(ann, transaction="one", number=4, chain="b"))

    row = bank.read(row)
    assert (row.state, row.sighting, row.block_number) == ("seen", 2, 4)
    assert topics(row) == ["seen", "orphaned", "seen"]


def test_a_token_allowed_later_is_looked_at_again(bank: Bank) -> None:
    ann = bank.person()
    DepositRule.objects.update(enabled=False)
    sighting = bank.sighting(ann)
    (row,) = bank.seen(sighting)
    Deposit.objects.update(state="unsupported", reason="deposits_disabled")
    bank.seen(sighting)
    assert bank.read(row).state == "unsupported"

    DepositRule.objects.update(enabled=True)
    assert sightings_record(bank.network.pk, [sighting]) == 0

    assert (bank.read(row).state, bank.read(row).sighting) == ("seen", 1)


def test_a_height_that_is_not_held_says_nothing(bank: Bank) -> None:
    """After a halt the headers are let go and held anew: nothing is taken back meanwhile."""
    ann = bank.person()
    (row,) = bank.seen(bank.sighting(ann))
    from apps.chain.models import Block

    Block.objects.filter(number__lte=6).delete()
    Network.objects.update(watched_block=None, final_block=None)

    assert deposits_orphan(bank.network.pk) == 0
    assert bank.read(row).state == "seen"


def test_seen_from_two_nodes_at_once_it_is_one(shared: Bank) -> None:
    ann = shared.person()
    sightings = [shared.sighting(ann, transaction=number) for number in range(20)]

    found = at_once(
        *[
            lambda part=part: sightings_record(shared.network.pk, part)
            for part in (sightings, sightings[::-1])
        ]
    )

    assert sum(found) == 20
    assert Deposit.objects.count() == 20
    assert Event.objects.filter(topic="deposit.seen").count() == 20


def test_a_thousand_take_as_many_statements_as_one(bank: Bank) -> None:
    ann = bank.person()
    counts = []
    for size in (1, 1_000):
        sightings = [bank.sighting(ann) for _ in range(size)]
        with CaptureQueriesContext(
            connection,
        ) as asked:
            assert sightings_record(bank.network.pk, sightings) == size
        counts.append(len(statements(asked)))
    assert counts[0] == counts[1] == 7
