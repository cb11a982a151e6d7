"""Collecting one asset from one address: gas first, then the transfer, then the books.

Each step is one transaction; what it asks the chain for is an outbound transaction with a reference of its own,
written in that same transaction. So a kill between any two lines leaves a row that says what is left to do. A sweep
that does not land has moved nothing: what lies at the address stays in the books where it is, and a later sweep tries
again.

The sweeps of one address take turns, so that each knows what gas the address has: only what the books know of and no
other transaction will burn.
"""

import logging
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db.models import F, Sum

from apps.chain import abi
from apps.chain import selectors as chain_selectors
from apps.chain import services as chain
from apps.chain.domain import OUT_OF_GAS, AttemptKind, TransactionState
from apps.chain.models import OutboundTransaction, Wallet
from apps.core import clock
from apps.core.errors import NotFound
from apps.core.failpoints import reach
from apps.core.work import Claim
from apps.deposits.domain import SweepState
from apps.deposits.models import DepositAddress, DepositRule, Holding, Sweep
from apps.deposits.sweep_booking import collector_of, sweep_book, top_up_book
from apps.deposits.sweep_planning import NATIVE_GAS, OPEN_STATES, SWEEP, TOKEN_GAS_LIMIT

logger = logging.getLogger(__name__)

S = SweepState
POLL_SECONDS = 2.0
TOP_UPS_MAX = 5
# Fees may rise between reading and signing, and once more before a block takes it.
HEADROOM = 2
TRANSFER = "transfer(address,uint256)"
PURPOSE_SWEEP, PURPOSE_TOP_UP = "sweep", "gas_top_up"


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the chain said before the locks were taken, in base units."""

    native_units: int
    token_units: int | None
    max_fee_units: int


def sweep_step(claim: Claim[Sweep]) -> None:
    """One step of `deposits.sweep`. Reads come first, changes follow under the row's lock."""
    row = _read(claim.ids[0])
    if row.network.halted_at is not None or row.state not in OPEN_STATES:
        with claim.locked():
            claim.wait(claim.ids, seconds=30)
        return
    reach("deposits.sweep.before_read")
    collector = chain_selectors.wallet_get(role="swap")
    seen = _look(row) if row.state == S.PLANNED else None
    short = _short_of_gas(row) if row.state == S.SWEEPING else 0
    received = _measured(row)
    reach("deposits.sweep.before_lock")
    with claim.locked() as rows:
        for locked in rows:
            if locked.state != row.state:
                claim.wait([locked.pk], seconds=0)
                continue
            # Whoever works at this address has it to itself until the commit.
            DepositAddress.objects.select_for_update(no_key=True).get(pk=locked.address_id)
            fresh = _read(locked.pk)
            if seen is not None:
                wait = _begin(fresh, seen, collector)
            elif fresh.state == S.FUNDING:
                wait = _funding(fresh)
            else:
                wait = _sweeping(fresh, received, short)
            if wait is None:
                claim.step([locked.pk])
            else:
                claim.wait([locked.pk], seconds=wait)
        reach("deposits.sweep.before_commit")
    reach("deposits.sweep.after_commit")


def _read(pk: UUID) -> Sweep:
    relations = (
        "network", "token", "asset__deposit_rule", "address", "funding__wallet", "transaction__wallet",
        "transaction__attempt",
    )  # fmt: skip
    return Sweep.objects.select_related(*relations).get(pk=pk)


def _look(row: Sweep) -> _Seen:
    network_id, address = row.network_id, row.address.address
    (native,) = chain.native_balances_read(network_id=network_id, addresses=[address])
    token: int | None = native
    if row.token is not None:
        (token,) = chain.token_balances_read(
            network_id=network_id, token=row.token.address, addresses=[address]
        )
    return _Seen(native, token, chain.fees_read(network_id=network_id).max_fee_units)


