"""A person's deposit address: derived from the extended public key, one per person, the same on every network."""

from uuid import UUID

from django.conf import settings
from django.db import connection, transaction

from apps.accounts.models import User
from apps.chain import derivation
from apps.chain.services import deposit_wallet_open
from apps.core.errors import NotFound
from apps.deposits.errors import DepositsUnavailable
from apps.deposits.history import history_ask
from apps.deposits.models import DepositAddress
from apps.events.services import EventDraft, events_publish


def deposit_address_open(*, user_id: UUID) -> DepositAddress:
    """The person's address; the first call makes it, with the wallet that will collect from it.

    Two calls at once meet at the person's row. An index comes from a sequence: one that a failed transaction
    took stays unused, and no two people ever share one. Raises `NotFound`, `DepositsUnavailable`.
    """
    known = DepositAddress.objects.filter(user_id=user_id).first()
    if known is not None:
        return known
    if not settings.DEPOSIT_XPUB:
        raise DepositsUnavailable
    with transaction.atomic():
        if not User.objects.select_for_update(no_key=True).filter(pk=user_id, is_active=True).exists():
            raise NotFound
        known = DepositAddress.objects.filter(user_id=user_id).first()
        if known is not None:
            return known
        index = _index_next()
        address = derivation.address_at(xpub=settings.DEPOSIT_XPUB, index=index)
        deposit_wallet_open(address=address, index=index)
        opened = DepositAddress.objects.create(user_id=user_id, index=index, address=address)
        history_ask(opened)
        payload = {"address": address}
        events_publish(
            [EventDraft("deposit_address.opened", "person", user_id, payload, "deposit_address", opened.pk)]
        )
    return opened


def _index_next() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT nextval('deposits_address_index')")
        return int(cursor.fetchone()[0])
