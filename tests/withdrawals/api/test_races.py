"""Locks of destinations and requests: each race with the lock off, then with it on."""

from typing import Any

import pytest

from apps.core.errors import Conflict
from apps.withdrawals import services
from apps.withdrawals.models import Withdrawal, WithdrawalDestination
from tests.support.races import off_and_on, race
from tests.withdrawals.api.conftest import OUTSIDE, Office
from tests.withdrawals.api.conftest import USDC as WHOLE
from tests.withdrawals.support import topics

pytestmark = pytest.mark.django_db(transaction=True)


@off_and_on
def test_destinations_are_counted_one_request_after_another(
    office: Office, settings: Any, locked: bool
) -> None:
    settings.WITHDRAWAL_DESTINATIONS_PER_PERSON = 2

    def add(digits: str) -> WithdrawalDestination:
        return services.destination_add(user_id=office.user.pk, address="0x" + digits * 20, label="new")

    _, answer = race(
        lambda: add("12"), lambda: add("34"), lock=r'FROM "accounts_user"', locked=locked, read="COUNT"
    )

    assert isinstance(answer, Conflict) is locked
    assert WithdrawalDestination.objects.count() == (2 if locked else 3)


@off_and_on
def test_no_withdrawal_waits_for_a_destination_that_was_removed(office: Office, locked: bool) -> None:
    kept = WithdrawalDestination.objects.get()

    def request() -> Withdrawal:
        return services.withdrawal_request(
            user_id=office.user.pk, asset=office.usdc, amount_units=100 * WHOLE, destination=OUTSIDE
        )

    def remove() -> None:
        services.destination_remove(user_id=office.user.pk, destination_id=kept.pk)

    _, answer = race(
        request, remove, lock=r'FROM "accounts_user"', locked=locked, read='FROM "withdrawals_withdrawal" '
    )

    assert Withdrawal.objects.count() == 1
    assert WithdrawalDestination.objects.filter(removed_at__isnull=True).exists() is locked
    assert isinstance(answer, Conflict) is locked


@off_and_on
def test_a_withdrawal_is_called_off_once(office: Office, locked: bool) -> None:
    row = office.row()

    def cancel() -> Withdrawal:
        return services.withdrawal_cancel(user_id=office.user.pk, withdrawal_id=row.pk)

    _, answer = race(cancel, cancel, lock=r'FROM "withdrawals_withdrawal" ', locked=locked)

    # Without the lock the compare-and-swap of the move is what stands between.
    assert isinstance(answer, Withdrawal) is locked
    assert topics(row).count("withdrawal.cancelled") == 1
    assert office.balance() == 1_000 * WHOLE
