"""What stands in the way of closing an account, and what is blanked with it; set-based for the invariant.

A remainder too small to be withdrawn would keep an account open for ever: its owner may give it up, and the ledger says
so by a journal of its own.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from uuid import UUID

from django.db import connection

from apps.accounts.closing import Obstacle, eraser_register, give_up_install, obstacle_register
from apps.accounts.exports import Row, section_register
from apps.accounts.models import User
from apps.core import bulk
from apps.core.api.amounts import amount_format
from apps.core.errors import DomainError
from apps.core.models import Asset
from apps.deposits.domain import DepositState
from apps.launch.models import Invitation, WaitlistEntry
from apps.ledger.domain import AccountKey, AccountKind, JournalDraft, Posting
from apps.ledger.models import Account
from apps.ledger.services import accounts_open, journals_post
from apps.plans.models import Plan, PlanState, SlotState
from apps.withdrawals.domain import FINAL, WithdrawalState
from apps.withdrawals.models import WithdrawalDestination
from apps.withdrawals.services import withdrawal_quote

REMAINDER_KIND = "remainder_given_up"
LIVE_PLANS = (PlanState.ACTIVE, PlanState.PAUSED)
# In a block and on its way to the balance. What is below the minimum or not supported is not: it may lie for years.
ARRIVING = (DepositState.SEEN, DepositState.CONFIRMING)
Found = Iterable[tuple[UUID, Obstacle]]


def _balances(user_ids: Collection[UUID]) -> Found:
    rows = (
        Account.objects.filter(owner_id__any_of=list(user_ids))
        .exclude(balance_units=0)
        .select_related("asset")
        .order_by("asset__code", "kind")
    )
    for row in rows:
        amount = amount_format(abs(int(row.balance_units)), decimals=row.asset.decimals)
        what = f"{amount} {row.asset.code}"
        if row.owner_id is None:
            continue
        if row.kind == AccountKind.AVAILABLE:
            yield (
                row.owner_id,
                Obstacle("balance", f"{what} are yours: withdraw them, or give up what is too small."),
            )
        elif row.kind == AccountKind.HELD:
            yield row.owner_id, Obstacle("held", f"{what} are held for something under way.")
        else:
            yield row.owner_id, Obstacle("owed", f"{what} are owed to the platform.")


_COUNTS = """
SELECT {owner}, count(*) FROM {table} WHERE {owner} = ANY (%s::uuid[]) AND state = ANY (%s) GROUP BY {owner}
"""


def _counted(
    table: str, owner: str, states: Collection[str], code: str, detail: str, user_ids: Collection[UUID]
) -> Found:
    with connection.cursor() as cursor:
        cursor.execute(
            _COUNTS.format(table=table, owner=owner), [bulk.uuids(user_ids), sorted(map(str, states))]
        )
        for user_id, count in cursor.fetchall():
            yield user_id, Obstacle(code, detail, count)


_OPEN_SLOTS = (SlotState.OPEN, SlotState.RESERVED, SlotState.BATCHED)
_OPEN_WITHDRAWALS = tuple(state for state in WithdrawalState if state not in FINAL)


def _plans(user_ids: Collection[UUID]) -> Found:
    return _counted("plans_plan", "owner_id", LIVE_PLANS, "plans", "Cancel your plans first.", user_ids)


def _slots(user_ids: Collection[UUID]) -> Found:
    return _counted("plans_slot", "owner_id", _OPEN_SLOTS, "buys", "Buys are under way.", user_ids)


def _withdrawals(user_ids: Collection[UUID]) -> Found:
    detail = "Withdrawals are under way."
    return _counted("withdrawals_withdrawal", "user_id", _OPEN_WITHDRAWALS, "withdrawals", detail, user_ids)


def _deposits(user_ids: Collection[UUID]) -> Found:
    detail = "Deposits are on their way to your balance."
    return _counted("deposits_deposit", "user_id", ARRIVING, "deposits", detail, user_ids)


def remainders_give_up(user_id: UUID, agreed: Mapping[str, str]) -> None:
    """Book to the platform what this person has available and could not withdraw, exactly as they agreed to.

    `agreed` maps an asset's code to its whole balance as a decimal string. Raises `DomainError` for a balance that is
    another by now, or that can be withdrawn; `Retryable` while no fee can be quoted. Inside the closing transaction.
    """
    rows = Account.objects.filter(
        owner_id=user_id, kind=AccountKind.AVAILABLE, balance_units__gt=0, asset__code__in=agreed
    ).select_related("asset")
    found = {row.asset.code: row for row in rows}
    drafts = []
    for code, amount in sorted(agreed.items()):
        row = found.get(code)
        pointer = f"/give_up/{code}"
        if row is None or amount != amount_format(int(row.balance_units), decimals=row.asset.decimals):
            raise DomainError(
                "remainder_differs", "That is not what you have of it.", pointer=pointer, status=409
            )
        if not _too_small(user_id, row.asset, int(row.balance_units)):
            raise DomainError("remainder_withdrawable", "This can be withdrawn.", pointer=pointer, status=409)
        equity = AccountKey(AccountKind.EQUITY, row.asset_id)
        units = int(row.balance_units)
        drafts.append(
            JournalDraft(
                kind=REMAINDER_KIND,
                reference=f"user:{user_id}:closed:{row.asset_id}",
                postings=[Posting(row.pk, -units), Posting(accounts_open(keys=[equity])[equity], units)],
            )
        )
    journals_post(drafts=drafts)


def _too_small(user_id: UUID, asset: Asset, units: int) -> bool:
    try:
        withdrawal_quote(user_id=user_id, asset=asset, amount_units=units)
    except DomainError as error:
        return error.code == "below_minimum"
    return False


def _labels_erase(user: User) -> None:
    """Addresses and amounts are the books'; what people called things is theirs."""
    WithdrawalDestination.objects.filter(user_id=user.pk).update(label="")
    Plan.objects.filter(owner_id=user.pk).update(name="")


def _launch_erase(user: User) -> None:
    WaitlistEntry.objects.filter(email=user.email).delete()
    for row in Invitation.objects.filter(email=user.email):
        Invitation.objects.filter(pk=row.pk).update(email=f"closed-{row.pk}@closed.invalid")


def _waitlist_section(user_id: UUID) -> Iterator[Row]:
    email = User.objects.values_list("email", flat=True).get(pk=user_id)
    names = ("id", "email", "state", "referral_code", "referrals", "created_at", "proved_at")
    yield from WaitlistEntry.objects.filter(email=email).values(*names)


obstacle_register("1 balances", _balances)
obstacle_register("2 plans", _plans)
obstacle_register("3 slots", _slots)
obstacle_register("4 withdrawals", _withdrawals)
obstacle_register("5 deposits", _deposits)
give_up_install(remainders_give_up)
eraser_register("labels", _labels_erase)
eraser_register("launch", _launch_erase)
section_register("waitlist", _waitlist_section)
