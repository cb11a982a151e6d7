"""What django-allauth tells of passwords and step-ups, as it concerns sessions. Connected by `AccountsConfig`."""

from typing import Any

from allauth.account import signals
from django.dispatch import receiver
from django.http import HttpRequest

from apps.accounts import second_factor
from apps.accounts.models import User
from apps.accounts.tokens.services import password_changed, session_step_up
from apps.accounts.tokens.strategy import access_token_of


@receiver([signals.password_changed, signals.password_set, signals.password_reset])
def on_password(request: HttpRequest, user: User, **_: Any) -> None:
    """Who is signed in elsewhere is signed out: changing the password is what one does about a thief."""
    here = access_token_of(request)
    password_changed(user=user, keep=here.session_id if here else None)


@receiver(signals.authentication_step_completed)
def on_step(request: HttpRequest, user: User, method: str, **extra: Any) -> None:
    """A step-up counts when it showed the strongest that the person has."""
    here = access_token_of(request)
    if here is None or not extra.get("reauthenticated"):
        return
    if method != "mfa" and second_factor.current().enrolled(user_ids=[user.pk]):
        return
    session_step_up(session_id=here.session_id, factor=str(extra.get("type", method)))
