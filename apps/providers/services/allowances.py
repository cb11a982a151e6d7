"""Approvals: a venue's router may take a bounded amount of a token from our wallet, and no more."""

from dataclasses import dataclass
from uuid import UUID

from django.db import transaction

from apps.chain import abi
from apps.chain.domain import AttemptKind, TransactionState
from apps.chain.models import OutboundTransaction, Wallet, WalletCap
from apps.chain.services import transaction_request
from apps.core import clock
from apps.core.errors import NotFound, Retryable, Terminal
from apps.core.fields import UINT256_MAX
from apps.providers import selectors
from apps.providers.adapters import adapter_for
from apps.providers.client import chain_view
from apps.providers.models import Venue, VenueAllowance
from apps.providers.selectors import MarketSpec

# One approval serves about this many swaps, of the size of the largest among the last few. Unlimited approvals are
# common and hand the whole balance to a router's bug; one per swap would double the gas, and have each wait a block.
COVER_SWAPS = 16
_RECENT_SWAPS = 64
_APPROVE_GAS = 80_000
_FAILED_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class AllowanceState:
    """Whether a swap may be asked for now, and the approval that is under way (its `notify` rings when it is over).

    When both, the swap counts on that approval and goes out right after it (`after_id` of the chain's intents).
    True in a condition exactly when `ready`.
    """

    ready: bool
    allowance_units: int
    transaction_id: UUID | None = None

    def __bool__(self) -> bool:
        return self.ready


def allowance_ensure(
    *,
    venue_id: UUID,
    market_id: UUID,
    wallet_id: UUID,
    amount_units: int,
    notify: str = "",
) -> AllowanceState:
    """See that the venue's router may take `amount_units` of the market's sold token; ask for it if not.

    What swaps under way will still take of the same allowance is left to them. Nothing waits for an approval to be
    mined: a swap with a later nonce finds it done. Idempotent: while an approval is under way that is large enough
    every call returns it. Raises `NotFound`, `Retryable` when the chain is away or the last approval just failed,
    `Terminal` when the amount is above the wallet's cap. One round trip to the chain: keep it out of transactions.
    """
    market = selectors.market_spec_get(market_id=market_id)
    venue = Venue.objects.filter(pk=venue_id).first()
    wallet = Wallet.objects.filter(pk=wallet_id).first()
    if venue is None or wallet is None:
        raise NotFound("No such venue or wallet.")
    allowance_units, seen_block = _allowance_read(market, venue.router_address, wallet.address)
    pending_units = _pending_units(market, venue, wallet, seen_block=seen_block)
    needed_units = amount_units + pending_units
    under_way = None
    last = VenueAllowance.objects.select_related("transaction").filter(**_key(market, venue, wallet)).first()
    if last is not None and last.transaction is not None and _still_counts(last.transaction, seen_block):
        under_way = _under_way(last.transaction, needed_units=needed_units, allowance_units=allowance_units)
        if under_way.ready:
            return under_way
    elif allowance_units >= needed_units:
        return AllowanceState(ready=True, allowance_units=allowance_units)
    usual_units = max(amount_units, _largest_recent_units(market, wallet))
    wanted_units = min(needed_units + usual_units * (COVER_SWAPS - 1), _cap_units(market, wallet))
    if wanted_units < amount_units:
        raise Terminal("the amount is above the wallet's cap")
    if under_way is not None:
        return under_way
    if wanted_units < needed_units:
        # The cap has room for one of them only: wait until what is under way has been taken.
        return AllowanceState(ready=False, allowance_units=allowance_units)
    with transaction.atomic():
        return _approval_request(
            market,
            venue,
            wallet,
            allowance_units=allowance_units,
            needed_units=needed_units,
            wanted_units=wanted_units,
            seen_block=seen_block,
            notify=notify,
        )


def _allowance_read(market: MarketSpec, router: str, owner: str) -> tuple[int, int]:
    view = chain_view(
        network_id=market.network_id,
        calls=[(market.sold_token, abi.call_data("allowance(address,address)", [owner, router]))],
    )
    (answer,) = view.answers
    if answer is None:
        raise Retryable(f"{market.sold_code} does not tell its allowance")
    return int(abi.decode(["uint256"], answer)[0]), view.block_number


def _pending_units(market: MarketSpec, venue: Venue, wallet: Wallet, *, seen_block: int) -> int:
    """What swaps that were not in a block yet when the allowance was read will still take of it."""
    under_way = (
        OutboundTransaction.objects.filter(
            network_id=market.network_id, wallet=wallet, to=venue.router_address, finalized_at__isnull=True
        )
        .exclude(block_number__lte=seen_block)
        .values_list("data", flat=True)
    )
    adapter = adapter_for(venue.kind)
    spent = [adapter.spent_read(data) for data in under_way]
    return sum(found[1] for found in spent if found is not None and found[0] == market.sold_token)


