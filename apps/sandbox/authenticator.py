"""The operator's authenticator app: the sandbox has no phone."""

import time

from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value
from django.conf import settings

PERIOD_SECONDS = 30


def code_now(secret: str, *, steps: int = 0) -> str:
    """The code that an app would show, `steps` periods from now (RFC 6238)."""
    period = int(getattr(settings, "MFA_TOTP_PERIOD", PERIOD_SECONDS))
    code: str = format_hotp_value(hotp_value(secret, int(time.time()) // period + steps))
    return code
