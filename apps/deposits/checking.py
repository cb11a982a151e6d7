"""Is it really there? A deposit that was seen is believed once a node shows its receipt and its balance.

One chunk asks for all its receipts in one batch and for all its balances in another. Unknown is not absent: what a
node cannot say (yet) is asked again, and only a reorg takes a deposit away.
"""

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from apps.chain import abi
from apps.chain.domain import Receipt
from apps.chain.models import Network, Token
from apps.chain.services import BalanceAsk, balances_read, receipts_read
from apps.core import bulk, clock, doorbell
from apps.core.failpoints import reach
from apps.core.work import STEPPED, Claim
from apps.deposits import notices
from apps.deposits.crediting import CREDIT_BELL, WAIT, units_of
from apps.deposits.domain import GONE, DepositKind, DepositState, UnsupportedReason
from apps.deposits.history import blocks_before
from apps.deposits.measuring import (
    STATE_KEPT_BLOCKS,
    Place,
    Share,
    addresses_unsettled,
    changes_measure,
    place_of,
    shares,
)
from apps.deposits.models import Deposit, DepositRule, Holding
from apps.events.services import EventDraft, events_publish

logger = logging.getLogger(__name__)

UNKNOWN_SECONDS = 2.0
HALTED_SECONDS = 30.0


@dataclass
class _Findings:
    """What a look at one network led to, by deposit. `measured` may be None: believed without a measurement."""

    network: Network
    measured: dict[UUID, int | None] = field(default_factory=dict)
    refused: dict[UUID, str] = field(default_factory=dict)
    # Refused before for a mismatch that another deposit of the block explains now.
    explained: dict[UUID, int] = field(default_factory=dict)
    unknown: list[UUID] = field(default_factory=list)
    halted: list[UUID] = field(default_factory=list)


def deposits_check(claim: Claim[Deposit]) -> None:
    """One step of `deposits.check` over a chunk of deposits in state `seen`."""
    rows = list(
        Deposit.objects.select_related("address", "network")
        .filter(pk__any_of=claim.ids, lease_token=claim.token, state=DepositState.SEEN)
        .order_by("pk")
    )
    by_network: dict[UUID, list[Deposit]] = defaultdict(list)
    for row in rows:
        by_network[row.network_id].append(row)
    # Anything else has moved on: its step is not wanted any more.
    looked_at = {row.pk: row for row in rows}
    reach("deposits.check.before_rpc")
    findings = [_look(part[0].network, part) for part in by_network.values()]
    reach("deposits.check.after_rpc")
    with claim.locked() as held:
        same = {row.pk for row in held if _same(row, looked_at.get(row.pk))}
        claim.step([row.pk for row in held if row.state != DepositState.SEEN])
        claim.wait(
            [row.pk for row in held if row.state == DepositState.SEEN and row.pk not in same], seconds=0
        )
        for found in findings:
            _write(claim, found, [row for row in held if row.pk in same])
        reach("deposits.check.before_commit")
    reach("deposits.check.after_commit")


def _same(row: Deposit, before: Deposit | None) -> bool:
    """Whether it stands where it stood when nodes were asked about it."""
    return before is not None and (row.state, row.sighting, row.block_hash) == (
        before.state,
        before.sighting,
        before.block_hash,
    )


