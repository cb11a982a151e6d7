"""Codes, tickets and tokens of the launch. Of each only a digest is stored."""

import hmac
import secrets
from hashlib import sha256
from uuid import UUID

from django.conf import settings

# Without the letters and digits that people mix up when they read one aloud.
_ALPHABET = "ABCDEFGHJKMNPQRSTUVWXYZ23456789"
REFERRAL_LENGTH = 8


def code_make() -> str:
    """Six digits."""
    return f"{secrets.randbelow(1_000_000):06d}"


def code_hash(*, entry_id: UUID, code: str) -> str:
    """Keyed: a million possibilities would be tried in a second by whoever sees a plain hash."""
    text = f"launch.waitlist.code\0{entry_id}\0{code}"
    return hmac.digest(settings.SECRET_KEY.encode(), text.encode(), sha256).hex()


def token_make() -> str:
    """256 random bits: needs no slow hash."""
    return secrets.token_urlsafe(32)


def token_hash(token: str) -> str:
    return sha256(token.encode()).hexdigest()


def referral_code_make() -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(REFERRAL_LENGTH))
