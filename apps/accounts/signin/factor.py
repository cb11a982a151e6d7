"""The second factor on allauth's authenticators: for signing in, and for the rooms above (`accounts.second_factor`)."""

import time
from collections.abc import Collection
from hashlib import sha256
from uuid import UUID

from allauth.core.internal import ratelimit
from allauth.mfa import app_settings
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value
from allauth.mfa.utils import decrypt
from django.db import transaction
from django.http import HttpRequest
from django.utils.crypto import constant_time_compare

from apps.accounts.audit.origin import request_current
from apps.accounts.models import User
from apps.accounts.signin import secrets
from apps.accounts.signin.counts import MARKS
from apps.accounts.signin.facts import fact, recovery_values
from apps.accounts.signin.notices import mail_queue, notice

# What a person must show once they have it. Recovery codes alone are none: they only stand in.
FACTORS = (Authenticator.Type.TOTP, Authenticator.Type.WEBAUTHN)
# A code that a passkey was shown for lasts this long: time for the client to send it on.
PASSKEY_CODE_SECONDS = 120


def has_factor(user_id: UUID) -> bool:
    return bool(Authenticator.objects.filter(user_id=user_id, type__in=FACTORS).exists())


def code_spend(*, user_id: UUID, code: str) -> Authenticator | None:
    """The authenticator for which `code` is right, and used up with that; `None` when it is for none.

    In the caller's transaction, which decides whether it counts.
    """
    text = code.replace(" ", "").replace("-", "")
    for authenticator in Authenticator.objects.filter(user_id=user_id).exclude(
        type=Authenticator.Type.WEBAUTHN
    ):
        if authenticator.type == Authenticator.Type.TOTP:
            right = totp_spend(authenticator, text)
        else:
            right = bool(authenticator.wrap().validate_code(text))
        if right:
            if authenticator.type == Authenticator.Type.RECOVERY_CODES:
                _recovery_told(user_id)
            found: Authenticator = authenticator
            return found
    return None


def _recovery_told(user_id: UUID) -> None:
    """A recovery code was used up: whoever finds the sheet of paper must not stay unseen."""
    after = recovery_values(user_id) or {"codes_left": 0}
    left = after["codes_left"]
    fact(
        "person.recovery_code_used",
        user_id,
        before={"codes_left": left + 1},
        after=after,
        codes_left=left,
    )
    email = User.objects.values_list("email", flat=True).get(pk=user_id)
    mail_queue("recovery_code_used", to=email, context={**notice(request_current()), "codes_left": left})


def totp_spend(authenticator: Authenticator, code: str) -> bool:
    """Whether `code` is right now and newer than any that was used; then it and all before it are used up.

    RFC 6238, section 5.2. Locks the authenticator's row: of two requests with one code, one is told True.
    """
    counter = int(time.time()) // app_settings.TOTP_PERIOD
    steps = range(counter - app_settings.TOTP_TOLERANCE, counter + app_settings.TOTP_TOLERANCE + 1)
    with transaction.atomic():
        row = Authenticator.objects.select_for_update().get(pk=authenticator.pk)
        secret, used = decrypt(row.data["secret"]), int(row.data.get("used_counter", -1))
        for step in steps:
            if step > used and constant_time_compare(format_hotp_value(hotp_value(secret, step)), code):
                row.data["used_counter"] = step
                row.save(update_fields=["data"])
                return True
    return False


def passkey_code_make(*, user_id: UUID) -> str:
    """Eight digits that may stand in for the factor once: their holder has just shown a passkey."""
    code = secrets.digits(8)
    MARKS.set(_passkey_code(user_id, code), True, PASSKEY_CODE_SECONDS)
    return code


def _passkey_code(user_id: UUID, code: str) -> str:
    return "passkey-code:" + sha256(f"{user_id}:{code}".encode()).hexdigest()


class AllauthSecondFactor:
    """TOTP, a recovery code, or the one-time code that a passkey was shown for."""

    def enrolled(self, *, user_ids: Collection[UUID]) -> set[UUID]:
        found = Authenticator.objects.filter(user_id__in=user_ids, type__in=FACTORS)
        return set(found.values_list("user_id", flat=True))

    def verify(self, *, user_id: UUID, code: str, purpose: str) -> bool:
        """Tries count together with those of signing in: `ACCOUNT_RATE_LIMITS["login_failed"]` per person."""
        del purpose
        # No request of anybody's: only its method is looked at.
        request = HttpRequest()
        request.method = "POST"
        counted = {"app": "allauth.account", "action": "login_failed", "key": f"mfa-auth-user-{user_id}"}
        if not ratelimit.consume(request, **counted):
            return False
        right = MARKS.take(_passkey_code(user_id, code))
        if not right:
            authenticator = code_spend(user_id=user_id, code=code)
            right = authenticator is not None
            if authenticator is not None:
                authenticator.record_usage()
        if right:
            ratelimit.clear(request, **counted)
        return right
