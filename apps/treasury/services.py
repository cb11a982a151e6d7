"""Books what the platform's own wallets pay and receive outside of plans: gas, credits by hand, equity."""

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import F, OuterRef, Subquery

from apps.accounts.models import User
from apps.chain.domain import FINAL
from apps.chain.models import Network, OutboundTransaction, Recheck, Token, Wallet
from apps.core import clock
from apps.core.errors import DomainError, NotFound
from apps.core.failpoints import reach
from apps.events.services import EventDraft, events_publish
from apps.ledger.domain import AccountKey, AccountKind, PostResult
from apps.ledger.errors import InsufficientFunds
from apps.ledger.models import Journal
from apps.ledger.services import accounts_open, journals_post
from apps.treasury.domain import (
    CREDIT_KIND,
    EQUITY_KIND,
    GasBooked,
    custody_ref,
    gas_journal,
    gas_reference,
    incoming_journal,
)
from apps.treasury.errors import NoWallet
from apps.treasury.pools import pool_of
from apps.treasury.selectors import gas_booked_units

logger = logging.getLogger(__name__)

_CHUNK = 1_000


@dataclass(frozen=True, slots=True)
class _Bill:
    """What is to be booked of a transaction's gas: all of it, or what a fork made it cost more or less."""

    row: OutboundTransaction
    units: int
    recheck_id: UUID | None = None

    @property
    def address(self) -> str:
        return str(self.row.wallet.address)

    @property
    def reference(self) -> str:
        return gas_reference(self.row.pk, self.recheck_id)


def gas_book(*, limit: int = _CHUNK) -> GasBooked:
    """Book the gas of up to `limit` final transactions that burned some and are not booked yet, oldest first.

    Confirmed, reverted and cancelled ones alike: the network took `gas_used x effective_gas_price` of each. Call
    it again while `booked` equals `limit`. Two at once share the work (SKIP LOCKED), and a journal's reference is
    its transaction, so that gas is booked once whatever dies. Of one that a fork put elsewhere after it was booked
    (`chain.Recheck`), the difference is booked. A fixed number of statements per network and
    wallet. On rollups the separate fee for layer 1 is not part of that product and shows up in the invariant.
    """
    booked = 0
    unfunded: list[str] = []
    newest = Recheck.objects.filter(transaction=OuterRef("pk")).order_by("-id").values("id")[:1]
    with transaction.atomic():
        rows = list(
            OutboundTransaction.objects.select_for_update(skip_locked=True, no_key=True, of=("self",))
            .select_related("network", "wallet")
            .annotate(recheck_id=Subquery(newest))
            .filter(gas_booked_at__isnull=True, gas_used__gt=0, state__in=sorted(FINAL))
            .order_by("id")[:limit]
        )
        if not rows:
            return GasBooked(booked=0, unfunded=())
        by_custody: dict[tuple[UUID, str], list[_Bill]] = defaultdict(list)
        for bill in _bills(rows):
            ref = custody_ref(address=bill.address, role=bill.row.wallet.role)
            by_custody[bill.row.network.native_asset_id, ref].append(bill)
        reach("treasury.gas.before_post")
        for (asset_id, ref), burned in sorted(by_custody.items()):
            try:
                with transaction.atomic():
                    poor = _pool_pay(asset_id, burned)
                    paid = [bill for bill in burned if bill.address not in poor]
                    _gas_post(asset_id, ref, paid)
            except InsufficientFunds:
                unfunded.append(ref)
                continue
            unfunded += sorted(poor)
            booked += len(paid)
        reach("treasury.gas.before_commit")
    if unfunded:
        logger.error("gas not booked: the ledger knows too little native money", extra={"wallets": unfunded})
    return GasBooked(booked=booked, unfunded=tuple(unfunded))


def _bills(rows: Sequence[OutboundTransaction]) -> list[_Bill]:
    """`rows` carry their newest `recheck_id`, if a fork ever had them looked for."""
    rechecks: dict[UUID, UUID] = {row.pk: row.recheck_id for row in rows if row.recheck_id}  # type: ignore[attr-defined]
    before = gas_booked_units(transaction_ids=list(rechecks)) if rechecks else {}
    return [
        _Bill(row, row.gas_cost_units - before[row.pk], rechecks[row.pk])
        if row.pk in before
        else _Bill(row, row.gas_cost_units)
        for row in rows
    ]


def _pool_pay(asset_id: UUID, burned: Sequence[_Bill]) -> set[str]:
    """Where a pool keeps books of its own, it pays there; the addresses that cannot are returned."""
    pool = pool_of(role=burned[0].row.wallet.role)
    if pool is None:
        return set()
    # After a restore a journal may be there without its mark: it is not paid a second time.
    known = set(
        Journal.objects.filter(reference__in=[bill.reference for bill in burned]).values_list(
            "reference", flat=True
        )
    )
    units: dict[str, int] = defaultdict(int)
    for bill in burned:
        if bill.reference not in known:
            units[bill.address] += bill.units
    return pool.gas_pay(asset_id=asset_id, units=units)


