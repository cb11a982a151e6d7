"""Operators look at the books and reverse journals; they change nothing else."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.test import Client

from apps.accounts.models import User
from apps.ledger.models import Account, Journal
from tests.ledger.conftest import Book, balance, books

pytestmark = pytest.mark.django_db


@pytest.fixture
def operator(db: None) -> Client:
    user = User.objects.create_superuser(email="op@example.org", password="a long enough phrase")
    client = Client()
    client.force_login(user)
    return client


def test_journals_are_found_by_reference_and_shown_with_their_entries(book: Book, operator: Client) -> None:
    book.post((book.available[0], -300), (book.available[1], 300), reference="slot:1:reserve")
    journal = Journal.objects.get(reference="slot:1:reserve")

    found = operator.get("/admin/ledger/journal/", {"q": "slot:1"})
    page = operator.get(f"/admin/ledger/journal/{journal.id}/change/")

    assert list(found.context["cl"].queryset) == [journal]
    assert f"-0.0003 {book.asset.code}" in page.content.decode()


def test_accounts_and_journals_are_found_by_their_owner_s_email(book: Book, operator: Client) -> None:
    owner = User.objects.create_user(
        email="ann@example.org", password="a long enough phrase", id=book.people[0]
    )

    accounts = operator.get("/admin/ledger/account/", {"q": "Ann@example.org"})
    journals = operator.get("/admin/ledger/journal/", {"q": owner.email})

    assert set(accounts.context["cl"].queryset) == set(Account.objects.filter(owner_id=owner.id))
    assert f"0.001 {book.asset.code}" in accounts.content.decode()
    assert journals.context["cl"].queryset.count() == 1


@pytest.mark.parametrize("model", ["account", "journal"])
def test_nothing_can_be_added_changed_or_deleted(book: Book, operator: Client, model: str) -> None:
    row = (Account if model == "account" else Journal).objects.first()
    assert row is not None
    before = books()

    assert operator.post(f"/admin/ledger/{model}/add/", {}).status_code == 403
    assert operator.post(f"/admin/ledger/{model}/{row.pk}/change/", {"kind": "gas"}).status_code == 403
    assert operator.post(f"/admin/ledger/{model}/{row.pk}/delete/", {"post": "yes"}).status_code == 403

    assert books() == before


def test_a_reversal_is_asked_about_first_and_then_done(
    book: Book, operator: Client, django_assert_num_queries: Callable[[int], Any]
) -> None:
    book.post((book.available[0], -300), (book.available[1], 300), reference="wrong")
    journal = Journal.objects.get(reference="wrong")
    form = {"action": "reverse", "_selected_action": str(journal.id)}

    asked = operator.post("/admin/ledger/journal/", form)
    assert "It cannot be taken back" in asked.content.decode()
    assert balance(book.available[1]) == 300

    operator.post("/admin/ledger/journal/", {**form, "reason": "typo"})
    assert balance(book.available[1]) == 0
    assert Journal.objects.get(reverses=journal).metadata["reason"] == "typo (by op@example.org)"


def test_who_may_only_look_cannot_reverse(book: Book) -> None:
    viewer = User.objects.create_user(email="v@example.org", password="a long enough phrase", is_staff=True)
    viewer.user_permissions.add(Permission.objects.get(codename="view_journal"))
    client = Client()
    client.force_login(viewer)
    before = books()
    journal = Journal.objects.get()

    client.post(
        "/admin/ledger/journal/",
        {"action": "reverse", "_selected_action": str(journal.id), "reason": "mine"},
    )

    assert books() == before
