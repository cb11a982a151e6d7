"""An authenticator app: the sandbox has no phone."""

import time

from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value
from django.conf import settings

PERIOD_SECONDS = 30


class Authenticator:
    """A person's app for one secret. It shows no code twice: what was used, and all before it, is worthless."""

    def __init__(self, secret: str) -> None:
        self._secret = secret
        self._used = 0

    def code(self) -> str | None:
        """The oldest code that is still good here and now; None until the next period begins."""
        now = int(time.time()) // _period()
        tolerance = int(settings.MFA_TOTP_TOLERANCE)
        counter = max(self._used + 1, now - tolerance)
        # A code of the period before may be over when it arrives.
        if counter < now and time.time() % _period() > _period() - 2:
            counter = now
        if counter > now + tolerance:
            return None
        self._used = counter
        return _code(self._secret, counter)


def code_now(secret: str, *, steps: int = 0) -> str:
    """The code that an app would show, `steps` periods from now (RFC 6238)."""
    return _code(secret, int(time.time()) // _period() + steps)


def _code(secret: str, counter: int) -> str:
    code: str = format_hotp_value(hotp_value(secret, counter))
    return code


def _period() -> int:
    return int(getattr(settings, "MFA_TOTP_PERIOD", PERIOD_SECONDS))
