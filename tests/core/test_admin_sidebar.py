"""The operators' sidebar leads to every page of ours, and each of its links opens."""

import pytest
from django.conf import settings
from django.contrib import admin
from django.test import Client
from django.urls import reverse

from apps.accounts.models import User


def links() -> set[str]:
    return {
        str(item["link"]) for group in settings.UNFOLD["SIDEBAR"]["navigation"] for item in group["items"]
    }


def test_every_page_of_ours_is_in_the_sidebar() -> None:
    ours = {
        reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
        for model in admin.site._registry
        if model.__module__.startswith("apps.")
    }

    assert links() == ours


@pytest.mark.django_db
def test_every_link_opens() -> None:
    client = Client()
    client.force_login(User.objects.create(email="op@example.org", is_staff=True, is_superuser=True))

    assert {link: client.get(link).status_code for link in links()} == dict.fromkeys(links(), 200)
