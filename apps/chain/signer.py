"""The signer: the only code that sees a private key, and the last to say no.

It trusts no caller. Chain id, contract, selector, recipient and amount are checked here, from the call data
itself, against tables that only operators change (design.md, "Secrets"). It signs EIP-1559 transactions and
nothing else. Keys exist decrypted for the length of one call and are in no message, log line or repr.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any
from uuid import UUID

from coincurve import PrivateKey
from django.conf import settings
from django.db.models import F

from apps.chain import abi, derivation
from apps.chain.domain import AttemptKind, Fees
from apps.chain.errors import DerivationError, NetworkHalted, SignerRefused
from apps.chain.models import (
    WALLET_KEY,
    Network,
    OutboundTransaction,
    SignerRule,
    Token,
    Wallet,
    WalletCap,
    WalletSpend,
)
from apps.core import clock
from apps.core.crypto import DecryptionError

TRANSFER_GAS = 21_000
# In a rule for plain transfers: to whomever, within the caps. No call data can hide behind it.
ANYBODY = "0x" + "0" * 40


@dataclass(frozen=True)
class Movement:
    """What a transaction would move of one asset, as the signer reads it."""

    asset_id: UUID
    units: int
    counts_daily: bool


@dataclass(frozen=True)
class Signed:
    """Signed bytes and their hash. The repr leaves the bytes out: they are as good as money until mined."""

    raw: bytes
    hash: str

    def __repr__(self) -> str:
        return f"Signed({self.hash})"


def key_encrypt(key: bytes, *, wallet_id: UUID) -> bytes:
    """A private key as it is kept: under SIGNER_KEYS, bound to its row. `ValueError`: no valid key."""
    address_of(key)
    return WALLET_KEY.encrypt(key, pk=wallet_id)


def address_of(key: bytes) -> str:
    """The address of a private key; raises `ValueError` without repeating it."""
    try:
        public = PrivateKey(key).public_key.format(compressed=False)
    except Exception:  # noqa: BLE001 — the library's message may hold the key
        public = b""
    if not public or len(key) != 32:
        raise ValueError("not a valid private key")
    return abi.address_of_public(public)


def movements(*, transaction: OutboundTransaction, wallet: Wallet, network: Network) -> list[Movement]:
    """Check the allow-list and read what would be moved; raises `SignerRefused` with the reason."""
    found = []
    if transaction.value_units:
        found.append(Movement(network.native_asset_id, transaction.value_units, True))
    selector = transaction.data[:10] if len(transaction.data) >= 10 else "0x"
    if selector == "0x" and transaction.data not in ("", "0x"):
        raise SignerRefused("call data shorter than a selector")
    targets = [transaction.to, ANYBODY] if selector == "0x" else [transaction.to]
    rules = [
        rule
        for rule in SignerRule.objects.filter(network=network, to__in=targets, selector=selector)
        if rule.wallet_role == wallet.role or (not rule.wallet_role and wallet.role != Wallet.Role.DEPOSIT)
    ]
    if not rules:
        raise SignerRefused(f"not on the allow-list: {selector} at {transaction.to}")
    reasons = []
    for rule in rules:
        try:
            movement = _movement(rule, transaction, wallet)
        except _MismatchError as mismatch:
            reasons.append(str(mismatch))
            continue
        return [*found, movement] if movement else found
    raise SignerRefused("; ".join(reasons))


class _MismatchError(Exception):
    """This rule does not allow it; another one might."""


def _movement(rule: SignerRule, transaction: OutboundTransaction, wallet: Wallet) -> Movement | None:
    if not (rule.amount_path or rule.recipient_path or rule.token_path):
        return None
    try:
        arguments = abi.arguments(rule.signature, transaction.data)
        recipient = abi.pick(arguments, rule.recipient_path) if rule.recipient_path else None
        units = abi.pick(arguments, rule.amount_path) if rule.amount_path else None
        token = abi.pick(arguments, rule.token_path) if rule.token_path else transaction.to
    except (ValueError, IndexError, TypeError):
        raise _MismatchError("call data does not decode as the rule's function") from None
    if rule.recipient_path and recipient != (rule.recipient or wallet.address):
        raise _MismatchError(f"recipient {recipient} is not allowed")
    if units is None:
        return None
    if isinstance(token, bytes):
        token = "0x" + token[:20].hex()
    asset_id = (
        Token.objects.filter(network_id=rule.network_id, address=token, enabled=True)
        .values_list("asset_id", flat=True)
        .first()
    )
    if asset_id is None:
        raise _MismatchError(f"token {token} is not on the allow-list")
    if not isinstance(units, int) or isinstance(units, bool) or units < 0:
        raise _MismatchError("the amount is not a number of units")
    return Movement(asset_id, units, rule.counts_daily)


def _stays_ours(transaction: OutboundTransaction) -> None:
    """What lies at a person's deposit address may only go to another wallet of ours: raises `SignerRefused`.

    Instead of caps: a thief with the database could raise those, but not make a stranger's address ours, since a
    wallet is only ours when its key decrypts under SIGNER_KEYS.
    """
    receiver = transaction.to
    if transaction.data not in ("", "0x"):
        try:
            receiver, _ = abi.arguments("transfer(address,uint256)", transaction.data)
        except ValueError:
            raise SignerRefused("a deposit wallet only transfers") from None
    ours = Wallet.objects.filter(address=receiver, enabled=True).exclude(role=Wallet.Role.DEPOSIT).first()
    if ours is None or not _key_fits(ours):
        raise SignerRefused("a deposit wallet sends to our own wallets only")


def _tops_up_ours(transaction: OutboundTransaction) -> None:
    """A gas wallet pays gas for our own wallets and nobody else: raises `SignerRefused`.

    Whatever a rule allows: an address is ours when its key is, which the database alone cannot claim.
    """
    if transaction.data not in ("", "0x"):
        raise SignerRefused("a gas wallet only sends native coin")
    ours = Wallet.objects.filter(address=transaction.to, enabled=True).first()
    if ours is None or not _key_fits(ours):
        raise SignerRefused("a gas wallet sends to our own wallets only")


def _key_fits(wallet: Wallet) -> bool:
    try:
        return address_of(_key(wallet)) == str(wallet.address)
    except (DecryptionError, DerivationError, ValueError):
        return False


def _key(wallet: Wallet) -> bytes:
    """The private key, for the length of one call. Raises `DecryptionError` or `DerivationError`."""
    if wallet.key_ciphertext is not None:
        return WALLET_KEY.decrypt(bytes(wallet.key_ciphertext), pk=wallet.id)
    if wallet.derivation_index is None or not settings.SIGNER_DEPOSIT_XPRV:
        raise DecryptionError("deposit keys cannot be derived in this process")
    return derivation.key_at(xprv=settings.SIGNER_DEPOSIT_XPRV, index=wallet.derivation_index)


def caps_charge(*, wallet: Wallet, moved: Sequence[Movement], day: date) -> None:
    """Hold `moved` against the wallet's caps and count it for the day; raises `SignerRefused`.

    Call under the wallet's nonce lock, in the transaction that keeps the signature. A spend stays counted
    when the transaction is cancelled later: the cap bounds what was released, not what was mined.
    """
    caps = {cap.asset_id: cap for cap in WalletCap.objects.filter(wallet=wallet)}
    for movement in moved:
        cap = caps.get(movement.asset_id)
        if cap is None:
            raise SignerRefused("the wallet has no cap for this asset")
        if movement.units > cap.per_transaction_units:
            raise SignerRefused("over the wallet's cap per transaction")
        if not movement.counts_daily or not movement.units:
            continue
        # Created first, then locked: two wallets' days never wait for each other, one wallet's always do.
        WalletSpend.objects.bulk_create(
            [WalletSpend(wallet=wallet, asset_id=movement.asset_id, day=day)], ignore_conflicts=True
        )
        spend = WalletSpend.objects.select_for_update().get(
            wallet=wallet, asset_id=movement.asset_id, day=day
        )
        if spend.units + movement.units > cap.daily_units:
            raise SignerRefused("over the wallet's cap per day")
        WalletSpend.objects.filter(id=spend.id).update(units=F("units") + movement.units)


def sign(
    *,
    transaction: OutboundTransaction,
    wallet: Wallet,
    network: Network,
    kind: AttemptKind,
    nonce: int,
    fees: Fees,
    max_fee_cap_units: int,
) -> Signed:
    """Check everything, charge the caps (originals only: one nonce is mined once), and sign.

    Raises `SignerRefused`, or `NetworkHalted`.
    """
    if network.halted_at is not None:
        raise NetworkHalted("the network is halted")
    if not wallet.enabled:
        raise SignerRefused("the wallet is disabled")
    if transaction.wallet_id != wallet.id or transaction.network_id != network.id:
        raise SignerRefused("another wallet's or network's transaction")
    if fees.max_fee_units > max_fee_cap_units or fees.priority_fee_units > fees.max_fee_units:
        raise SignerRefused("fees over the network's cap")
    if nonce < 0:
        raise SignerRefused("nonce out of range")
    if kind == AttemptKind.CANCEL:
        body = {"to": wallet.address, "value": 0, "data": "0x", "gas": TRANSFER_GAS}
    else:
        if not 0 < transaction.gas_limit <= network.gas_limit_cap:
            raise SignerRefused("gas limit over the network's cap")
        moved = movements(transaction=transaction, wallet=wallet, network=network)
        if wallet.role == Wallet.Role.GAS:
            _tops_up_ours(transaction)
        if wallet.role == Wallet.Role.DEPOSIT:
            _stays_ours(transaction)
        elif kind == AttemptKind.ORIGINAL:
            caps_charge(wallet=wallet, moved=moved, day=clock.now().date())
        body = {
            "to": transaction.to,
            "value": transaction.value_units,
            "data": transaction.data or "0x",
            "gas": transaction.gas_limit,
        }
    body |= {
        "type": 2,
        "chainId": network.chain_id,
        "nonce": nonce,
        "maxFeePerGas": fees.max_fee_units,
        "maxPriorityFeePerGas": fees.priority_fee_units,
        "to": abi.checksum(str(body["to"])),
    }
    return _signature(wallet, body)


def _signature(wallet: Wallet, body: dict[str, Any]) -> Signed:
    outcome = _sign_body(wallet, body)
    if isinstance(outcome, str):
        raise SignerRefused(outcome)
    return outcome


def _sign_body(wallet: Wallet, body: dict[str, Any]) -> Signed | str:
    """Decrypt, check that the key is this wallet's, sign; or say what was wrong.

    Raises nothing: the frame that holds the key never becomes part of a traceback.
    """
    # Late: see `apps.chain.client.libraries_load`.
    from eth_account import Account

    try:
        key = _key(wallet)
        if address_of(key) != wallet.address:
            return "the key does not belong to the wallet's address"
        signed = Account.sign_transaction(body, key)
        return Signed(bytes(signed.raw_transaction), "0x" + bytes(signed.hash).hex())
    except (DecryptionError, DerivationError) as error:
        return f"the wallet's key cannot be used here: {error}"
    except Exception as error:  # noqa: BLE001 — a library's message may hold what it was given
        return f"signing failed: {type(error).__name__}"
