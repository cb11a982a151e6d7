"""Where allauth asks the house: whom it lets in, what it sends, what it keeps secret, and from where people come."""

from typing import Any

import requests
from allauth.account import app_settings as account_settings
from allauth.account.adapter import DefaultAccountAdapter
from allauth.core.exceptions import ReauthenticationRequired
from allauth.core.internal import ratelimit
from allauth.headless.adapter import DefaultHeadlessAdapter
from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.socialaccount.adapter import DefaultSocialAccountAdapter
from django.conf import settings
from django.db import transaction
from django.http import HttpRequest

from apps.accounts import signup_gate
from apps.accounts.models import User
from apps.accounts.signin import secrets, stepup
from apps.accounts.signin.client import ProviderSession
from apps.accounts.signin.notices import mail_queue, notice
from apps.core.api.client_address import client_address
from apps.core.api.problems import ProblemError

# Template of `apps.mail` for each of allauth's, and what of its context goes into the message.
_MAILS: dict[str, tuple[str, dict[str, Any]]] = {
    "account/email/email_confirmation_signup": ("code", {}),
    "account/email/email_confirmation": ("code", {}),
    "account/email/password_reset_code": ("password_reset_code", {}),
    "account/email/unknown_account": ("unknown_account", {}),
    "account/email/account_already_exists": ("account_exists", {}),
    "account/email/password_changed": ("password_changed", {}),
    "account/email/password_set": ("password_changed", {}),
    "account/email/password_reset": ("password_reset", {}),
    "account/email/email_changed": ("email_changed", {}),
    "mfa/email/totp_activated": ("factor_added", {"factor": "totp"}),
    "mfa/email/totp_deactivated": ("factor_removed", {"factor": "totp"}),
    "mfa/email/webauthn_added": ("factor_added", {"factor": "passkey"}),
    "mfa/email/webauthn_removed": ("factor_removed", {"factor": "passkey"}),
    "mfa/email/recovery_codes_generated": ("recovery_codes_made", {}),
    "socialaccount/email/account_connected": ("provider_connected", {"provider": "Google"}),
    "socialaccount/email/account_disconnected": ("provider_removed", {"provider": "Google"}),
}
_MINUTES = {
    "code": lambda: account_settings.EMAIL_VERIFICATION_BY_CODE_TIMEOUT // 60,
    "password_reset_code": lambda: account_settings.PASSWORD_RESET_BY_CODE_TIMEOUT // 60,
}
# allauth tells of these two only after the commit, when a kill would lose the message: the views tell of them before.
_TOLD_BY_VIEWS = {"mfa/email/totp_activated", "mfa/email/recovery_codes_generated"}
# Of a password, from all addresses together: what a thousand addresses may try that axes counts one by one.
_PASSWORD_RATE = {"password": "100/h/key"}


class AccountAdapter(DefaultAccountAdapter):  # type: ignore[misc]
    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return signup_gate.current().open_for(invitation=getattr(request, "invitation", ""))

    def get_client_ip(self, request: HttpRequest) -> str:
        return client_address(request)

    def generate_email_verification_code(self) -> str:
        return secrets.digits(6)

    def pre_authenticate(self, request: HttpRequest, **credentials: Any) -> None:
        """Tries per (email, address) are axes' to count; here those of one email from everywhere."""
        self._login_failed_rl_usage = ratelimit.consume(
            request,
            app="allauth.account",
            action="password",
            config=_PASSWORD_RATE,
            key=str(credentials.get("email", "")).lower(),
        )
        if not self._login_failed_rl_usage:
            raise self.validation_error("too_many_login_attempts")

    def is_reauthentication_required(self, *, app: str, **kwargs: Any) -> bool:
        """Not by allauth's own rule, which takes a password from people who have a second factor: by ours."""
        del app, kwargs
        if not stepup.is_fresh(self.request):
            raise ReauthenticationRequired
        return False

    def set_password(self, user: Any, password: str) -> None:
        """The password's column alone, under the person's lock: allauth would write back a whole row read before."""
        if user._state.adding:
            super().set_password(user, password)
            return
        with transaction.atomic():
            if not User.objects.select_for_update(no_key=True).filter(pk=user.pk, is_active=True).exists():
                raise ProblemError("flow_expired")
            user.set_password(password)
            user.save(update_fields=["password"])

    def send_account_already_exists_mail(self, email: str) -> None:
        self.send_mail("account/email/account_already_exists", email, {})

    def send_notification_mail(
        self,
        template_prefix: str,
        user: Any,
        context: dict[str, Any] | None = None,
        email: str | None = None,
    ) -> None:
        if template_prefix not in _TOLD_BY_VIEWS:
            super().send_notification_mail(template_prefix, user, context=context, email=email)

    def send_mail(self, template_prefix: str, email: str, context: dict[str, Any]) -> None:
        """Queue allauth's mail as one of ours, in the request's transaction. Codes are in no log and no task."""
        template, fixed = _MAILS[template_prefix]
        mail_queue(template, to=email, context={**_context(template, context, self.request), **fixed})


def _context(template: str, given: dict[str, Any], request: HttpRequest) -> dict[str, Any]:
    if "code" in given:
        return {"code": given["code"], "minutes": _MINUTES[template]()}
    emails: dict[str, Any] = {name: given[name] for name in ("from_email", "to_email") if name in given}
    return {**notice(request), **emails}


class MfaAdapter(DefaultMFAAdapter):  # type: ignore[misc]
    """Secrets of factors are encrypted at rest; passkeys belong to one domain, wherever the API answers."""

    def encrypt(self, text: str) -> str:
        return secrets.seal(text)

    def decrypt(self, encrypted_text: str) -> str:
        return secrets.unseal(encrypted_text)

    def get_public_key_credential_rp_entity(self) -> dict[str, str]:
        found: dict[str, str] = super().get_public_key_credential_rp_entity()
        return {"id": settings.PASSKEY_DOMAIN or found["id"], "name": settings.MFA_TOTP_ISSUER}


class SocialAdapter(DefaultSocialAccountAdapter):  # type: ignore[misc]
    def is_open_for_signup(self, request: HttpRequest, sociallogin: Any) -> bool:
        """Raises `SignUpRefused`: only here is it known that this would be a new person, and their email."""
        email = str(getattr(sociallogin.user, "email", "") or "")
        signup_gate.current().check(email=email, invitation=getattr(request, "invitation", ""))
        return True

    def get_requests_session(self) -> requests.Session:
        return ProviderSession()


class HeadlessAdapter(DefaultHeadlessAdapter):  # type: ignore[misc]
    def serialize_user(self, user: Any) -> dict[str, Any]:
        return {"id": str(user.pk), "email": user.email} if isinstance(user, User) else {}
