"""Operators set an asset's terms and limits by a form: they hold at once, and what makes no sense changes nothing."""

from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client

from apps.core.models import Asset
from apps.deposits.models import DepositRule
from apps.withdrawals.models import WithdrawalRule
from tests.support.staff import browser

pytestmark = pytest.mark.django_db
OUT, IN = "/admin/withdrawals/withdrawalrule/", "/admin/deposits/depositrule/"
# More than a signed 256-bit integer, or any float, could hold.
LARGE = str((1 << 256) - 1)


@pytest.fixture
def usdc() -> Asset:
    return Asset.objects.create(code="USDC", name="USD Coin", decimals=6)


@pytest.fixture
def treasurer() -> Client:
    return browser(
        "view_withdrawalrule", "add_withdrawalrule", "change_withdrawalrule",
        "view_depositrule", "add_depositrule", "change_depositrule",
    )  # fmt: skip


def out_terms(asset: Asset, **changes: str) -> dict[str, str]:
    return {
        "asset": str(asset.pk),
        "enabled": "on",
        "minimum_units": "1000000",
        "flat_fee_units": "0",
        "gas_units": "65000",
        "gas_limit_cap": "200000",
        "person_daily_units": LARGE,
        "platform_hourly_units": LARGE,
        "approval_above_units": "",
        **changes,
    }


def in_terms(asset: Asset, **changes: str) -> dict[str, str]:
    return {"asset": str(asset.pk), "enabled": "on", "minimum_units": "1000000", **changes}


def kept() -> list[dict[str, Any]]:
    models = (WithdrawalRule, DepositRule, LogEntry)
    return [dict(row) for model in models for row in model._default_manager.order_by("pk").values()]


def test_terms_are_set_and_changed_to_the_unit(usdc: Asset, treasurer: Client) -> None:
    assert treasurer.post(f"{OUT}add/", out_terms(usdc)).status_code == 302
    assert treasurer.post(f"{IN}add/", in_terms(usdc)).status_code == 302
    terms, accepted = WithdrawalRule.objects.get(), DepositRule.objects.get()
    assert (terms.asset, terms.minimum_units, terms.approval_above_units) == (usdc, 1_000_000, None)
    assert terms.person_daily_units == terms.platform_hourly_units == int(LARGE)
    assert (accepted.asset, accepted.minimum_units) == (usdc, 1_000_000)

    changed = out_terms(usdc, person_daily_units="0", approval_above_units=LARGE, enabled="")
    assert treasurer.post(f"{OUT}{terms.pk}/change/", changed).status_code == 302
    terms.refresh_from_db()
    assert (terms.person_daily_units, terms.approval_above_units) == (0, int(LARGE))
    assert LogEntry.objects.count() == 3


AMOUNTS = [
    ("missing", "", "This field is required."),
    ("below zero", "-1", "greater than or equal to"),
    ("a fraction", "1.5", "no more than 0 decimal places"),
    ("a word", "many", "Enter a number."),
    ("not a number", "NaN", "Enter a number."),
    ("without end", "Infinity", "Enter a number."),
    ("in hex", "0x10", "Enter a number."),
    ("too long", "9" * 79, "no more than 78 digits"),
    ("too long by far", "1e999999", "no more than 78 digits"),
    ("with a null", "1\x00", "Enter a number."),
]
BAD = [
    *(
        pytest.param(page, field, value, text, id=f"{field} {name}")
        for page, fields in (
            (OUT, ("minimum_units", "flat_fee_units", "person_daily_units", "platform_hourly_units")),
            (IN, ("minimum_units",)),
        )
        for field in fields
        for name, value, text in AMOUNTS
    ),
    pytest.param(OUT, "approval_above_units", "-1", "greater than or equal to", id="approval below zero"),
    pytest.param(OUT, "gas_units", "-1", "greater than or equal to 0", id="gas below zero"),
    pytest.param(OUT, "gas_units", str(2**63), "less than or equal to", id="gas too much"),
    pytest.param(
        OUT, "gas_limit_cap", "20999", "greater than or equal to 21000", id="cap of less than a transfer"
    ),
    pytest.param(OUT, "minimum_units", "0", "withdrawals_rule_units", id="a withdrawal of nothing"),
    pytest.param(IN, "minimum_units", "0", "deposits_rule_minimum", id="a deposit of nothing"),
    pytest.param(OUT, "asset", "USDC", "not a valid", id="asset no id"),
    pytest.param(
        IN, "asset", "018f0000-0000-7000-8000-000000000001", "Select a valid choice", id="asset unknown"
    ),
]


@pytest.mark.parametrize(("page", "field", "value", "text"), BAD)
def test_terms_that_make_no_sense_are_refused_and_change_nothing(
    usdc: Asset, treasurer: Client, page: str, field: str, value: str, text: str
) -> None:
    whole = out_terms(usdc) if page == OUT else in_terms(usdc)
    before = kept()

    answer = treasurer.post(f"{page}add/", {**whole, field: value})

    assert answer.status_code == 200
    errors = answer.context["adminform"].form.errors
    # What only the table knows stands above the form.
    (place,) = errors
    assert place == field or text.endswith(("_units", "_minimum"))
    assert text in errors[place][0]
    assert kept() == before


def test_one_asset_has_its_terms_once_and_only_who_may_sets_them(usdc: Asset, treasurer: Client) -> None:
    for page, terms in ((OUT, out_terms(usdc)), (IN, in_terms(usdc))):
        treasurer.post(f"{page}add/", terms)
        before = kept()
        again = treasurer.post(f"{page}add/", terms)
        assert "already exists" in again.context["adminform"].form.errors["asset"][0]
        looks = browser("view_withdrawalrule", "view_depositrule")
        assert looks.post(f"{page}add/", terms).status_code == 403
        assert Client().post(f"{page}add/", terms).status_code == 302
        model = WithdrawalRule if page == OUT else DepositRule
        (pk,) = model._default_manager.values_list("pk", flat=True)
        assert looks.post(f"{page}{pk}/change/", {**terms, "minimum_units": "7"}).status_code == 403
        assert treasurer.post(f"{page}{pk}/delete/", {"post": "yes"}).status_code == 403
        assert kept() == before
