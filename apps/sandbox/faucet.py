"""Money from nowhere: tokens minted on the sandbox's chain into the swap wallet, then credited in the ledger."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from apps.accounts.selectors import user_by_email
from apps.chain.models import Network, Token
from apps.chain.selectors import wallet_get
from apps.core.api.amounts import AmountError, amount_parse
from apps.core.errors import DomainError, Retryable, Terminal
from apps.core.failpoints import reach
from apps.core.models import Asset
from apps.ledger.domain import PostResult
from apps.ledger.models import Journal
from apps.sandbox.market import Market
from apps.sandbox.runtime.errors import SandboxError
from apps.sandbox.runtime.files import file_lock, json_read, json_write
from apps.sandbox.runtime.rpc import Rpc
from apps.sandbox.runtime.status import SandboxStatus
from apps.treasury.services import credit_by_hand

ACTOR = "sandbox faucet"
PENDING_FILE = "faucet.json"


@dataclass(frozen=True)
class Funded:
    """What was credited; `repeated` when the reference had been used for the same before."""

    user_id: UUID
    asset_code: str
    amount_units: int
    reference: str
    repeated: bool


def person_fund(
    *, status: SandboxStatus, email: str, asset_code: str, amount: str, reference: str | None = None
) -> Funded:
    """Mint `amount` (decimal) into the swap wallet, wait for the receipt, credit the person.

    A `reference` that was used for the same before mints and credits nothing. What is to be paid is written down
    first, so that whoever is killed leaves nothing that nobody owns for long: the next call, for whomever, finishes
    it. Raises `NotFound`, `DomainError` (unknown asset, bad amount), `SandboxError` (no chain, the mint reverted),
    and the ledger's `ReferenceReused` for a reference that was used for something else.
    """
    market = market_of(status)
    person = user_by_email(email=email)
    asset, units = wish_parse(market, asset_code=asset_code, amount=amount)
    name = f"faucet:{reference or uuid4()}"
    wanted: dict[str, Any] = {
        "user_id": str(person.pk),
        "asset_code": asset.code,
        "amount_units": units,
        "reference": name,
    }
    note = status.directory / PENDING_FILE
    # One faucet at a time, or two would write over each other's note.
    with file_lock(status.directory / "faucet.lock"):
        left = json_read(note)
        if left is not None:
            _pay(market, note, **left)
        json_write(note, wanted)
        result = _pay(market, note, **wanted)
    return Funded(person.pk, asset.code, units, name, bool(result.repeated))


def market_of(status: SandboxStatus) -> Market:
    """The market maker of the running sandbox. Raises `SandboxError` when it has no chain."""
    if status.deployment is None:
        raise SandboxError("the sandbox has no chain")
    return Market(Rpc(status.urls["rpc"]), status.deployment)


def wish_parse(market: Market, *, asset_code: str, amount: str) -> tuple[Asset, int]:
    """An asset of the sandbox's chain and base units of it; errors as `person_fund`."""
    asset = _asset(asset_code)
    _on_chain_check(market, asset)
    try:
        units = amount_parse(amount, decimals=asset.decimals)
    except AmountError as error:
        raise DomainError(error.code, str(error), pointer="/amount") from error
    if units < 1:
        raise DomainError("amount_not_positive", "The amount must be positive.", pointer="/amount")
    return asset, units


def _pay(
    market: Market, note: Path, *, user_id: str, asset_code: str, amount_units: int, reference: str
) -> PostResult:
    """What the note says: both halves, each of which happens once per reference. Then the note goes."""
    asset = _asset(asset_code)
    try:
        # A reference that was used for something else is refused by the ledger, and must not mint before.
        if not Journal.objects.filter(reference=f"credit:{reference}").exists():
            wallet = wallet_get(role="swap")
            market.give_once(symbol=asset.code, to=wallet.address, units=amount_units, reference=reference)
            reach("sandbox.faucet.after_mint")
        result = credit_by_hand(
            user_id=UUID(user_id),
            asset_id=asset.pk,
            amount_units=amount_units,
            reference=reference,
            note="faucet",
            actor=ACTOR,
        )
    except (DomainError, Retryable, SandboxError, Terminal):
        note.unlink()  # refused: it was told, and is not to be tried again by somebody else
        raise
    reach("sandbox.faucet.after_credit")
    note.unlink()
    return result


def _asset(code: str) -> Asset:
    asset = Asset.objects.filter(code=code).first()
    if asset is None:
        known = ", ".join(Asset.objects.order_by("code").values_list("code", flat=True))
        raise DomainError("unknown_asset", f"No asset {code}; one of: {known}.", pointer="/asset")
    return asset


def _on_chain_check(market: Market, asset: Asset) -> None:
    native = Network.objects.filter(native_asset=asset).exists()
    token = Token.objects.filter(asset=asset).exists() and asset.code in market.deployment.tokens
    if not (native or token):
        raise SandboxError(f"the sandbox's chain has no {asset.code}")
