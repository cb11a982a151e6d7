"""What operators decide, with four eyes: one asks and says why, another one approves.

A deposit that was not supported may be credited; what a person owes after a reorg may be written off. Who asked
cannot approve. Everything is an event of the platform; the person learns the outcome only.
"""

from typing import Any
from uuid import UUID

from django.db import transaction

from apps.chain.domain import CallReverted
from apps.chain.models import Network, Token
from apps.chain.services import BalanceAsk, balances_read
from apps.core import clock, doorbell
from apps.core.errors import Conflict, DomainError, NotFound, Retryable
from apps.core.failpoints import reach
from apps.deposits import notices
from apps.deposits.checking import booked_units
from apps.deposits.crediting import credits_post, verdicts
from apps.deposits.debts import owed_write, people_free
from apps.deposits.domain import WRITE_OFF_KIND, DepositState
from apps.deposits.models import Deposit
from apps.deposits.sightings import CHECK_BELL
from apps.events.services import EventDraft, events_publish
from apps.ledger.domain import AccountKey, AccountKind, JournalDraft, Posting
from apps.ledger.services import accounts_open, journals_post
from apps.treasury.pauses import PLATFORM


def hand_request(*, deposit_id: UUID, actor: str, note: str, units: int | None = None) -> Deposit:
    """Ask for a credit of an unsupported deposit (`units`, all of it unless told), or to write off a frozen one's debt.

    Asking again replaces what was asked. Raises `NotFound`, `Conflict` for a deposit in another state or of a token
    that is not registered, `DomainError` for a missing note or an amount outside of what was announced.
    """
    if not note.strip() or not actor.strip():
        raise DomainError("reason_missing", "Say who does this and why.", pointer="/note")
    with transaction.atomic():
        row = _locked(deposit_id)
        if row.state == DepositState.UNSUPPORTED:
            _asset_find(row)
            most = row.amount_units
        elif row.state == DepositState.FROZEN and row.owed_units:
            most = row.owed_units
        else:
            raise Conflict(
                "nothing_to_decide", f"There is nothing to decide about a deposit that is {row.state}."
            )
        wanted = most if units is None else units
        if not 1 <= wanted <= most:
            raise DomainError(
                "amount_out_of_range", f"The amount is from 1 to {most} units.", pointer="/units"
            )
        row.hand_requested_by, row.hand_requested_at = actor.strip().lower()[:254], clock.now()
        row.hand_note, row.hand_units, row.hand_approved_by = note.strip()[:300], wanted, ""
        row.save()
        events_publish([_draft("requested", row, actor)])
    return row


def hand_withdraw(*, deposit_id: UUID, actor: str) -> Deposit:
    """Take a request back, one's own or another's; the deposit stays as it is. Raises `NotFound`, `Conflict`."""
    with transaction.atomic():
        row = _requested(deposit_id)
        events_publish([_draft("withdrawn", row, actor)])
        row.hand_requested_by, row.hand_requested_at, row.hand_note, row.hand_units = "", None, "", None
        row.save()
    return row


def hand_approve(*, deposit_id: UUID, actor: str) -> Deposit:
    """Do what somebody else asked for. Raises `NotFound`; `Conflict` for one's own request, a block that is not
    final, or more than lies at the address; `Retryable` when no node can say what does."""
    balance = _balance(deposit_id)
    with transaction.atomic():
        row = _requested(deposit_id)
        if row.hand_requested_by == actor.strip().lower() or not actor.strip():
            raise Conflict("same_person", "Somebody else has to approve it.")
        row.hand_approved_by = actor.strip().lower()[:254]
        Deposit.objects.filter(pk=row.pk).update(hand_approved_by=row.hand_approved_by)
        if row.state == DepositState.UNSUPPORTED:
            _credit(row, balance)
        elif row.state == DepositState.FROZEN and row.owed_units:
            _write_off(row)
        else:
            raise Conflict(
                "nothing_to_decide", f"There is nothing to decide about a deposit that is {row.state}."
            )
        events_publish([_draft("approved", row, actor)])
        reach("deposits.hand.before_commit")
    return Deposit.objects.get(pk=row.pk)


