"""Venues, markets and feeds for operators: switch on and off, see health and prices."""

from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.admin import ModelAdmin, TabularInline
from unfold.decorators import display

from apps.providers.models import Market, MarketRoute, PriceFeed, PriceSnapshot, Venue, VenueHealth
from apps.providers.services import market_enable, venue_enable


def _switch(
    page: Any,
    request: HttpRequest,
    rows: QuerySet[Any],
    service: Callable[..., int],
    ids: str,
    *,
    enabled: bool,
) -> int:
    """Switch those that stand otherwise; who did it is in the history and the audit log, with the change."""
    with transaction.atomic():
        others = list(rows.exclude(enabled=enabled))
        changed = service(**{ids: [row.pk for row in others]}, enabled=enabled)
        for row in others:
            page.log_change(request, row, "Switched on." if enabled else "Switched off.")
    return changed


class RouteInline(TabularInline):  # type: ignore[misc]
    model = MarketRoute
    extra = 0


@admin.register(Market)
class MarketAdmin(ModelAdmin):  # type: ignore[misc]
    list_display = ("__str__", "network", "enabled", "guard_bps", "min_trade_units", "priced_at")
    list_filter = ("enabled", "network")
    list_select_related = ("network", "sold_asset", "bought_asset", "price_snapshot")
    inlines = (RouteInline,)
    actions = ("open_for_trade", "close_for_trade")

    @display(description="price from")  # type: ignore[untyped-decorator]
    def priced_at(self, market: Market) -> str:
        snapshot: PriceSnapshot | None = getattr(market, "price_snapshot", None)
        return snapshot.observed_at.isoformat(timespec="seconds") if snapshot else "no price yet"

    @admin.action(description="Open for trade", permissions=["change"])
    def open_for_trade(self, request: HttpRequest, markets: QuerySet[Market]) -> None:
        changed = _switch(self, request, markets, market_enable, "market_ids", enabled=True)
        messages.success(request, f"{changed} opened.")

    @admin.action(description="Close for trade", permissions=["change"])
    def close_for_trade(self, request: HttpRequest, markets: QuerySet[Market]) -> None:
        changed = _switch(self, request, markets, market_enable, "market_ids", enabled=False)
        messages.success(request, f"{changed} closed. Slots that come due end as market_disabled.")


@admin.register(Venue)
class VenueAdmin(ModelAdmin):  # type: ignore[misc]
    list_display = ("name", "kind", "network", "enabled", "breaker", "last_error")
    list_filter = ("enabled", "kind", "network")
    list_select_related = ("network", "health")
    actions = ("use", "leave_out")

    @display(  # type: ignore[untyped-decorator]
        description="breaker", label={"closed": "success", "open": "danger"}
    )
    def breaker(self, venue: Venue) -> str:
        health: VenueHealth | None = getattr(venue, "health", None)
        return "open" if health is not None and health.open_until is not None else "closed"

    @display(description="last error")  # type: ignore[untyped-decorator]
    def last_error(self, venue: Venue) -> str:
        health: VenueHealth | None = getattr(venue, "health", None)
        return health.last_error if health else ""

    @admin.action(description="Use for swaps", permissions=["change"])
    def use(self, request: HttpRequest, venues: QuerySet[Venue]) -> None:
        changed = _switch(self, request, venues, venue_enable, "venue_ids", enabled=True)
        messages.success(request, f"{changed} in use.")

    @admin.action(description="Leave out", permissions=["change"])
    def leave_out(self, request: HttpRequest, venues: QuerySet[Venue]) -> None:
        changed = _switch(self, request, venues, venue_enable, "venue_ids", enabled=False)
        messages.success(request, f"{changed} left out.")


@admin.register(PriceFeed)
class PriceFeedAdmin(ModelAdmin):  # type: ignore[misc]
    list_display = ("asset", "network", "quote_currency", "aggregator_address", "max_age_seconds")
    list_select_related = ("asset", "network")
