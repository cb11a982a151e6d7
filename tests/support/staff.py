"""Somebody of the staff at the admin."""

from django.contrib.auth.models import Permission
from django.test import Client

from apps.accounts.models import User


def browser(*permissions: str) -> Client:
    """A new one of the staff who has these permissions ("view_rescan") and signed in."""
    user = User.objects.create(email=f"op{User.objects.count()}@example.org", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client
