"""Which addresses are written to no more: by a provider's word, by hand, or by the person's own."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from uuid import UUID

from django.db import IntegrityError, connection, transaction

from apps.core import bulk, clock
from apps.core.ids import uuid7, uuid7_many
from apps.mail.domain import EVERYTHING, KINDS, ProviderEventKind, SuppressionReason, address_normalise
from apps.mail.models import Message, ProviderEvent, Suppression, Unsubscription

# Told of an address and the kinds it no longer wants, in the transaction: how a person's preferences follow.
_listeners: list[Callable[[str, frozenset[str]], None]] = []

_STOPPING = {
    ProviderEventKind.BOUNCED: SuppressionReason.BOUNCE,
    ProviderEventKind.COMPLAINED: SuppressionReason.COMPLAINT,
}


@dataclass(frozen=True)
class ProviderNews:
    """One event of a provider's webhook, in our words. `provider_id` is the provider's id of the mail."""

    provider: str
    external_id: str
    kind: ProviderEventKind
    address: str
    provider_id: str
    detail: str = ""


def provider_news_take(news: ProviderNews) -> bool:
    """Write the event down and do what it asks for; False when it was known already.

    A bounce for good and a complaint suppress the address that the message went to. What is not about a message of
    ours changes nothing: another platform may share the provider's account.
    """
    message = Message.objects.filter(provider_id=news.provider_id).first() if news.provider_id else None
    # The message's own address, unless it is forgotten.
    address = address_normalise((message.to if message else "") or news.address)[:254]
    event = ProviderEvent(
        pk=uuid7(),
        provider=news.provider,
        external_id=news.external_id,
        kind=news.kind,
        address=address,
        message=message,
        detail=news.detail[:300],
    )
    with transaction.atomic():
        try:
            with transaction.atomic():
                event.save(force_insert=True)
        except IntegrityError:
            return False
        reason = _STOPPING.get(news.kind)
        if reason is not None and message is not None:
            address_suppress(address=address, reason=reason, detail=news.detail, message_id=message.pk)
    return True


def address_suppress(
    *, address: str, reason: SuppressionReason, detail: str = "", message_id: UUID | None = None
) -> None:
    """Write to this address no more; a second time changes nothing."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO mail_suppression (id, address, reason, detail, message_id, created_at)"
            " VALUES (%s, %s, %s, %s, %s, %s)"
            " ON CONFLICT (address, reason) WHERE released_at IS NULL DO NOTHING",
            [uuid7(), address_normalise(address), reason.value, detail[:300], message_id, clock.now()],
        )


def suppressions_release(*, ids: Collection[UUID]) -> int:
    """Write to these addresses again; returns how many were suppressed. What was not sent stays unsent."""
    rows = Suppression.objects.filter(pk__any_of=list(ids), released_at__isnull=True)
    return rows.update(released_at=clock.now())


def unsubscribe_listen(listener: Callable[[str, frozenset[str]], None]) -> None:
    """Have `listener(address, kinds)` told in the transaction of each unsubscription."""
    if listener not in _listeners:
        _listeners.append(listener)


def address_unsubscribe(*, address: str, kind: str) -> None:
    """No more mails of `kind` (of `domain.KINDS`, or `EVERYTHING` that is not essential) to this address.

    Works from the next mail on, those that are queued included. Raises `ValueError` for an unknown kind.
    """
    if kind != EVERYTHING and kind not in KINDS:
        raise ValueError("there is no such kind of mail")
    kinds = frozenset(KINDS) if kind == EVERYTHING else frozenset({kind})
    wanted = sorted(kinds | {kind})
    normal, now = address_normalise(address), clock.now()
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO mail_unsubscription (id, address, kind, created_at)"
                " SELECT d.id, %s, d.kind, %s FROM unnest(%s::uuid[], %s::text[]) AS d (id, kind)"
                " ON CONFLICT (address, kind) DO NOTHING",
                [normal, now, bulk.uuids(uuid7_many(len(wanted), now)), bulk.array(wanted)],
            )
        for listener in _listeners:
            listener(normal, kinds)


def address_resubscribe(*, address: str, kinds: Collection[str]) -> None:
    """These kinds are wanted again: what preferences call when a person turns one on."""
    found = Unsubscription.objects.filter(address=address_normalise(address))
    found.filter(kind__in=[*kinds, EVERYTHING]).delete()