def _largest_recent_units(market: MarketSpec, wallet: Wallet) -> int:
    """The most that one of the wallet's last swaps took of the token, at whichever venue.

    Buys of a quiet hour are small: an approval of their size would be used up by the first of a busy one.
    """
    kinds = dict(Venue.objects.filter(network_id=market.network_id).values_list("router_address", "kind"))
    recent = OutboundTransaction.objects.filter(
        network_id=market.network_id, wallet=wallet, to__in=list(kinds), nonce__isnull=False
    ).order_by("-nonce")
    spent = [
        adapter_for(kinds[to]).spent_read(data)
        for to, data in recent.values_list("to", "data")[:_RECENT_SWAPS]
    ]
    return max((found[1] for found in spent if found and found[0] == market.sold_token), default=0)


def _cap_units(market: MarketSpec, wallet: Wallet) -> int:
    """The most that the signer lets this wallet approve at once; without a cap it refuses whatever is asked."""
    cap = WalletCap.objects.filter(wallet=wallet, asset_id=market.sold_asset_id).first()
    return UINT256_MAX if cap is None else int(cap.per_transaction_units)


def _approval_request(
    market: MarketSpec,
    venue: Venue,
    wallet: Wallet,
    *,
    allowance_units: int,
    needed_units: int,
    wanted_units: int,
    seen_block: int,
    notify: str,
) -> AllowanceState:
    row = _row_lock(_key(market, venue, wallet))
    last = row.transaction
    if last is not None and _still_counts(last, seen_block):
        return _under_way(last, needed_units=needed_units, allowance_units=allowance_units)
    if last is not None and _just_failed(last):
        raise Retryable(
            f"the approval was not made: {last.state} {last.reason}", after_seconds=_FAILED_SECONDS
        )
    row.round += 1
    reference = f"allowance:{row.pk}:{row.round}"
    reset_id = None
    if allowance_units > 0:
        # Some tokens (USDT) refuse to change an allowance that is not zero.
        reset_id = _approve(market, venue, wallet, units=0, reference=f"{reference}:reset").pk
    row.transaction = _approve(
        market, venue, wallet, units=wanted_units, reference=reference, notify=notify, after_id=reset_id
    )
    row.save(update_fields=["round", "transaction"])
    return AllowanceState(ready=True, allowance_units=allowance_units, transaction_id=row.transaction.pk)


def _key(market: MarketSpec, venue: Venue, wallet: Wallet) -> dict[str, UUID]:
    return {"venue_id": venue.pk, "asset_id": market.sold_asset_id, "wallet_id": wallet.pk}


def _row_lock(key: dict[str, UUID]) -> VenueAllowance:
    """The row that serializes approvals of one router for one token of one wallet, locked."""
    VenueAllowance.objects.bulk_create([VenueAllowance(**key)], ignore_conflicts=True)
    # Without the transaction joined: whoever waited for the lock gets the row anew, but what is joined to it as it
    # was before the wait (PostgreSQL, READ COMMITTED), and would miss the approval that was just asked for.
    return VenueAllowance.objects.select_for_update(no_key=True).get(**key)


def _under_way(approval: OutboundTransaction, *, needed_units: int, allowance_units: int) -> AllowanceState:
    """Swaps may count on an approval that is on its way, unless it ended otherwise or is being given up."""
    made = not approval.is_final or approval.state == TransactionState.CONFIRMED
    given_up = approval.next_attempt == AttemptKind.CANCEL
    _, units = abi.arguments("approve(address,uint256)", approval.data)
    return AllowanceState(
        ready=made and not given_up and units >= needed_units,
        allowance_units=allowance_units,
        transaction_id=approval.pk,
    )


def _still_counts(last: OutboundTransaction, seen_block: int) -> bool:
    """Under way, or mined after the block at which the allowance was read: the reading was too early."""
    return not last.is_final or (last.block_number is not None and last.block_number > seen_block)


def _just_failed(last: OutboundTransaction) -> bool:
    """Asking again at once would burn gas, or fill the signer's log, for the same answer."""
    if last.state == TransactionState.CONFIRMED or last.finalized_at is None:
        return False
    return (clock.now() - last.finalized_at).total_seconds() < _FAILED_SECONDS


def _approve(
    market: MarketSpec,
    venue: Venue,
    wallet: Wallet,
    *,
    units: int,
    reference: str,
    notify: str = "",
    after_id: UUID | None = None,
) -> OutboundTransaction:
    return transaction_request(
        network_id=market.network_id,
        wallet_id=wallet.pk,
        to=market.sold_token,
        data=abi.call_data("approve(address,uint256)", [venue.router_address, units]),
        gas_limit=_APPROVE_GAS,
        purpose="allowance",
        reference=reference,
        notify=notify,
        after_id=after_id,
    )
