"""The personal list of addresses."""

from typing import Any

import pytest
from django.test import override_settings

from apps.chain.models import Wallet
from apps.core.ids import uuid7
from apps.events.models import Event
from apps.withdrawals.models import WithdrawalDestination
from tests.core.api.support import problem, user_with_key
from tests.withdrawals.api.conftest import OURS, OUTSIDE, TOKEN, Office, everything
from tests.withdrawals.api.test_refusals import BAD_DESTINATION

pytestmark = pytest.mark.django_db(transaction=True)
URL = "/api/v1/withdrawal-destinations"
NEW = "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359"


def test_an_address_is_added_listed_and_usable_a_day_later(office: Office) -> None:
    answer = office.client.post(URL, {"address": NEW.lower(), "label": "Ledger"})

    assert answer.status_code == 201, answer.content
    document = answer.json()
    assert document == {
        "id": document["id"],
        "address": NEW,
        "label": "Ledger",
        "usable_at": document["created_at"].replace("03-29T", "03-30T"),
        "created_at": document["created_at"],
    }
    assert [one["address"] for one in office.client.get(URL).json()["data"]] == [NEW, OUTSIDE]
    event = Event.objects.get()
    assert (event.topic, event.payload["address"]) == ("withdrawal_destination.added", NEW.lower())
    problem(office.post(destination=NEW), 400, "destination_waiting")
    office.travel(seconds=86_401)
    from apps.core import clock
    from apps.providers.models import PriceSnapshot

    PriceSnapshot.objects.update(refreshed_at=clock.now())
    assert office.post(destination=NEW).status_code == 201


@pytest.mark.parametrize(
    ("name", "changes", "pointer", "code"),
    [
        *(
            pytest.param(name, {"address": changes["destination"]}, "/address", code, id=name)
            for name, changes, _, code in BAD_DESTINATION
        ),
        pytest.param("label missing", {"label": ...}, "/label", "required", id="label missing"),
        pytest.param("label blank", {"label": "  "}, "/label", "blank", id="label blank"),
        pytest.param("label long", {"label": "x" * 81}, "/label", "max_length", id="label long"),
        pytest.param("label null", {"label": None}, "/label", "null", id="label null"),
        pytest.param(
            "label with a null", {"label": "a\x00"}, "/label", "invalid_character", id="label with a null"
        ),
        pytest.param("label a number", {"label": 5}, "/label", "invalid", id="label a number"),
        pytest.param(
            "extra", {"usable_at": "2020-01-01T00:00:00Z"}, "/usable_at", "unknown_field", id="extra"
        ),
    ],
)
def test_malformed_input_is_pointed_at_and_changes_nothing(
    office: Office, name: str, changes: dict[str, Any], pointer: str, code: str
) -> None:
    whole = {"address": NEW, "label": "Ledger", **changes}
    before = everything()
    body = {key: value for key, value in whole.items() if value is not ...}
    problem(office.client.post(URL, body), 400, "validation_failed", errors=[(pointer, code)])
    assert everything() == before


@pytest.mark.parametrize(
    ("address", "code"),
    [("0x" + "0" * 40, "burn_address"), (OURS, "own_address"), (TOKEN, "contract_address")],
)
def test_addresses_that_are_nobodys_or_ours_are_refused(office: Office, address: str, code: str) -> None:
    Wallet.objects.create(address=OURS, role="gas", key_ciphertext=b"none")
    before = everything()
    problem(
        office.client.post(URL, {"address": address, "label": "x"}), 400, code, errors=[("/address", code)]
    )
    assert everything() == before


def test_twice_is_a_conflict_and_so_is_one_too_many(office: Office) -> None:
    problem(office.client.post(URL, {"address": OUTSIDE, "label": "x"}), 409, "destination_exists")
    with override_settings(WITHDRAWAL_DESTINATIONS_PER_PERSON=1):
        problem(office.client.post(URL, {"address": NEW, "label": "x"}), 409, "too_many_destinations")
    assert WithdrawalDestination.objects.count() == 1


def test_removing_is_refused_while_a_withdrawal_to_it_waits_and_adding_again_waits_anew(
    office: Office,
) -> None:
    listed = WithdrawalDestination.objects.get()
    row = office.row()
    problem(office.client.delete(f"{URL}/{listed.pk}"), 409, "destination_in_use")
    office.client.post(f"/api/v1/withdrawals/{row.pk}/cancel")

    assert office.client.delete(f"{URL}/{listed.pk}").status_code == 204
    assert office.client.delete(f"{URL}/{listed.pk}").status_code == 204
    assert office.client.get(URL).json()["data"] == []
    assert office.client.post(URL, {"address": OUTSIDE, "label": "again"}).status_code == 201
    problem(office.post(), 400, "destination_waiting")


def test_anothers_destination_is_not_found(office: Office) -> None:
    _, stranger = user_with_key("eve@example.org")
    listed = WithdrawalDestination.objects.get()
    before = everything()
    problem(stranger.delete(f"{URL}/{listed.pk}"), 404, "not_found")
    problem(office.client.delete(f"{URL}/{uuid7()}"), 404, "not_found")
    assert everything() == before


@pytest.mark.parametrize(
    ("query", "parameter", "code"),
    [
        ({"limit": "0"}, "limit", "min_value"),
        ({"limit": "101"}, "limit", "max_value"),
        ({"limit": "ten"}, "limit", "invalid"),
        ({"limit": ["1", "2"]}, "limit", "repeated"),
        ({"address": OUTSIDE}, "address", "unknown_field"),
        ({"user_id": str(uuid7())}, "user_id", "unknown_field"),
    ],
)
def test_bad_queries_are_pointed_at(office: Office, query: dict[str, Any], parameter: str, code: str) -> None:
    problem(office.client.get(URL, query), 400, "validation_failed", errors=[(parameter, code)])
    for cursor in ("x", "=" * 99, "9" * 101):
        assert office.client.get(URL, {"cursor": cursor}).status_code == 400


def test_what_is_no_id_is_not_found(office: Office) -> None:
    before = everything()
    for text in ("7", OUTSIDE, str(uuid7()).upper() + "0"):
        problem(office.client.delete(f"{URL}/{text}"), 404, "not_found")
    assert everything() == before