def deposits_recheck(*, deposit_ids: list[UUID]) -> int:
    """Look again at unsupported deposits, after their token or asset was allowed; returns how many will be."""
    with transaction.atomic():
        rows = Deposit.objects.select_for_update().filter(
            pk__in=deposit_ids, state=DepositState.UNSUPPORTED, hand_requested_by=""
        )
        count = 0
        for row in rows.order_by("pk"):
            token = Token.objects.filter(network_id=row.network_id, address=row.contract).first()
            row.asset_id = token.asset_id if token is not None else row.asset_id
            row.state, row.reason, row.run_after = DepositState.SEEN, "", clock.now()
            row.save()
            count += 1
        doorbell.ring(CHECK_BELL)
    return count


def _credit(row: Deposit, balance: int | None) -> None:
    units = row.hand_units or 0
    if verdicts([row])[row.pk] != "final":
        raise Conflict("not_final", "Its block is not final, or not on the chain that we hold.")
    if balance is None or balance < booked_units(row) + units:
        raise Conflict("not_covered", "What lies at the address does not cover this besides what is booked.")
    row.measured_units = units
    Deposit.objects.filter(pk=row.pk).update(measured_units=units, asset_id=row.asset_id)
    events_publish(credits_post([row], notices.Names.read()))


def _write_off(row: Deposit) -> None:
    if row.asset_id is None:
        raise Conflict("nothing_to_decide", "The deposit has no asset.")
    units = min(row.hand_units or 0, row.owed_units)
    owed = AccountKey(AccountKind.OWED, row.asset_id, row.user_id)
    loss = AccountKey(AccountKind.LOSS, row.asset_id)
    accounts = accounts_open(keys=[owed, loss])
    postings = [Posting(accounts[owed], units), Posting(accounts[loss], -units)]
    # A part first and the rest later are two journals of one sighting: what was written off before tells them apart.
    reference = f"deposit:{row.pk}:write_off:{row.sighting}:{row.written_off_units}"
    metadata = {"note": row.hand_note, "asked": row.hand_requested_by, "approved": row.hand_approved_by}
    journals_post(drafts=[JournalDraft(WRITE_OFF_KIND, reference, postings, metadata)])
    row.owed_units -= units
    Deposit.objects.filter(pk=row.pk).update(
        written_off_units=row.written_off_units + units, hand_requested_by="", hand_approved_by=""
    )
    owed_write([row])
    payload = {"deposit_id": str(row.pk), "units": str(units), "left_units": str(row.owed_units)}
    events_publish([EventDraft("debt.written_off", "person", row.user_id, payload, "deposit", row.pk)])
    people_free([row.user_id])


def _balance(deposit_id: UUID) -> int | None:
    """What lies at the deposit's address now, asked before any lock is taken; None for a write-off."""
    row = Deposit.objects.select_related("address", "network").filter(pk=deposit_id).first()
    if row is None:
        raise NotFound("No such deposit.")
    if row.state != DepositState.UNSUPPORTED:
        return None
    network: Network = row.network
    if not network.watched_hash:
        raise Retryable("the network is not watched")
    ask = BalanceAsk(row.contract, row.address.address, network.watched_hash)
    (balance,) = balances_read(network_id=network.pk, asks=[ask])
    if balance is None:
        raise Retryable("no endpoint has the state of the newest block")
    return None if isinstance(balance, CallReverted) else balance


def _asset_find(row: Deposit) -> None:
    if row.asset_id is not None:
        return
    token = Token.objects.filter(network_id=row.network_id, address=row.contract).first()
    if token is None:
        raise Conflict("token_not_registered", "Register the token first, so that its decimals are known.")
    row.asset_id = token.asset_id


def _locked(deposit_id: UUID) -> Deposit:
    row = (
        Deposit.objects.select_for_update(of=("self",))
        .select_related("address")
        .filter(pk=deposit_id)
        .first()
    )
    if row is None:
        raise NotFound("No such deposit.")
    return row


def _requested(deposit_id: UUID) -> Deposit:
    row = _locked(deposit_id)
    if not row.hand_requested_by or row.hand_approved_by:
        raise Conflict("not_requested", "Nobody has asked for this.")
    return row


def _draft(what: str, row: Deposit, actor: str) -> EventDraft:
    payload: dict[str, Any] = {
        "deposit_id": str(row.pk),
        "state": row.state,
        "units": None if row.hand_units is None else str(row.hand_units),
        "note": row.hand_note,
        "requested_by": row.hand_requested_by,
        "actor": actor,
    }
    return EventDraft(f"deposit.hand_{what}", "platform", PLATFORM, payload, "deposit", row.pk)
