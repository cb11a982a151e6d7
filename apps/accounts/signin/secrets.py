"""Encryption for what allauth keeps as text: the secrets of second factors, and what a sign-in under way remembers."""

import base64
from secrets import randbelow

from django.conf import settings

from apps.core.crypto import decrypt, encrypt
from apps.core.keys import sealed_text

# Authenticators are encrypted before they have a row, so that the place is the column.
_FACTOR = "mfa_authenticator.data"

# What rotation moves: TOTP secrets, the seeds of recovery codes, and sessions, which would end with their key.
for _member in ("secret", "seed"):
    sealed_text("mfa_authenticator", "data", key="id", key_type="bigint", member=_member)
sealed_text("django_session", "session_data", key="session_key", key_type="text")


def digits(length: int) -> str:
    return f"{randbelow(10**length):0{length}d}"


def seal(text: str, *, place: str = _FACTOR) -> str:
    return base64.b64encode(encrypt(text.encode(), keys=settings.ENCRYPTION_KEYS, place=place)).decode()


def unseal(sealed: str, *, place: str = _FACTOR) -> str:
    """Raises `DecryptionError`."""
    return decrypt(base64.b64decode(sealed), keys=settings.ENCRYPTION_KEYS, place=place).decode()
