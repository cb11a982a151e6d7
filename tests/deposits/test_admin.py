"""What operators see of deposits: amounts as people write them, and found by whatever they have in hand."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.deposits.models import Deposit
from tests.deposits.support import STRANGER, USDC, Bank
from tests.support.staff import browser

LIST = "/admin/deposits/deposit/"


def test_amounts_are_shown_in_the_assets_units(bank: Bank) -> None:
    ann = bank.person()
    bank.credited(ann, 25 * USDC + 1)
    (unknown,) = bank.seen(bank.sighting(ann, 123_456_789, contract="0x" + "0b" * 20))
    assert unknown.asset_id is None
    staff = browser("view_deposit", "view_holding", "view_depositrule")

    page = staff.get(LIST).content.decode()

    assert page.count("25.000001 USDC") == 2  # announced and measured
    assert "123456789 base units" in page
    assert str(25 * USDC + 1) not in page
    assert "25.000001 USDC" in staff.get("/admin/deposits/holding/").content.decode()
    assert "USDC" in staff.get("/admin/deposits/depositrule/").content.decode()


@pytest.mark.parametrize("by", ["person", "transaction", "address", "sender", "contract", "id"])
def test_a_deposit_is_found_by_what_is_at_hand(bank: Bank, by: str) -> None:
    ann, ben = bank.person(), bank.person()
    row = bank.credited(ann, 3 * USDC)
    bank.seen(bank.sighting(ben, 5 * USDC, sender="0x" + "77" * 20, contract="0x" + "0b" * 20))
    text = {
        "person": ann.email,
        "transaction": row.transaction_hash,
        "address": row.address.address.upper().replace("0X", "0x"),
        "sender": STRANGER,
        "contract": row.contract,
        "id": str(row.pk),
    }[by]

    page = browser("view_deposit").get(LIST, {"q": text}).content.decode()

    assert "3 USDC" in page
    assert ben.email not in page


def test_a_list_of_one_asset_asks_no_more_for_more_rows(bank: Bank) -> None:
    ann = bank.person()
    staff = browser("view_deposit")

    def queries() -> int:
        with CaptureQueriesContext(connection) as context:
            page = staff.get(LIST, {"asset__id__exact": str(bank.usdc.pk)})
        assert page.content.decode().count("2 USDC") >= Deposit.objects.count()
        return len(context.captured_queries)

    bank.credited(ann, 2 * USDC)
    few = queries()
    for _ in range(9):
        bank.credited(ann, 2 * USDC)
    assert queries() == few