def _look(network: Network, rows: list[Deposit]) -> _Findings:
    """Ask the nodes. Nothing is written here, and no transaction is open."""
    found = _Findings(network)
    if network.halted_at is not None:
        found.halted = [row.pk for row in rows]
        return found
    rules = {rule.asset_id: rule for rule in DepositRule.objects.filter(enabled=True)}
    tokens = dict(Token.objects.filter(network=network, enabled=True).values_list("address", "asset_id"))
    before = blocks_before(network_id=network.pk, addresses={row.address_id for row in rows})
    allowed = []
    for row in rows:
        if row.block_number <= before.get(row.address_id, -1):
            found.refused[row.pk] = UnsupportedReason.BEFORE_OPENED.value
        elif row.kind == DepositKind.TOKEN and (
            row.asset_id is None or tokens.get(row.contract) != row.asset_id
        ):
            found.refused[row.pk] = UnsupportedReason.TOKEN_NOT_ALLOWED.value
        elif row.asset_id not in rules:
            found.refused[row.pk] = UnsupportedReason.DEPOSITS_DISABLED.value
        else:
            allowed.append(row)
    proved = _proved(found, allowed)
    places: dict[Place, list[Deposit]] = defaultdict(list)
    for row in proved:
        places[place_of(row)].append(row)
    if not places:
        return found
    blocks = {row.block_hash: row.block_number for row in proved}
    changes = changes_measure(network_id=network.pk, blocks=blocks, places=list(places))
    unsettled = addresses_unsettled(network_id=network.pk, addresses={place.address for place in places})
    together = _together(network.pk, places)
    for place, part in places.items():
        rule = rules[part[0].asset_id]  # type: ignore[index]
        if place in changes:
            given = shares(
                rows=together[place], change_units=changes[place], credit_measured=rule.credit_measured
            )
            _conclude(found, part, given, settled=place.address not in unsettled)
        elif (network.watched_block or 0) - blocks[
            place.block_hash
        ] < STATE_KEPT_BLOCKS or place.address in unsettled:
            found.unknown += [row.pk for row in part]
        else:
            _without_state(found, place, part, measured_only=rule.credit_measured)
    return found


def _proved(found: _Findings, rows: Sequence[Deposit]) -> list[Deposit]:
    """Those whose receipt says that they happened, in the block where they were seen."""
    hashes = sorted({row.transaction_hash for row in rows})
    receipts = receipts_read(network_id=found.network.pk, hashes=hashes)
    proved = []
    for row in rows:
        got = receipts.get(row.transaction_hash)
        if got is None or got.block_hash != row.block_hash:
            found.unknown.append(row.pk)
        elif not got.status:
            found.refused[row.pk] = UnsupportedReason.TRANSACTION_FAILED.value
        elif row.kind == DepositKind.TOKEN and not _shows(got, row):
            logger.warning("a receipt does not show what was seen", extra={"deposit": str(row.pk)})
            found.unknown.append(row.pk)
        else:
            proved.append(row)
    return proved


def _shows(got: Receipt, row: Deposit) -> bool:
    """Whether the receipt has this transfer at its place."""
    if row.position >= len(got.logs):
        return False
    log = got.logs[row.position]
    topics = log["topics"]
    return (
        log["address"] == row.contract
        and len(topics) == 3
        and topics[0] == abi.topic(abi.TRANSFER_SIGNATURE)
        and abi.topic_address(topics[2]) == row.address.address
        and log["data"][2:66] == f"{row.amount_units:064x}"
    )


def _together(network_id: UUID, places: dict[Place, list[Deposit]]) -> dict[Place, list[Deposit]]:
    """Every deposit of each place that the chain has, ours and others'."""
    rows = (
        Deposit.objects.select_related("address")
        .filter(network_id=network_id, block_number__in={part[0].block_number for part in places.values()})
        .exclude(state__in=GONE)
        .exclude(reason=UnsupportedReason.TRANSACTION_FAILED)
        .order_by("pk")
    )
    together: dict[Place, list[Deposit]] = defaultdict(list)
    for row in rows:
        together[place_of(row)].append(row)
    return together


def _conclude(found: _Findings, part: Sequence[Deposit], given: dict[UUID, Share], *, settled: bool) -> None:
    own = {row.pk for row in part}
    for pk, share in given.items():
        if share.reason and pk in own:
            # One of our own transactions may be in that block without our knowing: ask again.
            if settled:
                found.refused[pk] = share.reason
            else:
                found.unknown.append(pk)
        elif pk in own:
            found.measured[pk] = share.units
        elif not share.reason:
            found.explained[pk] = share.units


