"""Examples for the OpenAPI document. `tests/plans/api` sends the requests and compares the answers' shapes."""

from typing import Any

from drf_spectacular.utils import OpenApiExample

_PLAN_ID = "01957a3c-52f4-7c1e-9a57-0f2b6c1d8e90"
_MARKET = {"id": "01957a31-08c2-7d40-8f1a-5e3c9b7a6d24", "sold": "USDC", "bought": "WETH"}

PLAN_WRITE_BODY: dict[str, Any] = {
    "name": "Ether every morning",
    "market": "USDC/WETH",
    "amount": "100",
    "total_budget": "5000",
    "price_max": "4000",
    "max_slippage_bps": 50,
    "schedule": {
        "kind": "daily",
        "at": "09:00",
        "time_zone": "Europe/Berlin",
        "start_at": "2030-03-30T00:00:00+01:00",
    },
}
PLAN_PATCH_BODY: dict[str, Any] = {
    "version": 1,
    "amount": "150",
    "price_max": None,
    "schedule": {"at": "18:30", "max_runs": 30},
}
PLAN_BODY: dict[str, Any] = {
    "id": _PLAN_ID,
    "version": 1,
    "name": "Ether every morning",
    "state": "active",
    "state_reason": "",
    "market": _MARKET,
    "amount": "100",
    "amount_units": "100000000",
    "total_budget": "5000",
    "total_budget_units": "5000000000",
    "committed": "0",
    "committed_units": "0",
    "price_min": None,
    "price_min_units": None,
    "price_max": "4000",
    "price_max_units": "4000000000",
    "max_slippage_bps": 50,
    "missed_policy": "run_once",
    "grace_seconds": 86400,
    "run_all_limit": 10,
    "misses_in_a_row": 0,
    "schedule": {
        "kind": "daily",
        "interval": 1,
        "at": "09:00",
        "weekdays": [],
        "day": None,
        "cron": "",
        "time_zone": "Europe/Berlin",
        "start_at": "2030-03-29T23:00:00Z",
        "end_at": None,
        "max_runs": None,
        "description": "every day at 09:00 Europe/Berlin",
    },
    "next_number": 1,
    "next_run_at": "2030-03-30T08:00:00Z",
    "created_at": "2030-03-29T20:15:42.123456Z",
    "progress": {
        "settled": 0,
        "skipped": 0,
        "failed": 0,
        "under_way": 0,
        "spent": "0",
        "spent_units": "0",
        "fees": "0",
        "fees_units": "0",
        "received": "0",
        "received_units": "0",
        "promised": "0",
        "promised_units": "0",
    },
}


def _run(number: int, scheduled_at: str, local_at: str) -> dict[str, Any]:
    return {
        "number": number,
        "scheduled_at": scheduled_at,
        "local_at": local_at,
        "amount": "100",
        "amount_units": "100000000",
        "fee": "0.25",
        "fee_units": "250000",
        "swapped": "99.75",
        "swapped_units": "99750000",
    }


PREVIEW_BODY: dict[str, Any] = {
    "description": "every day at 09:00 Europe/Berlin",
    "runs": [
        _run(1, "2030-03-30T08:00:00Z", "2030-03-30T09:00:00+01:00"),
        _run(2, "2030-03-31T07:00:00Z", "2030-03-31T09:00:00+02:00"),
    ],
    "runway": {
        "counted": (
            "Available funds against this plan's runs alone: what is held already, other plans and future deposits"
            " are not counted."
        ),
        "available": "250",
        "available_units": "250000000",
        "funded_runs": 2,
        "funds_last_until": "2030-03-31T07:00:00Z",
        "outlasts": False,
    },
    "budget_exhausted_at": "2030-05-18T07:00:00Z",
    "ends_at": "2030-05-18T07:00:00Z",
    "warnings": [
        {
            "code": "runway",
            "text": "Funds pay 2 runs; the run at 2030-04-01T07:00:00+00:00 is the first that they do not.",
        },
        {
            "code": "dst_shift",
            "text": "Clocks in Europe/Berlin change within these runs: runs keep their local time.",
        },
    ],
}

PLAN_WRITE = OpenApiExample("Every morning in Berlin", value=PLAN_WRITE_BODY, request_only=True)
PLAN_PATCH = OpenApiExample(
    "More, later, and without a price limit", value=PLAN_PATCH_BODY, request_only=True
)
PLAN = OpenApiExample("A new plan", value=PLAN_BODY, response_only=True, status_codes=["201"])
