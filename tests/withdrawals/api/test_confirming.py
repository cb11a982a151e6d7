"""Confirming a withdrawal with a second factor over REST."""

import threading
from typing import Any

import pytest
from django.db import connection

from apps.accounts import second_factor
from apps.accounts.models import User
from apps.withdrawals.domain import WithdrawalState
from apps.withdrawals.models import Withdrawal
from apps.withdrawals.moves import withdrawals_move
from tests.core.api.support import problem
from tests.withdrawals.api.conftest import USDC, Office, everything

pytestmark = pytest.mark.django_db(transaction=True)
URL = "/api/v1/withdrawals"


class Codes:
    """A factor of one person: each code of the list is right once."""

    def __init__(self, user: User, codes: set[str]) -> None:
        self.user, self.codes = user, codes

    def enrolled(self, *, user_ids: Any) -> set[Any]:
        return {self.user.pk} & set(user_ids)

    def verify(self, *, user_id: Any, code: str, purpose: str) -> bool:
        if user_id != self.user.pk or code not in self.codes:
            return False
        self.codes.remove(code)
        return True


@pytest.fixture
def waiting(office: Office) -> Withdrawal:
    from django.db import transaction

    second_factor.install(Codes(office.user, {"123456"}))
    row = office.row()
    with transaction.atomic():
        withdrawals_move([row], WithdrawalState.AWAITING_CONFIRMATION)
    return row


def test_the_right_code_confirms(office: Office, waiting: Withdrawal) -> None:
    answer = office.client.post(f"{URL}/{waiting.pk}/confirm", {"code": "123456"})

    assert (answer.status_code, answer.json()["state"]) == (200, "approved")
    problem(
        office.client.post(f"{URL}/{waiting.pk}/confirm", {"code": "123456"}),
        409,
        "not_awaiting_confirmation",
    )


def test_wrong_codes_are_counted_and_the_fifth_calls_it_off(office: Office, waiting: Withdrawal) -> None:
    said = [
        problem(
            office.client.post(f"{URL}/{waiting.pk}/confirm", {"code": "000000"}),
            400,
            "wrong_code",
            errors=[("/code", "wrong_code")],
        )["detail"]
        for _ in range(5)
    ]

    assert said[0] == "The code is wrong. 4 tries left."
    assert said[4] == "The code is wrong. The withdrawal was called off."
    waiting.refresh_from_db()
    assert (waiting.state, waiting.reason) == ("cancelled", "confirmation_failed")
    assert office.balance() == 1_000 * USDC
    problem(
        office.client.post(f"{URL}/{waiting.pk}/confirm", {"code": "123456"}),
        409,
        "not_awaiting_confirmation",
    )


@pytest.mark.parametrize(
    ("body", "pointer", "code"),
    [
        ({}, "/code", "required"),
        ({"code": None}, "/code", "null"),
        ({"code": 123456}, "/code", "invalid"),
        ({"code": ""}, "/code", "blank"),
        ({"code": "1" * 65}, "/code", "max_length"),
        ({"code": ["123456"]}, "/code", "invalid"),
        ({"code": "12\x003456"}, "/code", "invalid_character"),
        ({"code": "123456", "extra": 1}, "/extra", "unknown_field"),
    ],
)
def test_a_malformed_code_costs_no_try(
    office: Office, waiting: Withdrawal, body: dict[str, Any], pointer: str, code: str
) -> None:
    before = everything()
    problem(
        office.client.post(f"{URL}/{waiting.pk}/confirm", body),
        400,
        "validation_failed",
        errors=[(pointer, code)],
    )
    assert everything() == before


def test_many_wrong_codes_at_once_are_no_more_than_five_tries(office: Office, waiting: Withdrawal) -> None:
    answers: list[int] = []

    def guess() -> None:
        try:
            answers.append(office.client.post(f"{URL}/{waiting.pk}/confirm", {"code": "999999"}).status_code)
        finally:
            connection.close()

    threads = [threading.Thread(target=guess) for _ in range(9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(answers) == [400] * 5 + [409] * 4
    waiting.refresh_from_db()
    assert waiting.state == "cancelled"
