"""Reads of deposits for their person. A fixed number of queries each; another person's id finds nothing."""

from dataclasses import dataclass
from uuid import UUID

from django.db.models import Q

from apps.chain.models import Network, Token
from apps.core.api.pagination import Page, PageQuery, keyset_page
from apps.core.errors import NotFound
from apps.core.models import Asset
from apps.deposits.models import Deposit, DepositRule

_SHOWN = ("network", "asset", "address")
_HIDDEN = (
    "hand_requested_by",
    "hand_requested_at",
    "hand_note",
    "hand_approved_by",
    "hand_units",
    "last_error",
)


@dataclass(frozen=True, slots=True)
class Accepted:
    """One asset that is accepted on one network; `token_address` is empty for the native coin."""

    network: Network
    asset: Asset
    token_address: str
    minimum_units: int

    @property
    def expected_seconds(self) -> int:
        """From being in a block to being available, when blocks come as they should."""
        return int(self.network.confirmations * self.network.block_time_seconds)


def accepted_list() -> list[Accepted]:
    """What can be deposited, by network and asset code. Three queries."""
    rules = {rule.asset_id: rule for rule in DepositRule.objects.filter(enabled=True)}
    networks = list(Network.objects.select_related("native_asset").order_by("name"))
    found = [
        Accepted(network, network.native_asset, "", rules[network.native_asset_id].minimum_units)
        for network in networks
        if network.native_asset_id in rules
    ]
    by_id = {network.pk: network for network in networks}
    for token in Token.objects.filter(enabled=True).select_related("asset"):
        if token.asset_id in rules:
            network = by_id[token.network_id]
            found.append(Accepted(network, token.asset, token.address, rules[token.asset_id].minimum_units))
    return sorted(found, key=lambda one: (one.network.name, one.asset.code))


def deposit_page(
    *,
    user_id: UUID,
    query: PageQuery,
    state: str = "",
    asset: Asset | None = None,
    network_id: UUID | None = None,
) -> Page[Deposit]:
    """A person's deposits, newest first. One query."""
    wanted = Q(user_id=user_id)
    wanted &= Q(state=state) if state else Q()
    wanted &= Q(asset=asset) if asset is not None else Q()
    wanted &= Q(network_id=network_id) if network_id is not None else Q()
    return keyset_page(Deposit.objects.filter(wanted).select_related(*_SHOWN).defer(*_HIDDEN), query=query)


def deposit_get(*, user_id: UUID, deposit_id: UUID) -> Deposit:
    """One deposit of this person. Raises `NotFound`. One query."""
    row = (
        Deposit.objects.filter(pk=deposit_id, user_id=user_id).select_related(*_SHOWN).defer(*_HIDDEN).first()
    )
    if row is None:
        raise NotFound
    return row
