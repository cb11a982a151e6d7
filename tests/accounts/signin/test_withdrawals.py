"""Whoever has a second factor is asked for it before money leaves: from enrolment to the approved withdrawal."""

import pytest

from apps.accounts import second_factor
from apps.accounts.domain import Scope
from apps.accounts.models import User
from apps.accounts.services import api_key_create
from apps.accounts.signin.factor import AllauthSecondFactor
from apps.ledger.domain import AccountKind
from apps.withdrawals.kinds import CHECK_WORK
from tests.accounts.signin.support import EMAIL, Person
from tests.core.api.support import ApiClient, problem
from tests.withdrawals.conftest import desk
from tests.withdrawals.support import Desk

WHOLE = 10**6
__all__ = ["desk"]


@pytest.mark.slow
def test_a_withdrawal_waits_for_the_code_of_the_app_and_no_used_one(desk: Desk) -> None:
    assert isinstance(second_factor.current(), AllauthSecondFactor)
    person = Person().sign_up()
    user = User.objects.get(email=EMAIL)
    client = ApiClient(api_key_create(user_id=user.pk, name="test", scopes=tuple(Scope)).key)
    desk.fund(user, "USDC", 1_000 * WHOLE)
    destination = desk.destination(user)

    def withdraw(number: int) -> str:
        body = {"asset": "USDC", "amount": "100", "destination": destination}
        answer = client.post("/api/v1/withdrawals", body, idempotency_key=f"w{number}")
        assert answer.status_code == 201, answer.content
        desk.step(CHECK_WORK)
        return f"/api/v1/withdrawals/{answer.json()['id']}"

    before = withdraw(1)
    assert client.get(before).json()["state"] == "approved"

    codes = person.totp_add()
    first, second = withdraw(2), withdraw(3)

    assert [client.get(url).json()["state"] for url in (first, second)] == ["awaiting_confirmation"] * 2
    problem(client.post(f"{first}/confirm", {"code": "000000"}), 400, "wrong_code")
    code = person.totp()
    assert client.post(f"{first}/confirm", {"code": code}).json()["state"] == "approved"
    problem(client.post(f"{second}/confirm", {"code": code}), 400, "wrong_code")
    assert client.post(f"{second}/confirm", {"code": codes[0]}).json()["state"] == "approved"
    assert desk.balance(user, "USDC", AccountKind.HELD) == 300 * WHOLE
