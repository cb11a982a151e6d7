"""What an API key may do, and what it looks like. Pure: no database here."""

import re
import secrets
import string
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256

_ALPHABET = string.ascii_lowercase + string.digits
PREFIX_LENGTH = 12
# 50 characters of 36 carry 258 bits.
SECRET_LENGTH = 50
_TOKEN = re.compile(rf"trn_([a-z0-9]{{{PREFIX_LENGTH}}})_([a-z0-9]{{{SECRET_LENGTH}}})", re.ASCII)


class Scope(StrEnum):
    """What a key is allowed. A view names one per method."""

    PLANS_READ = "plans:read"
    PLANS_WRITE = "plans:write"
    DEPOSITS_READ = "deposits:read"
    BALANCES_READ = "balances:read"
    EVENTS_READ = "events:read"
    FEES_READ = "fees:read"
    MARKETS_READ = "markets:read"
    WITHDRAWALS_READ = "withdrawals:read"
    WITHDRAWALS_WRITE = "withdrawals:write"
    KEYS_READ = "keys:read"
    KEYS_WRITE = "keys:write"


@dataclass(frozen=True)
class Token:
    """An API key as its holder has it: `trn_<prefix>_<secret>`. Never stored, never logged."""

    prefix: str
    secret: str

    @property
    def secret_hash(self) -> str:
        return sha256(self.secret.encode()).hexdigest()

    def reveal(self) -> str:
        return f"trn_{self.prefix}_{self.secret}"

    def __repr__(self) -> str:
        return f"Token(trn_{self.prefix}_…)"


def token_make() -> Token:
    def pick(length: int) -> str:
        return "".join(secrets.choice(_ALPHABET) for _ in range(length))

    return Token(pick(PREFIX_LENGTH), pick(SECRET_LENGTH))


def token_parse(text: str) -> Token | None:
    """`None` for anything that is not exactly of the form."""
    found = _TOKEN.fullmatch(text)
    return Token(*found.groups()) if found else None