def _begin(row: Sweep, seen: _Seen, collector: Wallet) -> float | None:
    """Planned: send the transfer when the address can pay for it, else have gas brought first."""
    if _busy(row):
        return POLL_SECONDS
    wallet = chain.deposit_wallet_open(address=row.address.address, index=row.address.index)
    booked = _held(row, row.asset_id)
    if not booked:
        return _fail(row, "nothing lies there any more, by the books")
    gas_units = min(_gas_left(row, wallet), seen.native_units)
    if row.token is None:
        # What stays behind pays for the fee to double; the next sweep takes what was not burned.
        row.units = gas_units - HEADROOM * NATIVE_GAS * seen.max_fee_units
        if row.units <= 0:
            return _fail(row, "it holds no more than a transfer burns")
        return _send(row, wallet, to=collector.address, value_units=row.units, gas_limit=NATIVE_GAS)
    if seen.token_units is None:
        return _fail(row, "the token does not tell its balances: paused?")
    if seen.token_units < booked:
        return _fail(row, f"the books say {booked} units, the chain {seen.token_units}")
    row.units = booked
    needed = TOKEN_GAS_LIMIT * seen.max_fee_units
    if gas_units < needed:
        return _top_up(row, wallet, HEADROOM * needed - gas_units, state=S.FUNDING)
    data = abi.call_data(TRANSFER, [collector.address, row.units])
    return _send(row, wallet, to=row.token.address, data=data, gas_limit=TOKEN_GAS_LIMIT)


def _busy(row: Sweep) -> bool:
    """Whether another sweep of the address is under way, or of the token where what arrives has to be measured.

    Two of such a token in one block could not be told apart.
    """
    under_way = Sweep.objects.filter(network_id=row.network_id, state__in=[S.FUNDING, S.SWEEPING])
    if under_way.filter(address_id=row.address_id).exists():
        return True
    rules = DepositRule.objects.select_for_update(no_key=True)
    if not rules.filter(asset_id=row.asset_id, credit_measured=True):
        return False
    return under_way.filter(asset_id=row.asset_id).exists()


def _held(row: Sweep, asset_id: UUID) -> int:
    units = Holding.objects.filter(address_id=row.address_id, asset_id=asset_id)
    return int(units.values_list("units", flat=True).first() or 0)


def _gas_left(row: Sweep, wallet: Wallet) -> int:
    """Native units at the address that the books know of, less gas that is burned and not booked yet."""
    burned = OutboundTransaction.objects.filter(
        network_id=row.network_id, wallet=wallet, gas_booked_at__isnull=True, gas_used__gt=0
    ).aggregate(units=Sum(F("gas_used") * F("effective_gas_price_units")))["units"]
    return _held(row, row.network.native_asset_id) - int(burned or 0)


def _send(row: Sweep, wallet: Wallet, **content: Any) -> float | None:
    row.transaction = chain.transaction_request(
        network_id=row.network_id,
        wallet_id=wallet.pk,
        **{"data": "0x", "value_units": 0, **content},
        purpose=PURPOSE_SWEEP,
        reference=f"sweep:{row.pk}",
        notify=SWEEP,
    )
    row.state = S.SWEEPING
    return _save(row, "units", "transaction")


def _top_up(row: Sweep, wallet: Wallet, units: int, *, state: SweepState) -> float | None:
    """Have the gas wallet send native coin to the address; the transfer follows when that is final and booked."""
    number = OutboundTransaction.objects.filter(reference__startswith=f"sweep:{row.pk}:gas:").count() + 1
    if number > TOP_UPS_MAX:
        return _fail(row, "gas rises faster than it can be brought") if state == S.FUNDING else 30.0
    row.funding = chain.transaction_request(
        network_id=row.network_id,
        wallet_id=chain_selectors.wallet_get(role="gas").pk,
        to=wallet.address,
        data="0x",
        value_units=units,
        gas_limit=NATIVE_GAS,
        purpose=PURPOSE_TOP_UP,
        reference=f"sweep:{row.pk}:gas:{number}",
        notify=SWEEP,
    )
    row.gas_top_up_units += units
    row.state = state
    return _save(row, "units", "funding", "gas_top_up_units")


