"""Reads of plans and slots for their owner. A fixed number of queries each; another person's id finds nothing."""

from typing import Any
from uuid import UUID

from django.db.models import Q

from apps.core.api.pagination import Page, PageQuery, keyset_page
from apps.core.errors import NotFound
from apps.ledger.models import Journal
from apps.plans.models import Plan, Slot

_MARKET = ("market__sold_asset", "market__bought_asset")


def plans_page(*, owner_id: UUID, query: PageQuery, state: str = "") -> Page[Plan]:
    """A person's plans, newest first. One query."""
    rows = Plan.objects.filter(owner_id=owner_id).select_related(*_MARKET)
    return keyset_page(rows.filter(state=state) if state else rows, query=query)


def plan_get(*, owner_id: UUID, plan_id: UUID) -> Plan:
    """One plan of this person. Raises `NotFound`. One query."""
    plan = Plan.objects.filter(pk=plan_id, owner_id=owner_id).select_related(*_MARKET).first()
    if plan is None:
        raise NotFound
    return plan


def slots_page(
    *, owner_id: UUID, plan_id: UUID, query: PageQuery, state: str = "", reason: str = ""
) -> Page[Slot]:
    """A plan's slots, newest first. Two queries. Raises `NotFound` for another person's plan."""
    if not Plan.objects.filter(pk=plan_id, owner_id=owner_id).exists():
        raise NotFound
    wanted = Q(plan_id=plan_id, owner_id=owner_id)
    wanted &= Q(state=state) if state else Q()
    wanted &= Q(reason=reason) if reason else Q()
    rows = Slot.objects.filter(wanted).select_related(*_MARKET, "batch__transaction__attempt")
    return keyset_page(rows, query=query)


def slot_get(*, owner_id: UUID, slot_id: UUID) -> tuple[Slot, list[dict[str, Any]]]:
    """A slot with its batch and transaction, and its journals (kind, reference, posted_at). Two queries."""
    slot = (
        Slot.objects.filter(pk=slot_id, owner_id=owner_id)
        .select_related(*_MARKET, "plan", "batch__transaction__attempt", "batch__transaction__network")
        .first()
    )
    if slot is None:
        raise NotFound
    references = [f"slot:{slot.pk}:{step}" for step in ("hold", "settle", "release")]
    journals = Journal.objects.filter(reference__in=references).order_by("posted_at", "id")
    return slot, [dict(row) for row in journals.values("kind", "reference", "posted_at")]
