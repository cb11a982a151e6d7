"""Wallets and what the signer lets them do. Keys come in, and never go out again."""

import secrets
from uuid import UUID

from apps.chain import abi, signer
from apps.chain.models import SignerRule, Wallet, WalletCap
from apps.core.errors import Conflict, DomainError
from apps.core.ids import uuid7


def wallet_create(*, role: str, name: str = "") -> Wallet:
    """A new key pair. Needs SIGNER_KEYS: run it where the signer runs."""
    return wallet_import(key=secrets.token_bytes(32), role=role, name=name)


def wallet_import(*, key: bytes, role: str, name: str = "") -> Wallet:
    """Keep an existing key, encrypted; the same key again returns its wallet.

    Raises `DomainError` for what is not a private key, without repeating it, and `Conflict` for another role.
    """
    roles = [value for value in Wallet.Role.values if value != Wallet.Role.DEPOSIT]
    if role not in roles:
        raise DomainError("unknown_role", f"A wallet is one of: {', '.join(roles)}.", pointer="/role")
    wallet_id = uuid7()
    try:
        address = signer.address_of(key)
    except ValueError:
        address = ""
    if not address:
        raise DomainError(
            "invalid_key", "A private key is 32 bytes in the range of secp256k1.", pointer="/key"
        )
    known = Wallet.objects.filter(address=address).first()
    if known is not None:
        if known.role != role:
            raise Conflict("wallet_exists", f"The wallet exists with the role {known.role}.")
        return known
    return Wallet.objects.create(
        id=wallet_id,
        address=address,
        role=role,
        name=name,
        key_ciphertext=signer.key_encrypt(key, wallet_id=wallet_id),
    )


def deposit_wallet_open(*, address: str, index: int) -> Wallet:
    """The wallet of a person's deposit address, without a key of its own; asking again returns the same.

    Raises `Conflict` when the address or the index is known as something else.
    """
    Wallet.objects.bulk_create(
        [Wallet(address=address, role=Wallet.Role.DEPOSIT, derivation_index=index)], ignore_conflicts=True
    )
    wallet = Wallet.objects.filter(address=address, derivation_index=index).first()
    if wallet is None:
        raise Conflict("wallet_exists", "The address or the index belongs to another wallet.")
    return wallet


def wallet_cap_set(
    *, wallet_id: UUID, asset_id: UUID, per_transaction_units: int, daily_units: int
) -> WalletCap:
    """What the wallet may move of an asset, in base units, per transaction and per UTC day."""
    cap, _ = WalletCap.objects.update_or_create(
        wallet_id=wallet_id,
        asset_id=asset_id,
        defaults={"per_transaction_units": per_transaction_units, "daily_units": daily_units},
    )
    return cap


def signer_rule_allow(
    *,
    network_id: UUID,
    to: str,
    signature: str = "",
    amount_path: str = "",
    token_path: str = "",
    recipient_path: str = "",
    recipient: str = "",
    wallet_role: str = "",
    counts_daily: bool = True,
) -> SignerRule:
    """Add a line to the allow-list (see `SignerRule`); an empty signature allows plain native transfers."""
    selector = "0x" + abi.selector(signature).hex() if signature else "0x"
    rule, _ = SignerRule.objects.update_or_create(
        network_id=network_id,
        to=to.lower(),
        selector=selector,
        recipient=recipient.lower(),
        wallet_role=wallet_role,
        defaults={
            "signature": signature,
            "amount_path": amount_path,
            "token_path": token_path,
            "recipient_path": recipient_path,
            "counts_daily": counts_daily,
        },
    )
    return rule
