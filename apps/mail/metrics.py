"""Gauges of mail. What is due, leased and buried stands in `tranche_work_items` too."""

from collections.abc import Iterator

from django.db.models import Count

from apps.core.metrics import Sample, gauge
from apps.mail.models import Message, Suppression


@gauge("tranche_mail_suppressed_addresses", "Addresses that are written to no more.", labels=("reason",))
def _suppressed() -> Iterator[Sample]:
    rows = (
        Suppression.objects.filter(released_at__isnull=True).values_list("reason").annotate(rows=Count("pk"))
    )
    for reason, count in rows.order_by("reason"):
        yield (reason,), float(count)


@gauge(
    "tranche_mail_dead_letters", "Mails that were given up: an operator has to look.", labels=("template",)
)
def _dead() -> Iterator[Sample]:
    rows = Message.objects.filter(buried_at__isnull=False, state__in=["queued", "queued_bulk"])
    for template, count in rows.values_list("template").annotate(rows=Count("pk")).order_by("template"):
        yield (template,), float(count)