def _gas_post(asset_id: UUID, ref: str, burned: Sequence[_Bill]) -> None:
    custody = AccountKey(AccountKind.CUSTODY, asset_id, ref=ref)
    gas = AccountKey(AccountKind.GAS, asset_id)
    accounts = accounts_open(keys=[custody, gas])
    journals_post(
        drafts=[
            gas_journal(
                transaction_id=bill.row.pk,
                recheck_id=bill.recheck_id,
                cost_units=bill.units,
                custody_id=accounts[custody],
                gas_id=accounts[gas],
                metadata={
                    "purpose": bill.row.purpose,
                    "state": bill.row.state,
                    "block_number": bill.row.block_number,
                },
            )
            for bill in burned
            if bill.units
        ]
    )
    OutboundTransaction.objects.filter(pk__in=[bill.row.pk for bill in burned]).update(
        gas_booked_at=clock.now()
    )


def credit_by_hand(
    *,
    user_id: UUID,
    asset_id: UUID,
    amount_units: int,
    reference: str,
    note: str,
    actor: str,
    wallet_id: UUID | None = None,
) -> PostResult:
    """Credit a person for units that already lie in a wallet: custody to available, with who did it and why.

    For faucets and for operators who settle a case by hand; deposits that the chain shows by itself never come
    this way. Idempotent by `reference`. `wallet_id` defaults to the network's oldest enabled swap wallet.
    Raises `NotFound` for an unknown person, `DomainError` for an amount below 1 or a missing note, `NoWallet`,
    and the ledger's `ReferenceReused` when the reference was used for something else.
    """
    _said_check(amount_units=amount_units, note=note, actor=actor)
    if not User.objects.filter(pk=user_id).exists():
        raise NotFound("No such person.")
    with transaction.atomic():
        result = _receive(
            kind=CREDIT_KIND,
            reference=f"credit:{reference}",
            asset_id=asset_id,
            amount_units=amount_units,
            target=AccountKey(AccountKind.AVAILABLE, asset_id, owner_id=user_id),
            wallet_id=wallet_id,
            metadata={"note": note, "actor": actor},
        )
        if result.posted:
            events_publish(
                [
                    EventDraft(
                        topic="balance.credited",
                        subject_type="person",
                        subject_id=user_id,
                        payload={"asset_id": str(asset_id), "amount_units": str(amount_units), "note": note},
                    )
                ]
            )
        reach("treasury.credit.before_commit")
    return result


def equity_fund(
    *,
    asset_id: UUID,
    amount_units: int,
    reference: str,
    note: str,
    actor: str,
    wallet_id: UUID | None = None,
) -> PostResult:
    """Book the platform's own money that lies in a wallet (native coin for gas, mostly): custody to equity.

    Idempotent by `reference`; errors as for `credit_by_hand`.
    """
    _said_check(amount_units=amount_units, note=note, actor=actor)
    with transaction.atomic():
        return _receive(
            kind=EQUITY_KIND,
            reference=f"equity:{reference}",
            asset_id=asset_id,
            amount_units=amount_units,
            target=AccountKey(AccountKind.EQUITY, asset_id),
            wallet_id=wallet_id,
            metadata={"note": note, "actor": actor},
        )


def _said_check(*, amount_units: int, note: str, actor: str) -> None:
    if amount_units < 1:
        raise DomainError("amount_not_positive", "The amount must be positive.", pointer="/amount")
    if not note.strip() or not actor.strip():
        raise DomainError("reason_missing", "Say who does this and why.", pointer="/note")


def _receive(
    *,
    kind: str,
    reference: str,
    asset_id: UUID,
    amount_units: int,
    target: AccountKey,
    wallet_id: UUID | None,
    metadata: dict[str, Any],
) -> PostResult:
    custody = AccountKey(AccountKind.CUSTODY, asset_id, ref=_wallet_address(asset_id, wallet_id))
    accounts = accounts_open(keys=[custody, target])
    draft = incoming_journal(
        kind=kind,
        reference=reference,
        amount_units=amount_units,
        custody_id=accounts[custody],
        target_id=accounts[target],
        metadata=metadata,
    )
    return journals_post(drafts=[draft])


def _wallet_address(asset_id: UUID, wallet_id: UUID | None) -> str:
    on_a_network = (
        Token.objects.filter(asset_id=asset_id).exists()
        or Network.objects.filter(native_asset_id=asset_id).exists()
    )
    if not on_a_network:
        raise NoWallet("the asset lives on no network")
    wallets = Wallet.objects.filter(enabled=True)
    wallets = wallets.filter(pk=wallet_id) if wallet_id else wallets.filter(role=Wallet.Role.SWAP)
    address = wallets.order_by(F("created_at"), F("id")).values_list("address", flat=True).first()
    if address is None:
        raise NoWallet("no enabled wallet holds this")
    return str(address)
