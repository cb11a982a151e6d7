"""Locks of networks, transactions and the signer's caps: each race with the lock off, then with it on."""

from datetime import date

import pytest
from django.db import transaction

from apps.chain import observing, services, watching
from apps.chain.errors import SignerRefused
from apps.chain.models import Network, OutboundTransaction, Recheck, WalletSpend
from apps.chain.signer import Movement, caps_charge
from apps.core.errors import Conflict, Retryable
from apps.events.models import Event
from tests.chain.conftest import Chain
from tests.chain.test_nonces import network_make
from tests.chain.test_rechecks import booked, forked, outbid, raw, rechecked
from tests.support.races import off_and_on, race

pytestmark = pytest.mark.django_db(transaction=True)


def told(topic: str) -> int:
    return Event.objects.filter(topic=topic).count()


@off_and_on
def test_two_networks_share_the_cap_of_a_wallets_day(locked: bool) -> None:
    """The nonce lock keeps two signatures of one network apart; of two networks the day's row does."""
    network, wallet = network_make()
    services.wallet_cap_set(
        wallet_id=wallet.pk, asset_id=network.native_asset_id, per_transaction_units=100, daily_units=100
    )
    day = date(2030, 1, 1)
    WalletSpend.objects.create(wallet=wallet, asset_id=network.native_asset_id, day=day)

    def charge() -> None:
        with transaction.atomic():
            caps_charge(wallet=wallet, moved=[Movement(network.native_asset_id, 80, True)], day=day)

    _, answer = race(charge, charge, lock='FROM "chain_walletspend"', locked=locked)

    assert WalletSpend.objects.get().units == (80 if locked else 160)
    assert isinstance(answer, SignerRefused) is locked


def intent() -> OutboundTransaction:
    network, wallet = network_make()
    return services.transaction_request(
        network_id=network.pk, wallet_id=wallet.pk, to=wallet.address, data="0x", gas_limit=30_000,
        purpose="test", reference="race",
    )  # fmt: skip


@off_and_on
def test_who_cancels_second_is_told_how_it_ended_and_not_to_try_again(locked: bool) -> None:
    row = intent()

    def cancel() -> OutboundTransaction:
        return services.transaction_cancel(transaction_id=row.pk)

    _, answer = race(cancel, cancel, lock='FROM "chain_outboundtransaction"', locked=locked)

    # Without the lock the compare-and-swap of the move is what stands between.
    assert isinstance(answer, Conflict if locked else Retryable)
    assert told("transaction.cancelled") == 1


@off_and_on
def test_a_network_is_resumed_once(locked: bool) -> None:
    network, _ = network_make()
    services.network_halt(network_id=network.pk, reason="drill")

    def resume(actor: str) -> list[OutboundTransaction]:
        return services.network_resume(network_id=network.pk, actor=actor)

    race(lambda: resume("ann"), lambda: resume("bob"), lock='FROM "chain_network"', locked=locked)

    assert told("network.resumed") == (1 if locked else 2)


@off_and_on
def test_what_an_operator_settled_is_settled(locked: bool) -> None:
    row = intent()
    recheck = Recheck.objects.create(
        network_id=row.network_id, transaction=row, from_block=0, before={}, state="decide"
    )

    def settle(actor: str) -> None:
        services.recheck_settle(recheck_id=recheck.pk, actor=actor, note="put right")

    _, answer = race(lambda: settle("ann"), lambda: settle("bob"), lock='FROM "chain_recheck"', locked=locked)

    assert isinstance(answer, Conflict) is locked
    assert told("transaction.settled_by_hand") == (1 if locked else 2)


@off_and_on
def test_an_older_look_at_the_chain_takes_nothing_back(chain: Chain, locked: bool) -> None:
    chain.node.mine()
    network = Network.objects.get()
    older = observing.observe(network)
    chain.node.mine()
    newer = observing.observe(network)

    race(
        lambda: applied(network, newer),
        lambda: applied(network, older),
        lock='FROM "chain_network"',
        locked=locked,
    )

    network.refresh_from_db()
    assert older.tip is not None
    assert network.watched_block == older.tip.number + locked


def applied(network: Network, seen: observing.Observation) -> watching.Outcome:
    with transaction.atomic():
        return watching._apply(network, seen)


@off_and_on
def test_a_transaction_that_is_given_up_while_it_is_mined_is_mined(chain: Chain, locked: bool) -> None:
    row = chain.sent()
    chain.node.mine()
    network = Network.objects.get()
    seen = observing.observe(network)

    _, answer = race(
        lambda: services.transaction_cancel(transaction_id=row.pk),
        lambda: applied(network, seen),
        lock='FROM "chain_outboundtransaction"',
        locked=locked,
    )

    # Without the lock the compare-and-swap of the move is what stands between, and the look is lost.
    assert isinstance(answer, Retryable) is not locked
    assert chain.read(row).state == ("mined" if locked else "queued")


@off_and_on
def test_nothing_is_concluded_of_a_network_that_is_being_halted(chain: Chain, locked: bool) -> None:
    row = booked(chain)
    forked(chain, depth=4, again=(raw(chain, row), 3))
    chain.node.mine(blocks=3)
    chain.watch()

    race(
        lambda: services.network_halt(network_id=chain.network.pk, reason="drill"),
        lambda: rechecked(chain),
        lock='FROM "chain_network".*FOR',
        locked=locked,
        read='UPDATE "chain_network"|FROM "chain_network".* FOR NO KEY UPDATE',
    )

    assert Recheck.objects.get().state == ("open" if locked else "closed")


@off_and_on
def test_what_was_booked_just_now_is_compared_with_what_happened(chain: Chain, locked: bool) -> None:
    row = booked(chain)
    OutboundTransaction.objects.update(booked_at=None)
    outbid(chain, row)

    race(
        lambda: book(row),
        lambda: rechecked(chain),
        lock='FROM "chain_outboundtransaction".*FOR',
        locked=locked,
        read='UPDATE "chain_outboundtransaction"|FROM "chain_outboundtransaction".* FOR UPDATE',
    )

    assert Recheck.objects.get().state == ("decide" if locked else "closed")


def book(row: OutboundTransaction) -> None:
    with transaction.atomic():
        services.transactions_book(transaction_ids=[row.pk])