def _without_state(found: _Findings, place: Place, part: list[Deposit], *, measured_only: bool) -> None:
    """No node has the block's state any more (we were away for long): what lies at the address now must do.

    Believed as announced when the balance covers the books and every deposit that waits; `measured_units` stays
    empty, so that everybody sees that it was not measured. A token that takes a fee cannot be judged like this.
    """
    covered = False
    if not measured_only and found.network.watched_hash:
        ask = BalanceAsk(place.contract, place.address, found.network.watched_hash)
        (balance,) = balances_read(network_id=found.network.pk, asks=[ask])
        if balance is None:
            found.unknown += [row.pk for row in part]
            return
        covered = isinstance(balance, int) and balance >= booked_units(part[0])
    for row in part:
        if covered:
            found.measured[row.pk] = None
        else:
            found.refused[row.pk] = UnsupportedReason.BALANCE_MISMATCH.value


def booked_units(row: Deposit) -> int:
    """What must lie at the row's address: what the books have there, and what waits to be booked."""
    held = Holding.objects.filter(address_id=row.address_id, asset=row.asset).first()
    waiting = Deposit.objects.filter(
        address_id=row.address_id,
        asset=row.asset,
        state__in=[DepositState.SEEN, DepositState.CONFIRMING, DepositState.IGNORED],
    )
    return (int(held.units) if held else 0) + sum(units_of(one) for one in waiting)


def _write(claim: Claim[Deposit], found: _Findings, rows: Sequence[Deposit]) -> None:
    by_id = {row.pk: row for row in rows if row.network_id == found.network.pk}
    names = notices.Names.read()
    claim.wait([pk for pk in found.unknown if pk in by_id], seconds=UNKNOWN_SECONDS)
    claim.wait([pk for pk in found.halted if pk in by_id], seconds=HALTED_SECONDS)
    events = _refuse(found, by_id, names)
    confirmed = [(by_id[pk], units) for pk, units in found.measured.items() if pk in by_id]
    if found.explained:
        again = Deposit.objects.select_for_update(of=("self",)).filter(
            pk__any_of=list(found.explained),
            state=DepositState.UNSUPPORTED,
            reason=UnsupportedReason.BALANCE_MISMATCH,
        )
        confirmed += [(row, found.explained[row.pk]) for row in again.order_by("pk")]
    events += _confirm(found, confirmed, names)
    events_publish(events)
    claim.stepped.update(by_id)


def _refuse(found: _Findings, by_id: dict[UUID, Deposit], names: notices.Names) -> list[EventDraft]:
    refused = [(by_id[pk], reason) for pk, reason in found.refused.items() if pk in by_id]
    bulk.update(
        "deposits_deposit",
        [row.pk for row, _ in refused],
        {"reason": ("text", [reason for _, reason in refused])},
        constants={"state": DepositState.UNSUPPORTED.value},
        also=STEPPED,
    )
    for row, reason in refused:
        logger.warning("deposit not supported", extra={"deposit": str(row.pk), "reason": reason})
    return [notices.draft("unsupported", row, names, reason=reason) for row, reason in refused]


def _confirm(
    found: _Findings, confirmed: Sequence[tuple[Deposit, int | None]], names: notices.Names
) -> list[EventDraft]:
    now, final = clock.now(), found.network.final_block
    ready = [final is not None and row.block_number <= final for row, _ in confirmed]
    bulk.update(
        "deposits_deposit",
        [row.pk for row, _ in confirmed],
        {
            "measured_units": ("numeric", [units for _, units in confirmed]),
            "run_after": ("timestamptz", [now if soon else now + WAIT for soon in ready]),
        },
        # Read before the nodes were asked: what was final then is a proof at depth.
        constants={"state": DepositState.CONFIRMING.value, "reason": "", "checked_block": final},
        also=STEPPED,
    )
    if any(ready):
        doorbell.ring(CREDIT_BELL)
    return [
        notices.draft(
            "confirming",
            row,
            names,
            measured_units=None if units is None else str(units),
            confirmations=found.network.confirmations,
        )
        for row, units in confirmed
    ]
