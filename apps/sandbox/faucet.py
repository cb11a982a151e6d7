"""Money from nowhere: tokens minted on the sandbox's chain into the swap wallet, then credited in the ledger."""

from dataclasses import dataclass
from uuid import UUID, uuid4

from apps.accounts.selectors import user_by_email
from apps.chain.models import Network, Token
from apps.chain.selectors import wallet_get
from apps.core.api.amounts import AmountError, amount_parse
from apps.core.errors import DomainError
from apps.core.models import Asset
from apps.ledger.models import Journal
from apps.sandbox.market import Market
from apps.sandbox.runtime.errors import SandboxError
from apps.sandbox.runtime.files import file_lock
from apps.sandbox.runtime.rpc import Rpc
from apps.sandbox.runtime.status import SandboxStatus
from apps.treasury.services import credit_by_hand

ACTOR = "sandbox faucet"


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

    A `reference` that was used for the same before mints and credits nothing. Whoever is killed between the two
    leaves tokens on the chain that the ledger does not claim; running again mints anew. Raises `NotFound`,
    `DomainError` (unknown asset, bad amount), `SandboxError` (no chain, the mint reverted), and the ledger's
    `ReferenceReused` for a reference that was used for something else.
    """
    if status.deployment is None:
        raise SandboxError("the sandbox has no chain")
    person = user_by_email(email=email)
    asset = _asset(asset_code)
    try:
        units = amount_parse(amount, decimals=asset.decimals)
    except AmountError as error:
        raise DomainError(error.code, str(error), pointer="/amount") from error
    if units < 1:
        raise DomainError("amount_not_positive", "The amount must be positive.", pointer="/amount")
    name = f"faucet:{reference or uuid4()}"
    # One faucet at a time, or two with one reference would both mint before either credits.
    with file_lock(status.directory / "faucet.lock"):
        if not Journal.objects.filter(reference=f"credit:{name}").exists():
            _mint(Market(Rpc(status.urls["rpc"]), status.deployment), asset=asset, units=units)
        result = credit_by_hand(
            user_id=person.pk,
            asset_id=asset.pk,
            amount_units=units,
            reference=name,
            note="faucet",
            actor=ACTOR,
        )
    return Funded(person.pk, asset.code, units, name, bool(result.repeated))


def _asset(code: str) -> Asset:
    asset = Asset.objects.filter(code=code).first()
    if asset is None:
        known = ", ".join(Asset.objects.order_by("code").values_list("code", flat=True))
        raise DomainError("unknown_asset", f"No asset {code}; one of: {known}.", pointer="/asset")
    return asset


def _mint(market: Market, *, asset: Asset, units: int) -> None:
    wallet = wallet_get(role="swap")
    if Network.objects.filter(native_asset=asset).exists():
        market.send_ether(to=wallet.address, wei=units)
    elif Token.objects.filter(asset=asset).exists() and asset.code in market.deployment.tokens:
        market.mint(symbol=asset.code, to=wallet.address, units=units)
    else:
        raise SandboxError(f"the sandbox's chain has no {asset.code}")
