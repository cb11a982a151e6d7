"""What django-allauth tells of: a new password signs out elsewhere, a step-up counts when it is the strongest one."""

from collections.abc import Collection, Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.apps import apps

from apps.accounts import second_factor
from apps.accounts.models import Session
from apps.accounts.tokens.domain import TokenPair
from apps.core import clock
from tests.accounts.tokens.support import request_of, signed_in
from tests.core.api.support import problem

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.skipif(
        not apps.is_installed("allauth.account"), reason="django-allauth is not installed here yet"
    ),
]


class EverybodyHasOne:
    def enrolled(self, *, user_ids: Collection[UUID]) -> set[UUID]:
        return set(user_ids)

    def verify(self, *, user_id: UUID, code: str, purpose: str) -> bool:
        return False


@pytest.fixture
def everybody_has_a_factor() -> Iterator[None]:
    before = second_factor.current()
    second_factor.install(EverybodyHasOne())
    yield
    second_factor.install(before)


def within(pair: TokenPair) -> Any:
    return request_of(authorization=f"Bearer {pair.access_token}")


@pytest.mark.parametrize("name", ["password_changed", "password_set", "password_reset"])
def test_new_password_signs_out_elsewhere(name: str) -> None:
    from allauth.account import signals

    user, pair, client = signed_in()
    _, _, elsewhere = signed_in()
    request = within(pair)
    if name == "password_reset":
        request = request_of()
    else:
        assert client.get("/api/v1/me").status_code == 200
        from apps.accounts.tokens.strategy import access_token_of

        access_token_of(request)  # as allauth's own look-up of its session does, before the password changes
    user.set_password("harbour Thimble 93")
    user.save()
    getattr(signals, name).send(sender=type(user), request=request, user=user)
    problem(elsewhere.get("/api/v1/me"), 401, "invalid_access_token")
    assert client.get("/api/v1/me").status_code == (401 if name == "password_reset" else 200)


def step(pair: TokenPair, method: str, **extra: Any) -> Session:
    from allauth.account import signals

    Session.objects.update(authenticated_at=clock.now() - timedelta(hours=1))
    user = Session.objects.get().user
    signals.authentication_step_completed.send(
        sender=type(user), request=within(pair), user=user, method=method, **extra
    )
    return Session.objects.get()


def fresh(session: Session) -> bool:
    return clock.now() - session.authenticated_at < timedelta(minutes=1)


def test_step_up_with_the_password_counts_for_who_has_nothing_stronger() -> None:
    _, pair, _ = signed_in()
    assert fresh(step(pair, "password", reauthenticated=True))
    assert not fresh(step(pair, "password")), "a sign-in's own step is none"


@pytest.mark.usefixtures("everybody_has_a_factor")
def test_step_up_wants_the_factor_of_who_has_one() -> None:
    _, pair, _ = signed_in()
    assert not fresh(step(pair, "password", reauthenticated=True))
    session = step(pair, "mfa", reauthenticated=True, type="totp", id=1)
    assert fresh(session)
    assert session.factors == ["password", "totp"]
