"""Writes and outside reads, one module per idea: quotes, reference price, snapshots, approvals, setup."""

from apps.providers.services.allowances import AllowanceState, allowance_ensure
from apps.providers.services.quotes import fill_read, quotes_best, swap_build
from apps.providers.services.reference import reference_price_read
from apps.providers.services.setup import (
    market_enable,
    route_add,
    venue_enable,
    venue_outcome_record,
)
from apps.providers.services.snapshots import Refreshed, price_snapshots_refresh

__all__ = [
    "AllowanceState",
    "Refreshed",
    "allowance_ensure",
    "fill_read",
    "market_enable",
    "price_snapshots_refresh",
    "quotes_best",
    "reference_price_read",
    "route_add",
    "swap_build",
    "venue_enable",
    "venue_outcome_record",
]
