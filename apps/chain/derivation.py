"""Addresses from one extended key (BIP-32, BIP-44 `m/44'/60'/0'/0/index`), without any private key.

The extended *public* key of the account level makes the addresses, anywhere. The extended *private* key is known
to the signing worker alone, which derives one key for the length of one signature.
"""

import secrets
from functools import lru_cache

from bip32 import BIP32
from coincurve import PublicKey

from apps.chain.abi import address_of_public
from apps.chain.errors import DerivationError

ACCOUNT = "m/44h/60h/0h"
EXTERNAL = 0  # BIP-44: the chain of addresses that are shown to others
INDEX_MAX = (1 << 31) - 1


@lru_cache(maxsize=4)
def _external(xpub: str) -> BIP32:
    """The node above all addresses, derived once per process."""
    try:
        account = BIP32.from_xpub(xpub)
        return BIP32.from_xpub(account.get_xpub_from_path([EXTERNAL]))
    except Exception:  # noqa: BLE001 — the library's message may repeat what it was given
        raise DerivationError("DEPOSIT_XPUB is not an extended public key") from None


def account_make() -> tuple[str, str]:
    """A new account from fresh randomness: its extended public and private key (`m/44'/60'/0'`)."""
    master = BIP32.from_seed(secrets.token_bytes(64))
    return str(master.get_xpub_from_path(ACCOUNT)), str(master.get_xpriv_from_path(ACCOUNT))


def address_at(*, xpub: str, index: int) -> str:
    """The address (lower case) at `index`, 0 to 2**31 - 1. Raises `DerivationError`."""
    if not 0 <= index <= INDEX_MAX:
        raise DerivationError("the index is out of range")
    compressed = _external(xpub).get_pubkey_from_path([index])
    return address_of_public(PublicKey(compressed).format(compressed=False))


def key_at(*, xprv: str, index: int) -> bytes:
    """The private key at `index`. For the signer; raises `DerivationError` without repeating the key."""
    failure = ""
    try:
        return bytes(BIP32.from_xpriv(xprv).get_privkey_from_path([EXTERNAL, index]))
    except Exception:  # noqa: BLE001 — the library's message may hold the key
        failure = "SIGNER_DEPOSIT_XPRV is not an extended private key"
    raise DerivationError(failure)
