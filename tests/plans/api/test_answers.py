"""Answers that are written by functions made once per class are byte for byte what DRF writes."""

import pytest
from rest_framework import serializers

from apps.core.api.answers import AnswerSerializer
from apps.core.api.fields import AmountField
from apps.core.models import Asset
from apps.providers.models import PriceSnapshot
from tests.plans.api.conftest import USDC, Desk

_QUOTE = {"market": "USDC/WETH", "amount": "99.5", "max_slippage_bps": 12}


def _answers(desk: Desk) -> list[bytes]:
    plans = desk.client.get("/api/v1/plans")
    first = plans.json()["data"][0]["id"]
    answers = [
        plans,
        desk.client.get(f"/api/v1/plans/{first}"),
        desk.client.get("/api/v1/balances"),
        desk.client.post("/api/v1/fees/quote", _QUOTE),
    ]
    assert [answer.status_code for answer in answers] == [200] * 4
    return [answer.content for answer in answers]


def test_answers_are_what_drf_writes(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.fund(usdc=1_234)
    PriceSnapshot.objects.create(
        market=desk.market,
        numerator=10**18,
        denominator=2_500 * USDC,
        gas_numerator=2_500 * USDC,
        gas_denominator=10**18,
        gas_price_units=10**9,
        swap_gas_units=150_000,
        block_number=77,
        observed_at=desk.market.created_at,
    )
    weekly = {
        "kind": "weekly",
        "time_zone": "America/New_York",
        "weekdays": [1, 5],
        "at": "18:05",
        "max_runs": 9,
    }
    desk.plan()
    desk.plan(name="Ünder", total_budget_units=500 * USDC, price_min_units=1, price_max_units=4_000 * USDC)
    desk.plan(schedule=weekly)
    desk.plan(schedule={"kind": "cron", "cron": "0 9 * * 1", "at": None})
    written = _answers(desk)

    def plain(self: AnswerSerializer[object], instance: object) -> dict[str, object]:
        return serializers.Serializer.to_representation(self, instance)

    monkeypatch.setattr(AnswerSerializer, "to_representation", plain)

    by_drf = _answers(desk)
    # A quote says how old its price is, in whole seconds.
    assert written[:3] == by_drf[:3]
    assert written[3].partition(b'"price_basis"')[0] == by_drf[3].partition(b'"price_basis"')[0]


@pytest.mark.parametrize(
    "field",
    [
        AmountField(decimals=6),
        serializers.CharField(default="-"),
        serializers.ListField(child=serializers.CharField(), default=list),
        serializers.ModelSerializer(),
        serializers.ListSerializer(child=serializers.CharField()),
    ],
)
def test_field_that_would_come_out_otherwise_is_refused(field: serializers.Field) -> None:  # type: ignore[type-arg]
    kind = type("Odd", (AnswerSerializer,), {"code": field})

    with pytest.raises(TypeError, match="code"):
        _ = kind(Asset(code="X", name="X", decimals=2)).data


def test_a_list_says_of_a_plan_what_its_own_page_says(desk: Desk) -> None:
    """Amounts of more digits than a Decimal calculates with among them."""
    huge = 123_456_789_012_345_678_901_234_567_890_123_456_789
    for values in (
        {"amount_units": huge, "total_budget_units": 3 * huge, "price_max_units": huge + 1},
        {"name": "weekly", "schedule": {"kind": "weekly", "weekdays": [2, 3]}},
        {"name": "monthly", "schedule": {"kind": "monthly", "day": 31}, "price_min_units": 1},
    ):
        desk.plan(**values)

    listed = desk.client.get("/api/v1/plans").json()["data"]

    assert [plan["name"] for plan in listed] == ["monthly", "weekly", "Ether"]
    assert listed[2]["amount_units"] == str(huge)
    for plan in listed:
        alone = desk.client.get(f"/api/v1/plans/{plan['id']}").json()
        assert {name: alone[name] for name in plan} == plan
        assert set(alone) - set(plan) == {"progress"}
