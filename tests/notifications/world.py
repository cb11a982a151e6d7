"""As much of a platform as a plan's row needs: a network, a market, and units in somebody's account."""

from itertools import count

from django.db import transaction

from apps.accounts.models import User
from apps.chain.models import Network
from apps.core.models import Asset
from apps.ledger.domain import AccountKey, AccountKind, JournalDraft, Posting
from apps.ledger.services import accounts_open, journals_post
from apps.providers.models import Market

_serial = count()


def market_make() -> Market:
    """The market USDC → WETH; the same one each time."""
    found = Market.objects.first()
    if found is not None:
        return found
    sold, bought = (
        Asset.objects.get_or_create(code=code, defaults={"name": code, "decimals": decimals})[0]
        for code, decimals in (("USDC", 6), ("WETH", 18))
    )
    gas = Asset.objects.create(code="ETH", name="Ether", decimals=18)
    network = Network.objects.create(
        chain_id=31_337,
        name="Test",
        native_asset=gas,
        max_fee_cap_units=10**12,
        priority_fee_cap_units=10**10,
    )
    return Market.objects.create(network=network, sold_asset=sold, bought_asset=bought)


def available_set(owner: User, units: int) -> None:
    """Give somebody units of USDC, from a custody account that is not looked at here."""
    asset_id = market_make().sold_asset_id
    available = AccountKey(AccountKind.AVAILABLE, asset_id, owner.pk)
    custody = AccountKey(AccountKind.CUSTODY, asset_id, ref="0x" + "1" * 40)
    with transaction.atomic():
        ids = accounts_open(keys=[available, custody])
        journals_post(
            drafts=[
                JournalDraft(
                    "credit",
                    f"test:{next(_serial)}",
                    (Posting(ids[available], units), Posting(ids[custody], -units)),
                )
            ]
        )
