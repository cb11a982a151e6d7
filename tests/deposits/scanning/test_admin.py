"""Operators have blocks read again by a form, and see how far that is."""

from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client

from apps.accounts.models import User
from apps.chain.models import Network
from apps.deposits.models import Rescan
from tests.deposits.scanning.conftest import Monitor
from tests.support.staff import browser

LIST = "/admin/deposits/rescan/"
ADD = f"{LIST}add/"


@pytest.fixture
def operator(monitor: Monitor) -> Client:
    return browser("view_rescan", "add_rescan")


def form(monitor: Monitor, **changes: Any) -> dict[str, Any]:
    """Everything up to the head; a value of `...` is left out."""
    whole = {
        "network": str(monitor.network.pk),
        "from_block": "0",
        "to_block": "",
        "reason": "lost",
        **changes,
    }
    return {name: value for name, value in whole.items() if value is not ...}


def test_what_is_asked_for_by_the_form_is_read_and_its_progress_shown(
    monitor: Monitor, operator: Client
) -> None:
    # given a deposit that nobody knows of
    monitor.pay(monitor.address(), 5)
    block = monitor.mine()
    monitor.fill(8)
    monitor.scan()
    monitor.deposits()[0].delete()

    def shown(text: str) -> bool:
        row = Rescan.objects.get()
        pages = [operator.get(path).content.decode() for path in (LIST, f"{LIST}{row.pk}/change/")]
        return all(text in page for page in pages)

    # when an operator asks
    values = form(monitor, from_block=str(block), reason="missed, says Ann")
    answer = operator.post(ADD, values, follow=True)

    # then it waits, with who asked
    assert (answer.status_code, answer.redirect_chain[0][1]) == (200, 302)
    assert "read again as soon as they are final" in answer.content.decode()
    row, network = Rescan.objects.get(), monitor.network
    assert (row.state, row.from_block, row.to_block, row.reason) == (
        "open",
        block,
        network.watched_block,
        "missed, says Ann",
    )
    assert [(one.user.is_staff, one.object_id) for one in LogEntry.objects.all()] == [(True, str(row.pk))]
    total = row.to_block - block + 1
    assert shown(f"0 of {total} blocks")
    # asked again it is the same
    operator.post(ADD, values)
    assert Rescan.objects.get() == row

    # and what is final is read, the rest when it is
    monitor.rescan(times=4)
    row.refresh_from_db()
    assert (row.state, row.found, [one.block_number for one in monitor.deposits()]) == ("open", 1, [block])
    assert row.next_block == (network.final_block or 0) + 1 <= row.to_block
    assert shown(f"{row.next_block - block} of {total} blocks")
    monitor.fill(3)
    monitor.scan()
    monitor.rescan()
    assert Rescan.objects.get().state == "done"
    assert shown(f"{total} of {total} blocks")


BAD: list[tuple[str, dict[str, Any], str, str]] = [
    ("no network", {"network": ...}, "network", "This field is required."),
    (
        "network unknown",
        {"network": "018f0000-0000-7000-8000-000000000001"},
        "network",
        "Select a valid choice",
    ),
    ("network no id", {"network": "anvil"}, "network", "not a valid UUID"),
    ("no start", {"from_block": ""}, "from_block", "This field is required."),
    ("start no number", {"from_block": "1.5"}, "from_block", "Enter a whole number."),
    ("start in hex", {"from_block": "0x1"}, "from_block", "Enter a whole number."),
    ("start below zero", {"from_block": "-1"}, "from_block", "The range is empty or begins below zero."),
    ("start beyond any block", {"from_block": str(2**63)}, "from_block", "less than or equal to"),
    ("start above the head", {"from_block": "999999"}, "from_block", "The range is empty"),
    ("end before the start", {"from_block": "5", "to_block": "4"}, "from_block", "The range is empty"),
    ("end below zero", {"to_block": "-1"}, "to_block", "greater than or equal to 0"),
    ("end above the head", {"to_block": "999999"}, "to_block", "The head is block"),
    ("end beyond any block", {"to_block": str(10**30)}, "to_block", "The head is block"),
    ("no reason", {"reason": " "}, "reason", "This field is required."),
    ("reason long", {"reason": "x" * 201}, "reason", "at most 200 characters"),
    ("reason with a null", {"reason": "a\x00b"}, "reason", "Null characters are not allowed."),
]


def test_bad_input_is_said_at_its_field_and_asks_for_nothing(monitor: Monitor, operator: Client) -> None:
    for name, changes, field, text in BAD:
        answer = operator.post(ADD, form(monitor, **changes))
        assert answer.status_code == 200, name
        errors = answer.context["adminform"].form.errors
        assert [*errors] == [field], (name, errors)
        assert text in errors[field][0], (name, errors)
    Network.objects.update(watched_block=None)
    answer = operator.post(ADD, form(monitor))
    assert answer.context["adminform"].form.errors == {"__all__": ["The network's head is not known yet."]}
    assert not Rescan.objects.exists()
    assert not LogEntry.objects.exists()


def test_who_may_not_ask_asks_for_nothing_and_nobody_edits_or_deletes(
    monitor: Monitor, operator: Client
) -> None:
    looks = browser("view_rescan", "change_rescan", "delete_rescan")
    for client, status in ((Client(), 302), (browser("add_deposit"), 403), (looks, 403)):
        for answer in (client.get(ADD), client.post(ADD, form(monitor))):
            assert answer.status_code == status
    assert not Rescan.objects.exists()

    operator.post(ADD, form(monitor))
    row = Rescan.objects.get()
    everybody = User.objects.create(email="all@example.org", is_staff=True, is_superuser=True)
    boss = Client()
    boss.force_login(everybody)
    for client in (looks, boss):
        assert client.post(f"{LIST}{row.pk}/change/", form(monitor, from_block="1")).status_code == 403
        assert client.post(f"{LIST}{row.pk}/delete/", {"post": "yes"}).status_code == 403
    assert Rescan.objects.values().get() == Rescan.objects.filter(pk=row.pk).values().get()
    row_now = Rescan.objects.get()
    assert (row_now.from_block, row_now.updated_at) == (0, row.updated_at)
