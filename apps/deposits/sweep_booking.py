"""What collecting means for the books: units leave the deposit addresses for the collecting wallet, gas comes in."""

from uuid import UUID

from apps.chain import selectors as chain_selectors
from apps.chain import services as chain
from apps.chain.domain import TransactionState
from apps.chain.models import OutboundTransaction
from apps.core.errors import Retryable
from apps.core.failpoints import reach
from apps.deposits.holdings import holdings_move
from apps.deposits.models import Holding, Sweep
from apps.events.services import EventDraft, events_publish
from apps.ledger.domain import AccountKey, AccountKind, JournalDraft, Posting
from apps.ledger.services import accounts_open, journals_post
from apps.treasury.domain import DEPOSITS_REF

SWEEP_KIND, TOP_UP_KIND = "sweep", "gas_top_up"
_AGAIN_SECONDS = 5.0


def top_up_book(row: Sweep, funding: OutboundTransaction) -> None:
    """Gas that arrived at an address: custody of the gas wallet to that of the deposit addresses. Idempotent."""
    if funding.booked_at is not None:
        return
    chain.transactions_book(transaction_ids=[funding.pk])
    if funding.state != TransactionState.CONFIRMED:
        return
    native_id = row.network.native_asset_id
    holdings_move({(row.address_id, native_id): funding.value_units})
    _post(
        kind=TOP_UP_KIND,
        reference=f"gas_top_up:{funding.pk}",
        asset_id=native_id,
        taken={funding.wallet.address: funding.value_units},
        given={DEPOSITS_REF: funding.value_units},
        metadata={"sweep_id": str(row.pk), "address": row.address.address},
    )
    reach("deposits.sweep.top_up_posted")


def sweep_book(row: Sweep, sent: OutboundTransaction, *, received: int | None) -> bool:
    """Book a confirmed transfer by what it really moved; False when it moved nothing.

    `received` is what the collecting wallet grew by, where that was measured; else the receipt's logs say it. What
    the token kept on the way is a loss of the platform's. Sets `units` and `received_units`. Raises `Retryable`
    when the books do not know (yet) of the units that were moved: a reorg took their deposit back and it is in a
    block again, but not credited again.
    """
    token = row.token.address if row.token is not None else None
    own = row.address.address
    moves = [move for move in chain_selectors.transaction_moves(sent) if move.token == token]
    left = sum((m.sender == own) * m.units - (m.receiver == own) * m.units for m in moves)
    gained: dict[str, int] = {}
    for move in moves:
        if move.sender == own:
            gained[move.receiver] = gained.get(move.receiver, 0) + move.units
    collector = collector_of(row, sent)
    arrived = gained.get(collector, 0) if received is None else min(received, left)
    if left <= 0:
        return False
    chain.transactions_book(transaction_ids=[sent.pk])
    held = (
        Holding.objects.select_for_update().filter(address_id=row.address_id, asset_id=row.asset_id).first()
    )
    if held is None or held.units < left:
        raise Retryable("the books do not know (yet) of what was moved", after_seconds=_AGAIN_SECONDS)
    holdings_move({(row.address_id, row.asset_id): -left})
    _post(
        kind=SWEEP_KIND,
        reference=f"sweep:{row.pk}",
        asset_id=row.asset_id,
        taken={DEPOSITS_REF: left},
        given={collector: arrived},
        metadata={"sweep_id": str(row.pk), "address": own, "block_number": sent.block_number},
    )
    reach("deposits.sweep.posted")
    row.units, row.received_units = left, arrived
    events_publish(
        [
            EventDraft(
                "sweep.completed",
                "wallet",
                sent.wallet_id,
                {
                    "asset": row.asset.code,
                    "units": str(left),
                    "received_units": str(arrived),
                    "transaction_hash": chain_selectors.transaction_hash(sent),
                },
                "sweep",
                row.pk,
            )
        ]
    )
    return True


def collector_of(row: Sweep, sent: OutboundTransaction) -> str:
    """The wallet that the transfer was sent to, which may not be the one that collects now."""
    if row.token is None:
        return str(sent.to)
    return "0x" + sent.data[10:74][-40:]


def _post(
    *,
    kind: str,
    reference: str,
    asset_id: UUID,
    taken: dict[str, int],
    given: dict[str, int],
    metadata: dict[str, object],
) -> None:
    """Move units between custody accounts; what does not arrive is lost."""
    refs = {**dict.fromkeys(taken), **dict.fromkeys(given)}
    custody = {ref: AccountKey(AccountKind.CUSTODY, asset_id, ref=ref) for ref in refs}
    loss = AccountKey(AccountKind.LOSS, asset_id)
    accounts = accounts_open(keys=[*custody.values(), loss])
    lost = sum(taken.values()) - sum(given.values())
    postings = [Posting(accounts[custody[ref]], units) for ref, units in taken.items()]
    postings += [Posting(accounts[custody[ref]], -units) for ref, units in given.items() if units]
    if lost:
        postings.append(Posting(accounts[loss], -lost))
    journals_post(drafts=[JournalDraft(kind, reference, tuple(postings), metadata)])
