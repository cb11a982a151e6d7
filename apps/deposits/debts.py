"""What people owe after the chain took back what they had spent: paid by later credits and what becomes free, or
written off.

Per person and asset the ledger's `owed` account and the `owed_units` of the person's deposits say the same.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from django.db import connection, transaction
from django.db.models import Q

from apps.accounts.models import User
from apps.accounts.services import user_unfreeze
from apps.core import bulk
from apps.core.failpoints import reach
from apps.deposits.domain import FREEZE_REASON
from apps.deposits.models import Deposit
from apps.ledger.domain import AccountKey, AccountKind, JournalDraft, Posting
from apps.ledger.models import Account
from apps.ledger.services import accounts_open, balances_lock, journals_post

REPAID_KIND = "debt_repaid"

_PAYABLE = """
SELECT DISTINCT debt.owner_id FROM ledger_account AS debt JOIN ledger_account AS available
    ON available.kind = 'available' AND available.owner_id = debt.owner_id AND available.asset_id = debt.asset_id
WHERE debt.kind = 'owed' AND debt.balance_units < 0 AND available.balance_units > 0
"""


@dataclass
class Debts:
    """The locked debts of some people, oldest first, and what is paid on them in this transaction."""

    rows: list[Deposit] = field(default_factory=list)
    owed: dict[tuple[UUID, UUID | None], list[Deposit]] = field(default_factory=dict)
    # Assets of which a row of this chunk was written off once.
    written_off: set[UUID] = field(default_factory=set)
    regained: dict[UUID, int] = field(default_factory=dict)
    paid: set[UUID] = field(default_factory=set)

    @classmethod
    def lock(cls, rows: Sequence[Deposit]) -> "Debts":
        """The debts of the people of `rows`. One statement, which finds nothing as a rule."""
        found = rows_lock("owed_units > 0", Q(owed_units__gt=0), {row.user_id for row in rows})
        owed: dict[tuple[UUID, UUID | None], list[Deposit]] = defaultdict(list)
        for row in found:
            owed[row.user_id, row.asset_id].append(row)
        written_off = {row.asset_id for row in rows if row.written_off_units and row.asset_id}
        return cls(rows=found, owed=dict(owed), written_off=written_off)

    def keys(self) -> list[AccountKey]:
        return [AccountKey(AccountKind.OWED, asset_id, owner) for owner, asset_id in self.owed if asset_id]

    @staticmethod
    def key(row: Deposit) -> AccountKey:
        if row.asset_id is None:
            raise ValueError(f"deposit {row.pk} has no asset")
        return AccountKey(AccountKind.OWED, row.asset_id, row.user_id)

    def pay(self, row: Deposit, units: int) -> tuple[int, int]:
        """Of `units` that are credited for `row`: what makes good its own write-off, and what pays debts."""
        regained = min(units, row.written_off_units)
        if regained:
            self.regained[row.pk] = regained
        left = units - regained
        for debt in self.owed.get((row.user_id, row.asset_id), ()):
            part = min(left, debt.owed_units)
            debt.owed_units -= part
            left -= part
            if part:
                self.paid.add(debt.pk)
        return regained, units - regained - left

    def write(self) -> None:
        """Keep what was paid; free whom nothing binds any more."""
        if self.regained:
            values = list(self.regained.values())
            bulk.update(
                "deposits_deposit",
                list(self.regained),
                {"written_off_units": ("numeric", values)},
                operators={"written_off_units": "-"},
            )
        paid = [row for row in self.rows if row.pk in self.paid]
        if paid:
            owed_write(paid)
            people_free({row.user_id for row in paid})


def rows_lock(condition: str, wanted: Q, user_ids: Collection[UUID]) -> list[Deposit]:
    """These people's deposits that are `wanted` (the condition in SQL), locked in id order; there are few or none."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT id FROM deposits_deposit WHERE {condition} AND user_id = ANY (%s::uuid[])",
            [list(user_ids)],
        )
        ids = [row[0] for row in cursor.fetchall()]
    if not ids:
        return []
    # What is locked is read again: somebody may have been faster.
    rows = Deposit.objects.select_for_update(of=("self",)).filter(wanted, pk__any_of=ids)
    return list(rows.order_by("pk"))


def owed_write(rows: Collection[Deposit]) -> None:
    """Write the rows' `owed_units`; a frozen deposit that nothing is owed for any more is a reversed one."""
    bulk.update(
        "deposits_deposit",
        [row.pk for row in rows],
        {"owed_units": ("numeric", [row.owed_units for row in rows])},
        also="state = CASE WHEN new.owed_units = 0 AND t.state = 'frozen' THEN 'reversed' ELSE t.state END",
    )


def people_free(user_ids: Iterable[UUID]) -> None:
    """Unfreeze those of them who were frozen for a debt and owe nothing of any asset. After the postings.

    Their rows are locked before the look, so that of two payments at once the later one sees the earlier.
    """
    frozen = list(
        User.objects.select_for_update(no_key=True)
        .filter(pk__in=list(user_ids), frozen_reason=FREEZE_REASON)
        .order_by("pk")
    )
    ids = [user.pk for user in frozen]
    owing = set(
        Account.objects.filter(kind=AccountKind.OWED, owner_id__in=ids, balance_units__lt=0).values_list(
            "owner_id", flat=True
        )
    )
    for user_id in ids:
        if user_id not in owing:
            user_unfreeze(user_id=user_id, reason="Nothing is owed any more.")


def debts_collect() -> int:
    """Take what people owe from what they have of the same asset: a hold that was given back, most of all.

    Returns how many debts were paid on. Asked for every few seconds; finds nothing as a rule. A frozen person can
    spend nothing meanwhile, so that nothing is lost by the wait.
    """
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(_PAYABLE)
            people = [row[0] for row in cursor.fetchall()]
        rows = rows_lock("owed_units > 0", Q(owed_units__gt=0), people) if people else []
        if not rows:
            return 0
        keys = {Debts.key(row) for row in rows}
        keys |= {AccountKey(AccountKind.AVAILABLE, key.asset_id, key.owner_id) for key in keys}
        accounts = accounts_open(keys=keys)
        left = balances_lock(account_ids=list(accounts.values()))
        drafts, paid = [], []
        for row in rows:
            owed = Debts.key(row)
            available = accounts[AccountKey(AccountKind.AVAILABLE, owed.asset_id, owed.owner_id)]
            units = min(left[available], row.owed_units)
            if units <= 0:
                continue
            left[available] -= units
            # What is owed of a sighting only ever falls: the name is used once.
            reference = f"deposit:{row.pk}:repaid:{row.sighting}:{row.owed_units}"
            postings = (Posting(available, -units), Posting(accounts[owed], units))
            drafts.append(JournalDraft(REPAID_KIND, reference, postings))
            row.owed_units -= units
            paid.append(row)
        journals_post(drafts=drafts)
        if paid:
            owed_write(paid)
            people_free({row.user_id for row in paid})
        reach("deposits.debts.before_commit")
    return len(paid)
