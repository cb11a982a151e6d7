"""What happened to a person's account, as events in the request's transaction.

allauth's signals say when. Those of TOTP and of recovery codes come after the commit, when a kill would lose the fact,
so that their views call `fact` themselves.
"""

from typing import Any
from uuid import UUID

from allauth.account import signals as account
from allauth.account.models import EmailAddress
from allauth.mfa import signals as mfa
from allauth.mfa.models import Authenticator
from allauth.socialaccount import signals as social

from apps.accounts import signup_gate
from apps.accounts.models import User
from apps.events.services import EventDraft, events_publish
from apps.mail.services import message_queue

_FACTOR = {Authenticator.Type.WEBAUTHN: "passkey", Authenticator.Type.TOTP: "totp"}


def fact(topic: str, user_id: UUID, **payload: Any) -> None:
    events_publish([EventDraft(topic, "person", user_id, payload)])


def connect() -> None:
    """Called once, by the AppConfig."""
    account.user_signed_up.connect(_signed_up)
    account.email_confirmed.connect(_email_verified)
    account.email_changed.connect(_email_changed)
    account.password_changed.connect(_password_changed)
    account.password_set.connect(_password_changed)
    account.password_reset.connect(_password_reset)
    mfa.authenticator_added.connect(_factor_added)
    mfa.authenticator_removed.connect(_factor_removed)
    social.social_account_added.connect(_provider_connected)
    social.social_account_removed.connect(_provider_removed)


def _signed_up(request: Any, user: Any, **_: Any) -> None:
    signup_gate.current().used(
        user_id=user.pk, email=user.email, invitation=getattr(request, "invitation", "")
    )
    fact("person.signed_up", user.pk)
    # A provider's word for the email: then allauth does not say that it was confirmed.
    if EmailAddress.objects.filter(user=user, verified=True).exists():
        _welcome(user)


def _email_verified(email_address: EmailAddress, **_: Any) -> None:
    fact("person.email_verified", email_address.user_id)
    # When the email changes, the one before is still there.
    others = EmailAddress.objects.filter(user_id=email_address.user_id, verified=True)
    if not others.exclude(pk=email_address.pk).exists():
        _welcome(email_address.user)


def _welcome(user: User) -> None:
    """Once in an account's life, when its first email is proved."""
    message_queue(
        to=user.email, template="welcome", context={}, key=f"email_verified:{user.pk}:welcome", essential=True
    )


def _email_changed(user: Any, from_email_address: Any, **_: Any) -> None:
    # allauth says so of the first one, too.
    if from_email_address is not None:
        fact("person.email_changed", user.pk)


def _password_changed(user: Any, **_: Any) -> None:
    fact("person.password_changed", user.pk)


def _password_reset(user: Any, **_: Any) -> None:
    fact("person.password_reset", user.pk)


def _factor_added(user: Any, authenticator: Authenticator, **_: Any) -> None:
    if authenticator.type == Authenticator.Type.WEBAUTHN:
        fact("person.factor_added", user.pk, factor="passkey")


def _factor_removed(user: Any, authenticator: Authenticator, **_: Any) -> None:
    # Recovery codes go with the last factor: no fact of their own.
    if authenticator.type in _FACTOR:
        fact("person.factor_removed", user.pk, factor=_FACTOR[authenticator.type])


def _provider_connected(sociallogin: Any, **_: Any) -> None:
    fact("person.provider_connected", sociallogin.user.pk, provider=sociallogin.account.provider)


def _provider_removed(socialaccount: Any, **_: Any) -> None:
    fact("person.provider_removed", socialaccount.user_id, provider=socialaccount.provider)
