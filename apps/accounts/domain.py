"""What an API key may do, and what it looks like. Pure: no database here."""

import re
import secrets
import string
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from hashlib import sha256
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

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
    ACCOUNT_READ = "account:read"
    ACCOUNT_WRITE = "account:write"
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


@lru_cache(maxsize=1_024)
def _network(text: str) -> IPv4Network | IPv6Network:
    return ip_network(text)


def network_canonical(text: str) -> str:
    """A network as it is kept: `203.0.113.0/24`, `2001:db8::/32`; an address alone is a network of one.

    Raises `ValueError`, also for an address inside of its network (`203.0.113.7/24`): which was meant?
    """
    if "%" in text:
        raise ValueError("a network has no scope")
    network = ip_network(text)
    mapped = network.network_address.ipv4_mapped if isinstance(network, IPv6Network) else None
    if mapped is not None and network.prefixlen >= 96:
        network = IPv4Network((mapped, network.prefixlen - 96))
    return str(network)


def address_parse(text: str) -> IPv4Address | IPv6Address | None:
    """An address, IPv4 in IPv6's clothes (`::ffff:203.0.113.7`) as IPv4; None for anything else."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def networks_contain(networks: Sequence[str], address: str | None) -> bool:
    """Whether a key of these networks may be used from `address`; without networks from anywhere."""
    if not networks:
        return True
    found = address_parse(address or "")
    return found is not None and any(found in _network(one) for one in networks)


def networks_within(inner: Iterable[str], outer: Sequence[str]) -> bool:
    """Whether nothing is in `inner` that is not in `outer`; no networks at all means everywhere."""
    inner = list(inner)
    if not outer:
        return True
    return bool(inner) and all(any(_inside(_network(a), _network(b)) for b in outer) for a in inner)


def _inside(a: IPv4Network | IPv6Network, b: IPv4Network | IPv6Network) -> bool:
    if isinstance(a, IPv4Network) and isinstance(b, IPv4Network):
        return a.subnet_of(b)
    return isinstance(a, IPv6Network) and isinstance(b, IPv6Network) and a.subnet_of(b)
