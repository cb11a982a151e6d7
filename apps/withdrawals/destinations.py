"""The personal list of addresses: added early, usable a day later, so that a stolen key has to wait."""

from datetime import timedelta
from uuid import UUID

from django.conf import settings
from django.db import transaction

from apps.accounts.audit import audit_record
from apps.accounts.models import User
from apps.core import clock
from apps.core.errors import Conflict, NotFound
from apps.events.services import EventDraft, events_publish
from apps.withdrawals.domain import CANCELLABLE
from apps.withdrawals.guards import address_check, address_parse
from apps.withdrawals.models import Withdrawal, WithdrawalDestination


def destination_add(*, user_id: UUID, address: str, label: str) -> WithdrawalDestination:
    """Allow withdrawals to `address` from a day from now on.

    Raises `DestinationRefused` (form, checksum, ours, contract), `Conflict` when it is on the list already or the
    list is full, `NotFound`.
    """
    address = address_parse(address, pointer="/address")
    address_check(address, pointer="/address")
    with transaction.atomic():
        # The person's row is the lock under which destinations are counted.
        if not User.objects.select_for_update(no_key=True).filter(pk=user_id, is_active=True).exists():
            raise NotFound
        live = WithdrawalDestination.objects.filter(user_id=user_id, removed_at__isnull=True)
        if live.filter(address=address).exists():
            raise Conflict("destination_exists", "The address is on your list already.")
        if live.count() >= settings.WITHDRAWAL_DESTINATIONS_PER_PERSON:
            most = settings.WITHDRAWAL_DESTINATIONS_PER_PERSON
            raise Conflict("too_many_destinations", f"At most {most} destinations: remove one first.")
        now = clock.now()
        row = WithdrawalDestination.objects.create(
            user_id=user_id,
            address=address,
            label=label,
            created_at=now,
            usable_at=now + timedelta(seconds=settings.WITHDRAWAL_DESTINATION_WAIT_SECONDS),
        )
        _tell("withdrawal_destination.added", row)
        _recorded(
            "withdrawal_destination.added", row, before=None, after={"address": row.address, "label": label}
        )
    return row


def destination_remove(*, user_id: UUID, destination_id: UUID) -> None:
    """Take an address off the list; adding it again waits anew. Removing twice is no error.

    Raises `NotFound`, and `Conflict` while a withdrawal to it could still be called off: do that first, so that
    it is plain what becomes of it.
    """
    with transaction.atomic():
        # The person's row first, as in a request: none to this address can begin meanwhile.
        User.objects.select_for_update(no_key=True).filter(pk=user_id).first()
        row = WithdrawalDestination.objects.filter(pk=destination_id, user_id=user_id).first()
        if row is None:
            raise NotFound
        if row.removed_at is not None:
            return
        waiting = Withdrawal.objects.filter(
            user_id=user_id, destination=row.address, state__in=sorted(CANCELLABLE)
        )
        if waiting.exists():
            raise Conflict("destination_in_use", "A withdrawal to this address is waiting: cancel it first.")
        WithdrawalDestination.objects.filter(pk=row.pk).update(removed_at=clock.now())
        _tell("withdrawal_destination.removed", row)
        before = {"address": row.address, "label": row.label}
        _recorded("withdrawal_destination.removed", row, before=before, after=None)


def _recorded(
    action: str, row: WithdrawalDestination, *, before: dict[str, str] | None, after: dict[str, str] | None
) -> None:
    audit_record(
        actor=row.user_id,
        action=action,
        target_type="withdrawal_destination",
        target_id=row.pk,
        before=before,
        after=after,
    )


def _tell(topic: str, row: WithdrawalDestination) -> None:
    payload = {
        "address": str(row.address),
        "label": row.label,
        "usable_at": row.usable_at.isoformat(),
    }
    events_publish([EventDraft(topic, "person", row.user_id, payload, "withdrawal_destination", row.pk)])
