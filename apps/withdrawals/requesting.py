"""What a person does: ask, confirm, call off. Each is one transaction."""

from uuid import UUID

from django.db import transaction

from apps.accounts import second_factor
from apps.accounts.models import User
from apps.core import doorbell
from apps.core.api.amounts import amount_format
from apps.core.errors import Conflict, DomainError, NotFound
from apps.core.failpoints import reach
from apps.core.models import Asset
from apps.ledger.domain import AccountKey, AccountKind, hold
from apps.ledger.errors import InsufficientFunds
from apps.ledger.services import accounts_open, journals_post
from apps.withdrawals import guards, limits
from apps.withdrawals.domain import (
    CANCELLABLE,
    CONFIRMATION_TRIES,
    PURPOSE,
    Reason,
    WithdrawalState,
    hold_reference,
)
from apps.withdrawals.errors import WithdrawalsClosed
from apps.withdrawals.fees import Quote, fee_quote
from apps.withdrawals.limits import Room
from apps.withdrawals.models import Withdrawal, WithdrawalRule
from apps.withdrawals.moves import CHECK, requested_publish, withdrawals_move


def withdrawal_quote(*, user_id: UUID, asset: Asset, amount_units: int) -> tuple[Quote, Room, WithdrawalRule]:
    """What withdrawing would cost now, and what the limits leave; nothing is written. Errors as for a request."""
    rule = limits.rule_get(asset=asset)
    quote = fee_quote(rule=rule, asset=asset, amount_units=amount_units)
    return quote, limits.room_read(rule=rule, user_id=user_id), rule


def withdrawal_request(
    *, user_id: UUID, asset: Asset, amount_units: int, destination: str, max_fee_units: int | None = None
) -> Withdrawal:
    """Take a withdrawal down and hold its whole amount, in one transaction.

    `amount_units` is what leaves the account, fee included; `destination` an address as people write it. Raises
    `DestinationRefused`, `WithdrawalsClosed` (frozen, paused, switched off), `LimitExceeded`, `DomainError`
    (`below_minimum`, `fee_above_max`, `insufficient_funds`), `PriceMissing`.
    """
    address = guards.address_parse(destination)
    with transaction.atomic():
        # Locks in this order everywhere: person, rule, withdrawals, ledger accounts, event heads.
        User.objects.select_for_update(no_key=True).filter(pk=user_id).first()
        guards.person_check(user_id=user_id)
        guards.activity_check(asset=asset)
        guards.address_check(address)
        guards.destination_check(user_id=user_id, address=address)
        rule = limits.rule_lock(asset=asset)
        quote = fee_quote(rule=rule, asset=asset, amount_units=amount_units)
        if max_fee_units is not None and quote.fee_units > max_fee_units:
            now_units = amount_format(quote.fee_units, decimals=asset.decimals)
            raise DomainError(
                "fee_above_max", f"The fee is {now_units} {asset.code} now.", pointer="/max_fee", status=409
            )
        limits.limits_check(rule=rule, asset=asset, user_id=user_id, amount_units=amount_units)
        row = Withdrawal.objects.create(
            user_id=user_id,
            asset=asset,
            network=quote.network,
            destination=address,
            amount_units=amount_units,
            fee_units=quote.fee_units,
            sent_units=quote.sent_units,
            flat_fee_units=quote.flat_units,
            gas_numerator=quote.ratio.numerator if quote.ratio else 0,
            gas_denominator=quote.ratio.denominator if quote.ratio else 1,
        )
        _hold(row, asset)
        requested_publish(row)
        reach("withdrawals.request.before_commit")
        doorbell.ring(CHECK)
    return row


