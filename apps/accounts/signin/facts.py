"""What happened to a person's account: an event and an audit record in the request's transaction.

allauth's signals say when. Those of TOTP and of recovery codes come after the commit, when a kill would lose the fact,
so that their views call `fact` themselves.
"""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from allauth.account import signals as account
from allauth.account.models import EmailAddress
from allauth.mfa import signals as mfa
from allauth.mfa.models import Authenticator
from allauth.socialaccount import signals as social

from apps.accounts import signup_gate
from apps.accounts.audit import audit_record
from apps.accounts.audit.recording import email_hint
from apps.accounts.models import User
from apps.events.services import EventDraft, events_publish
from apps.mail.services import message_queue

_FACTOR = {Authenticator.Type.WEBAUTHN: "passkey", Authenticator.Type.TOTP: "totp"}


Values = Mapping[str, Any] | None


def fact(topic: str, user_id: UUID, *, before: Values = None, after: Values = None, **payload: Any) -> None:
    """The person did something to their account: `payload` is for them, `before` and `after` for the audit log."""
    events_publish([EventDraft(topic, "person", user_id, payload)])
    noted(topic, user_id, before=before, after=after)


def noted(action: str, user_id: UUID, *, before: Values, after: Values) -> None:
    """For the audit log alone. Never a secret; names of people as hints, since nothing here can be erased."""
    audit_record(
        actor=user_id, action=action, target_type="user", target_id=user_id, before=before, after=after
    )


def factor_values(authenticator: Authenticator) -> dict[str, Any]:
    """A factor as the audit log shows it."""
    values = {"factor": _FACTOR[authenticator.type], "added_at": authenticator.created_at}
    return {**values, "name": authenticator.data["name"]} if "name" in authenticator.data else values


def recovery_values(user_id: UUID) -> dict[str, int] | None:
    """How many recovery codes a person has left, as the audit log shows it; None for none made."""
    row = Authenticator.objects.filter(user_id=user_id, type=Authenticator.Type.RECOVERY_CODES).first()
    return None if row is None else {"codes_left": len(row.wrap().get_unused_codes())}


def connect() -> None:
    """Called once, by the AppConfig."""
    account.user_signed_up.connect(_signed_up)
    account.email_confirmed.connect(_email_verified)
    account.email_changed.connect(_email_changed)
    account.password_changed.connect(_password_changed)
    account.password_set.connect(_password_set)
    account.password_reset.connect(_password_reset)
    mfa.authenticator_added.connect(_factor_added)
    mfa.authenticator_removed.connect(_factor_removed)
    social.social_account_added.connect(_provider_connected)
    social.social_account_removed.connect(_provider_removed)


def _signed_up(request: Any, user: Any, sociallogin: Any = None, **_: Any) -> None:
    signup_gate.current().used(
        user_id=user.pk, email=user.email, invitation=getattr(request, "invitation", "")
    )
    by = sociallogin.account.provider if sociallogin is not None else "password"
    fact("person.signed_up", user.pk, after={"email": email_hint(user.email), "by": by})
    # A provider's word for the email: then allauth does not say that it was confirmed.
    if EmailAddress.objects.filter(user=user, verified=True).exists():
        _welcome(user)


def _email_verified(email_address: EmailAddress, **_: Any) -> None:
    fact("person.email_verified", email_address.user_id, after={"email": email_hint(email_address.email)})
    # When the email changes, the one before is still there.
    others = EmailAddress.objects.filter(user_id=email_address.user_id, verified=True)
    if not others.exclude(pk=email_address.pk).exists():
        _welcome(email_address.user)


def _welcome(user: User) -> None:
    """Once in an account's life, when its first email is proved."""
    message_queue(
        to=user.email, template="welcome", context={}, key=f"email_verified:{user.pk}:welcome", essential=True
    )


def _email_changed(user: Any, from_email_address: Any, to_email_address: Any, **_: Any) -> None:
    # allauth says so of the first one, too.
    if from_email_address is not None:
        before, after = ({"email": email_hint(one.email)} for one in (from_email_address, to_email_address))
        fact("person.email_changed", user.pk, before=before, after=after)


def _password_changed(user: Any, **_: Any) -> None:
    fact("person.password_changed", user.pk, before={"has_password": True}, after={"has_password": True})


def _password_set(user: Any, **_: Any) -> None:
    fact("person.password_changed", user.pk, before={"has_password": False}, after={"has_password": True})


def _password_reset(user: Any, **_: Any) -> None:
    fact("person.password_reset", user.pk, after={"has_password": True})


def _factor_added(user: Any, authenticator: Authenticator, **_: Any) -> None:
    if authenticator.type == Authenticator.Type.WEBAUTHN:
        fact("person.factor_added", user.pk, after=factor_values(authenticator), factor="passkey")


def _factor_removed(user: Any, authenticator: Authenticator, **_: Any) -> None:
    # Recovery codes go with the last factor: no fact of their own.
    if authenticator.type in _FACTOR:
        before = factor_values(authenticator)
        fact("person.factor_removed", user.pk, before=before, factor=_FACTOR[authenticator.type])


def _provider_connected(sociallogin: Any, **_: Any) -> None:
    account = sociallogin.account
    after = {"provider": account.provider, "id": account.pk}
    fact("person.provider_connected", sociallogin.user.pk, after=after, provider=account.provider)


def _provider_removed(socialaccount: Any, **_: Any) -> None:
    # Its row is gone: its id, too.
    before = {"provider": socialaccount.provider}
    fact("person.provider_removed", socialaccount.user_id, before=before, provider=socialaccount.provider)