def _funding(row: Sweep) -> float | None:
    """Gas is on its way: book it when it is final, then look again whether it is enough."""
    funding = row.funding
    if funding is None or not funding.is_final:
        return POLL_SECONDS
    top_up_book(row, funding)
    if funding.state != TransactionState.CONFIRMED:
        return _fail(row, f"the gas did not arrive: {funding.reason or funding.state}")
    row.state = S.PLANNED
    return _save(row)


def _sweeping(row: Sweep, received: int | None, short: int) -> float | None:
    """The transfer is on its way: book what it moved when it is final, or end without an effect."""
    funding, sent = row.funding, row.transaction
    if funding is not None and funding.booked_at is None:
        if not funding.is_final:
            return POLL_SECONDS
        top_up_book(row, funding)
    if sent is None or not sent.is_final:
        if short and sent is not None and (funding is None or funding.is_final):
            return _top_up(row, sent.wallet, short, state=S.SWEEPING)
        return POLL_SECONDS
    if sent.state == TransactionState.CONFIRMED and sweep_book(row, sent, received=received):
        row.state, row.done_at, row.reason = S.DONE, clock.now(), ""
        return _save(row, "received_units", "units", "done_at")
    chain.transactions_book(transaction_ids=[sent.pk])
    return _fail(row, f"the transfer moved nothing: {sent.reason or sent.state}")


def _measured(row: Sweep) -> int | None:
    """For tokens that take a fee on transfer: by how much the collecting wallet grew in the transfer's block.

    Other transactions of ours in the same block are taken off by their own logs. None: the log is believed.
    """
    sent = row.transaction
    rule = getattr(row.asset, "deposit_rule", None)
    if row.token is None or sent is None or sent.state != TransactionState.CONFIRMED:
        return None
    if rule is None or not rule.credit_measured:
        return None
    receiver = collector_of(row, sent)
    grown = 0
    for block, sign in ((sent.block_number, 1), ((sent.block_number or 1) - 1, -1)):
        (units,) = chain.token_balances_read(
            network_id=row.network_id,
            token=row.token.address,
            addresses=[receiver],
            block=int(block or 0),
        )
        grown += sign * (units or 0)
    others = OutboundTransaction.objects.select_related("wallet", "attempt").filter(
        network_id=row.network_id, block_number=sent.block_number
    )
    for other in others.exclude(pk=sent.pk):
        for move in chain_selectors.transaction_moves(other):
            if move.token == row.token.address:
                grown -= (move.receiver == receiver) * move.units
                grown += (move.sender == receiver) * move.units
    return max(0, grown)


def _short_of_gas(row: Sweep) -> int:
    """How much native coin a transfer lacks that a node refuses to take since fees rose; 0 when it lacks none."""
    sent = row.transaction
    if sent is None or sent.state != TransactionState.SIGNED or sent.reason != OUT_OF_GAS:
        return 0
    try:
        bid = chain_selectors.attempt_newest(sent)
    except NotFound:
        return 0
    cancelling = bid.kind == AttemptKind.CANCEL
    needed = (NATIVE_GAS if cancelling else sent.gas_limit) * bid.max_fee_units
    needed += 0 if cancelling else sent.value_units
    (native,) = chain.native_balances_read(network_id=row.network_id, addresses=[row.address.address])
    return max(0, int(needed) - native)


def _fail(row: Sweep, reason: str) -> float | None:
    row.state, row.done_at, row.reason = S.FAILED, clock.now(), reason[:200]
    logger.warning("sweep failed", extra={"sweep": str(row.pk), "reason": row.reason})
    return _save(row, "done_at")


def _save(row: Sweep, *names: str) -> float | None:
    """Keep what changed; the step is made, and the next one is due at once (None seconds to wait)."""
    row.save(update_fields=["state", "reason", *names])
    return None
