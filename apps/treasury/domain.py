"""The journals of the treasury, as pure values.

Signs are the ledger's: custody and gas are debit-normal (at or below zero), so a custody balance is minus the
units on chain. Paying gas makes custody rise towards zero and the expense fall below it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from apps.ledger.domain import JournalDraft, Posting

GAS_KIND = "gas"
GAS_CORRECTION_KIND = "gas_correction"
# The custody account that all deposit addresses share: what people sent and nobody has collected yet.
DEPOSITS_REF = "deposits"
CREDIT_KIND = "credit_by_hand"
EQUITY_KIND = "equity_funding"


@dataclass(frozen=True, slots=True)
class GasBooked:
    """What one run of `services.gas_book` did.

    `unfunded` names the wallets (by address) whose gas could not be booked because the ledger does not know of
    that much native money in them: somebody sent it there without `equity_fund`.
    """

    booked: int
    unfunded: tuple[str, ...] = ()


def gas_reference(transaction_id: UUID, recheck_id: UUID | None = None) -> str:
    """The journal reference of a transaction's gas: what makes booking it idempotent.

    With a recheck, of what its gas cost more or less after a fork put the transaction elsewhere.
    """
    return f"gas:{transaction_id}" + (f":{recheck_id}" if recheck_id else "")


def custody_ref(*, address: str, role: str) -> str:
    """Which custody account (`ref`) keeps what lies in a wallet: its own, or that of all deposit addresses."""
    return DEPOSITS_REF if role == "deposit" else address


def gas_journal(
    *,
    transaction_id: UUID,
    cost_units: int,
    custody_id: UUID,
    gas_id: UUID,
    metadata: Mapping[str, Any],
    recheck_id: UUID | None = None,
) -> JournalDraft:
    """The wallet holds less native money, the platform has an expense; a correction may be the other way round."""
    return JournalDraft(
        kind=GAS_CORRECTION_KIND if recheck_id else GAS_KIND,
        reference=gas_reference(transaction_id, recheck_id),
        postings=[Posting(custody_id, cost_units), Posting(gas_id, -cost_units)],
        metadata=metadata,
    )


def incoming_journal(
    *,
    kind: str,
    reference: str,
    amount_units: int,
    custody_id: UUID,
    target_id: UUID,
    metadata: Mapping[str, Any],
) -> JournalDraft:
    """A wallet holds more, and somebody (a person, or the platform itself) is owed it."""
    return JournalDraft(
        kind=kind,
        reference=reference,
        postings=[Posting(custody_id, -amount_units), Posting(target_id, amount_units)],
        metadata=metadata,
    )
