"""What the database itself holds about people and keys, and that a busy row does not block a request."""

import threading

import pytest
from django.contrib.auth import authenticate
from django.db import IntegrityError, connection, transaction
from django.test import RequestFactory

from apps.accounts.domain import Token, token_make, token_parse
from apps.accounts.models import ApiKey, User
from apps.accounts.services import user_create
from tests.core.api.support import user_with_key


@pytest.mark.django_db
@pytest.mark.parametrize("email", ["ann@example.org", "Ann@example.org"])
def test_email_is_unique_and_lower_case_even_by_sql(email: str) -> None:
    user_create(email="ann@example.org")
    with pytest.raises(IntegrityError), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO accounts_user (id, email, password, is_superuser, is_active, is_staff, created_at)"
            " VALUES (gen_random_uuid(), %s, '', false, true, false, now())",
            [email],
        )
    assert User.objects.count() == 1


@pytest.mark.django_db
def test_secret_can_only_be_stored_as_a_hash() -> None:
    user = user_create(email="ann@example.org")
    with pytest.raises(IntegrityError), transaction.atomic():
        ApiKey.objects.create(user=user, name="n", prefix="p", secret_hash="plain text secret", scopes=[])


@pytest.mark.django_db
def test_login_by_email_whatever_its_case() -> None:
    request = RequestFactory().post("/")
    user = user_create(email="Ann@Example.org", password="correct horse battery")
    assert authenticate(request, username="ANN@example.org", password="correct horse battery") == user
    assert authenticate(request, username="ann@example.org", password="wrong") is None
    user_create(email="bob@example.org")
    assert authenticate(request, username="bob@example.org", password="") is None


@pytest.mark.django_db(transaction=True)
def test_row_that_somebody_holds_does_not_block_a_request() -> None:
    _, client = user_with_key()
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction.atomic():
            ApiKey.objects.select_for_update().get()
            held.set()
            done.wait(20)
        connection.close()

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(10)
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '500ms'")
    response = client.get("/api/v1/me")
    with connection.cursor() as cursor:
        cursor.execute("RESET lock_timeout")
    done.set()
    thread.join(10)
    assert response.status_code == 200
    assert ApiKey.objects.get().last_used_at is None


def test_token_form_and_silence() -> None:
    token = token_make()
    assert token_parse(token.reveal()) == token
    assert token.secret not in repr(token)
    assert len({token_make().secret for _ in range(100)}) == 100
    for text in ("", "trn_", token.reveal() + "\n", token.reveal().upper(), " " + token.reveal()):
        assert token_parse(text) is None
    assert Token("p", "a").secret_hash != Token("p", "b").secret_hash
