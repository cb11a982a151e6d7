"""From requested to approved: the destination is looked at on chain, then the person's and the operators' word."""

from collections import defaultdict
from uuid import UUID

from django.db import IntegrityError, transaction

from apps.accounts import second_factor
from apps.accounts.models import User
from apps.chain import selectors as chain_selectors
from apps.core.errors import Conflict, DomainError, NotFound, Retryable
from apps.core.failpoints import reach
from apps.core.work import Claim
from apps.providers import selectors as providers_selectors
from apps.withdrawals import guards
from apps.withdrawals.domain import APPROVALS_NEEDED, CANCELLABLE, Reason, WithdrawalState
from apps.withdrawals.models import Withdrawal, WithdrawalApproval, WithdrawalRule
from apps.withdrawals.moves import withdrawals_move
from apps.withdrawals.requesting import state_after_confirmation, withdrawal_lock

S = WithdrawalState


def withdrawals_check(claim: Claim[Withdrawal]) -> None:
    """The step of `withdrawals.check`, for a whole chunk: reject bad destinations, else pass to whose word is next."""
    rows = list(Withdrawal.objects.filter(pk__any_of=claim.ids, state=S.REQUESTED))
    by_network: dict[UUID, set[str]] = defaultdict(set)
    for row in rows:
        by_network[row.network_id].add(row.destination)
    bad: dict[tuple[UUID, str], Reason] = {}
    unseen: set[UUID] = set()
    failure: Retryable | None = None
    for network_id, addresses in by_network.items():
        try:
            for address, reason in _bad_destinations(network_id, addresses).items():
                bad[network_id, address] = reason
        except Retryable as error:
            # One network's silence holds back no other's.
            failure = error
            unseen.add(network_id)
    reach("withdrawals.check.before_lock")
    _decide(claim, [row.pk for row in rows if row.network_id not in unseen], bad)
    if failure is not None:
        raise failure


def _bad_destinations(network_id: UUID, addresses: set[str]) -> dict[str, Reason]:
    """What became ours since the request, and contracts that only the chain tells of."""
    ours = chain_selectors.addresses_ours(addresses=addresses)
    ours |= chain_selectors.contracts_known(addresses=addresses)
    ours |= providers_selectors.contracts_used(addresses=addresses)
    found = guards.contracts_probe(network_id=network_id, addresses=addresses)
    return found | dict.fromkeys(ours, Reason.DESTINATION_IS_OURS)


def _decide(claim: Claim[Withdrawal], ids: list[UUID], bad: dict[tuple[UUID, str], Reason]) -> None:
    with claim.locked() as held:
        rows = [row for row in held if row.state == S.REQUESTED and row.pk in set(ids)]
        thresholds = dict(
            WithdrawalRule.objects.filter(asset_id__in={row.asset_id for row in rows}).values_list(
                "asset_id", "approval_above_units"
            )
        )
        enrolled = second_factor.current().enrolled(user_ids={row.user_id for row in rows})
        groups: dict[tuple[WithdrawalState, Reason | None], list[Withdrawal]] = defaultdict(list)
        for row in rows:
            reason = bad.get((row.network_id, row.destination))
            if reason is not None:
                state = S.REJECTED
            elif row.user_id in enrolled:
                state = S.AWAITING_CONFIRMATION
            else:
                # Terms that are gone are no reason to let money out unseen.
                state = state_after_confirmation(row, thresholds.get(row.asset_id, 0))
            groups[state, reason].append(row)
        for (state, reason), members in sorted(groups.items(), key=lambda item: str(item[0])):
            withdrawals_move(members, state, reason=reason)
        claim.step([row.pk for row in held if row.state != S.REQUESTED])
        reach("withdrawals.check.before_commit")
    reach("withdrawals.check.after_commit")


def withdrawal_approve(*, withdrawal_id: UUID, operator_id: UUID, note: str) -> Withdrawal:
    """One operator's word; the second one lets it leave. Raises `NotFound`, `Conflict` (state, own, twice)."""
    with transaction.atomic():
        row = withdrawal_lock(withdrawal_id=withdrawal_id)
        _operator_check(row, operator_id, note)
        if row.state != S.AWAITING_APPROVAL:
            raise Conflict("not_awaiting_approval", f"The withdrawal is {row.state}.")
        try:
            with transaction.atomic():
                WithdrawalApproval.objects.create(withdrawal=row, operator_id=operator_id, note=note[:300])
        except IntegrityError as error:
            if "withdrawals_approval_once" not in str(error):
                raise
            raise Conflict("approved_already", "You approved this: now somebody else has to.") from error
        if WithdrawalApproval.objects.filter(withdrawal=row).count() >= APPROVALS_NEEDED:
            withdrawals_move([row], S.APPROVED)
        reach("withdrawals.approve.before_commit")
    return row


def withdrawal_reject(*, withdrawal_id: UUID, operator_id: UUID, note: str) -> Withdrawal:
    """Refuse it and give the hold back, until it is being sent. Raises `NotFound`, `Conflict`."""
    with transaction.atomic():
        row = withdrawal_lock(withdrawal_id=withdrawal_id)
        _operator_check(row, operator_id, note)
        if row.state not in CANCELLABLE:
            raise Conflict("not_rejectable", f"The withdrawal is {row.state}.")
        withdrawals_move([row], S.REJECTED, reason=Reason.BY_OPERATOR, details={row.pk: note})
        reach("withdrawals.reject.before_commit")
    return row


def _operator_check(row: Withdrawal, operator_id: UUID, note: str) -> None:
    if not note.strip():
        raise DomainError("reason_missing", "Say why.", pointer="/note")
    if not User.objects.filter(pk=operator_id, is_staff=True, is_active=True).exists():
        raise NotFound("No such operator.")
    if operator_id == row.user_id:
        raise Conflict("own_withdrawal", "Nobody decides about a withdrawal of their own.")
