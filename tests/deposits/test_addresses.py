"""One address per person, whoever asks at the same time."""

import pytest
from django.conf import settings

from apps.accounts.models import User
from apps.chain import derivation
from apps.chain.models import Wallet
from apps.core.errors import NotFound
from apps.core.ids import uuid7
from apps.deposits import addresses
from apps.deposits.errors import DepositsUnavailable
from apps.deposits.models import DepositAddress
from apps.deposits.services import deposit_address_open
from apps.events.models import Event
from tests.deposits.support import Bank
from tests.ledger.test_races import at_once


def test_it_is_derived_from_the_public_key_and_stays(bank: Bank) -> None:
    ann, ben = bank.person(), bank.person()

    first, second = (deposit_address_open(user_id=person.pk) for person in (ann, ben))

    assert deposit_address_open(user_id=ann.pk) == first
    assert first.address == derivation.address_at(xpub=settings.DEPOSIT_XPUB, index=first.index)
    assert second.index == first.index + 1
    wallet = Wallet.objects.get(address=first.address)
    assert (wallet.role, wallet.derivation_index, wallet.key_ciphertext) == (
        "deposit",
        first.index,
        None,
    )
    assert Event.objects.filter(topic="deposit_address.opened", subject_id=ann.pk).count() == 1


def test_nobody_and_those_who_left_get_none(bank: Bank) -> None:
    gone = User.objects.create(email="gone@example.org", is_active=False)
    for user_id in (uuid7(), gone.pk):
        with pytest.raises(NotFound):
            deposit_address_open(user_id=user_id)
    assert not Wallet.objects.exists()


def test_without_an_extended_key_there_are_none(bank: Bank, settings: object) -> None:
    settings.DEPOSIT_XPUB = ""  # type: ignore[attr-defined]
    user = User.objects.create(email="ann@example.org")
    with pytest.raises(DepositsUnavailable):
        deposit_address_open(user_id=user.pk)


def test_asked_for_many_times_at_once_it_is_one(shared: Bank) -> None:
    people = [User.objects.create(email=f"{name}@example.org") for name in ("ann", "ben")]

    results = at_once(*[lambda u=user: deposit_address_open(user_id=u.pk).address for user in people * 4])

    assert len(set(results)) == 2
    assert DepositAddress.objects.count() == Wallet.objects.count() == 2


def test_without_the_lock_the_second_one_fails(shared: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the lock is for: the unique constraints keep one address, but the other caller gets an error."""
    from threading import Barrier

    from django.db.models import QuerySet

    user = User.objects.create(email="ann@example.org")
    both, index_next = Barrier(2), addresses._index_next

    def late() -> int:
        both.wait(10)
        return index_next()

    monkeypatch.setattr(QuerySet, "select_for_update", lambda self, **_: self)
    monkeypatch.setattr(addresses, "_index_next", late)

    results = at_once(*[lambda: deposit_address_open(user_id=user.pk).address] * 2)

    assert sorted(type(one).__name__ for one in results) == ["IntegrityError", "str"]