def _hold(row: Withdrawal, asset: Asset) -> None:
    available = AccountKey(AccountKind.AVAILABLE, row.asset_id, row.user_id)
    held = AccountKey(AccountKind.HELD, row.asset_id, row.user_id)
    accounts = accounts_open(keys=[available, held])
    draft = hold(
        reference=hold_reference(row.pk),
        available_id=accounts[available],
        held_id=accounts[held],
        units=row.amount_units,
    )
    try:
        journals_post(drafts=[draft])
    except InsufficientFunds as error:
        has = amount_format(error.balance_units, decimals=asset.decimals)
        raise DomainError(
            "insufficient_funds", f"{has} {asset.code} are available.", pointer="/amount", status=409
        ) from error


def withdrawal_lock(*, withdrawal_id: UUID, user_id: UUID | None = None) -> Withdrawal:
    """The row, locked; somebody else's is as absent as none. Raises `NotFound`."""
    rows = Withdrawal.objects.select_for_update().filter(pk=withdrawal_id)
    if user_id is not None:
        rows = rows.filter(user_id=user_id)
    row = rows.first()
    if row is None:
        raise NotFound
    return row


def withdrawal_cancel(*, user_id: UUID, withdrawal_id: UUID) -> Withdrawal:
    """Call it off and give the hold back, until it is being sent. Cancelling twice changes nothing.

    Raises `NotFound`, `Conflict`.
    """
    with transaction.atomic():
        row = withdrawal_lock(withdrawal_id=withdrawal_id, user_id=user_id)
        if row.state != WithdrawalState.CANCELLED:
            if row.state not in CANCELLABLE:
                raise Conflict(
                    "not_cancellable", f"The withdrawal is {row.state}: it cannot be called off any more."
                )
            withdrawals_move([row], WithdrawalState.CANCELLED, reason=Reason.BY_OWNER)
            reach("withdrawals.cancel.before_commit")
    return row


def withdrawal_confirm(*, user_id: UUID, withdrawal_id: UUID, code: str) -> Withdrawal:
    """Show the second factor. Wrong codes are counted, and commit: too many call the withdrawal off.

    Not to be called inside a transaction that an error would roll back. Raises `NotFound`, `Conflict` unless it
    waits for this, `WithdrawalsClosed`, `DomainError` `wrong_code`.
    """
    with transaction.atomic():
        row = withdrawal_lock(withdrawal_id=withdrawal_id, user_id=user_id)
        if row.state != WithdrawalState.AWAITING_CONFIRMATION:
            raise Conflict("not_awaiting_confirmation", f"The withdrawal is {row.state}.")
        guards.person_check(user_id=user_id)
        right = second_factor.current().verify(user_id=user_id, code=code, purpose=f"{PURPOSE}:{row.pk}")
        left = CONFIRMATION_TRIES - row.confirmation_failures - 1
        if right:
            withdrawals_move([row], state_after_confirmation(row, threshold_units(row.asset_id)))
        else:
            Withdrawal.objects.filter(pk=row.pk).update(confirmation_failures=row.confirmation_failures + 1)
            if left <= 0:
                withdrawals_move([row], WithdrawalState.CANCELLED, reason=Reason.CONFIRMATION_FAILED)
        reach("withdrawals.confirm.before_commit")
    if not right:
        said = f"{left} tries left." if left > 0 else "The withdrawal was called off."
        raise DomainError("wrong_code", f"The code is wrong. {said}", pointer="/code")
    return row


def threshold_units(asset_id: UUID) -> int | None:
    """Above how many units two operators must agree; None: never."""
    rules = WithdrawalRule.objects.filter(asset_id=asset_id)
    row = rules.values_list("approval_above_units").first()
    if row is None:
        raise WithdrawalsClosed("withdrawals_disabled", "This asset has no terms any more.")
    units: int | None = row[0]
    return units


def state_after_confirmation(row: Withdrawal, threshold: int | None) -> WithdrawalState:
    """Where a withdrawal goes that its owner stands by."""
    if threshold is not None and row.amount_units > threshold:
        return WithdrawalState.AWAITING_APPROVAL
    return WithdrawalState.APPROVED
