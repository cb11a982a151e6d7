"""Books what the platform's own wallets pay and receive outside of plans: gas, credits by hand, equity."""

import logging
from collections import defaultdict
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import F

from apps.accounts.models import User
from apps.chain.domain import FINAL
from apps.chain.models import Network, OutboundTransaction, Token, Wallet
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

logger = logging.getLogger(__name__)

_CHUNK = 1_000


def gas_book(*, limit: int = _CHUNK) -> GasBooked:
    """Book the gas of up to `limit` final transactions that burned some and are not booked yet, oldest first.

    Confirmed, reverted and cancelled ones alike: the network took `gas_used x effective_gas_price` of each. Call
    it again while `booked` equals `limit`. Two at once share the work (SKIP LOCKED), and a journal's reference is
    its transaction, so that gas is booked once whatever dies. A fixed number of statements per network and
    wallet. On rollups the separate fee for layer 1 is not part of that product and shows up in the invariant.
    """
    booked = 0
    unfunded: list[str] = []
    with transaction.atomic():
        rows = list(
            OutboundTransaction.objects.select_for_update(skip_locked=True, no_key=True, of=("self",))
            .select_related("network", "wallet")
            .filter(gas_booked_at__isnull=True, gas_used__gt=0, state__in=sorted(FINAL))
            .order_by("id")[:limit]
        )
        if not rows:
            return GasBooked(booked=0, unfunded=())
        by_custody: dict[tuple[UUID, str], list[OutboundTransaction]] = defaultdict(list)
        for row in rows:
            ref = custody_ref(address=row.wallet.address, role=row.wallet.role)
            by_custody[row.network.native_asset_id, ref].append(row)
        reach("treasury.gas.before_post")
        for (asset_id, ref), burned in sorted(by_custody.items()):
            try:
                with transaction.atomic():
                    poor = _pool_pay(asset_id, burned)
                    paid = [row for row in burned if row.wallet.address not in poor]
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


def _pool_pay(asset_id: UUID, burned: Sequence[OutboundTransaction]) -> set[str]:
    """Where a pool keeps books of its own, it pays there; the addresses that cannot are returned."""
    pool = pool_of(role=burned[0].wallet.role)
    if pool is None:
        return set()
    # After a restore a journal may be there without its mark: it is not paid a second time.
    known = set(
        Journal.objects.filter(reference__in=[gas_reference(row.pk) for row in burned]).values_list(
            "reference", flat=True
        )
    )
    units: dict[str, int] = defaultdict(int)
    for row in burned:
        if gas_reference(row.pk) not in known:
            units[row.wallet.address] += row.gas_cost_units
    return pool.gas_pay(asset_id=asset_id, units=units)


def _gas_post(asset_id: UUID, ref: str, burned: Sequence[OutboundTransaction]) -> None:
    custody = AccountKey(AccountKind.CUSTODY, asset_id, ref=ref)
    gas = AccountKey(AccountKind.GAS, asset_id)
    accounts = accounts_open(keys=[custody, gas])
    journals_post(
        drafts=[
            gas_journal(
                transaction_id=row.id,
                cost_units=row.gas_cost_units,
                custody_id=accounts[custody],
                gas_id=accounts[gas],
                metadata={"purpose": row.purpose, "state": row.state, "block_number": row.block_number},
            )
            for row in burned
            if row.gas_cost_units > 0
        ]
    )
    OutboundTransaction.objects.filter(pk__in=[row.pk for row in burned]).update(gas_booked_at=clock.now())


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
