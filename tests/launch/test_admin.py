"""What operators see and press: the switchboard, the waitlist, batches."""

import pytest
from django.test import Client
from django.urls import reverse

from apps.accounts.audit.models import AuditRecord
from apps.core import metrics
from apps.launch.domain import State
from apps.launch.models import Invitation, InvitationBatch, PlatformState, WaitlistEntry
from apps.launch.states import platform_read
from apps.treasury.models import Activity
from tests.launch.support import go, waiting
from tests.support.staff import browser

pytestmark = pytest.mark.django_db
BOARD = "/admin/launch/platformstate/switchboard/"


@pytest.fixture
def operator() -> Client:
    return browser(
        "view_platformstate", "change_platformstate", "add_pause", "change_pause", "view_waitlistentry",
        "view_invitationbatch", "add_invitationbatch", "change_invitationbatch", "export_waitlistentry",
    )  # fmt: skip


def test_the_board_changes_the_state_with_a_reason(operator: Client) -> None:
    page = operator.get(BOARD).content.decode()
    assert "Switchboard" in page
    assert "Kill switches" in page
    values = {"state": "paused", "reason": "prices look odd", "message": "Wait.", "minutes": "5", "seen": "0"}
    operator.post(BOARD, values)
    row = PlatformState.objects.get()
    assert (row.state, row.reason, row.message, row.actor) == (
        "paused",
        "prices look odd",
        "Wait.",
        "op0@example.org",
    )
    # Who presses on a page that is out of date changes nothing.
    answer = operator.post(BOARD, {**values, "state": "live"}, follow=True)
    assert "changed meanwhile" in answer.content.decode()
    assert platform_read().state == State.PAUSED


@pytest.mark.parametrize(
    "values", [{"state": "paused", "seen": "0"}, {"state": "gone", "reason": "r", "seen": "0"}]
)
def test_the_board_wants_a_reason_and_a_state(operator: Client, values: dict[str, str]) -> None:
    assert operator.post(BOARD, values, follow=True).status_code == 200
    assert not PlatformState.objects.exists()


@pytest.mark.parametrize("activity", Activity)
def test_the_board_stops_and_allows(operator: Client, activity: Activity) -> None:
    operator.post(BOARD, {"activity": activity, "to": "stop", "reason": "look"})
    assert activity in platform_read().stopped
    assert "Allow again" in operator.get(BOARD).content.decode()
    operator.post(BOARD, {"activity": activity, "to": "allow", "reason": "over"})
    assert platform_read().stopped == frozenset()


def test_who_may_only_look_cannot_press() -> None:
    viewer = browser("view_platformstate")
    assert "Change the state" not in viewer.get(BOARD).content.decode()
    assert viewer.post(BOARD, {"state": "paused", "reason": "r", "seen": "0"}).status_code == 403
    assert browser().get(BOARD).status_code == 403
    assert Client().get(BOARD).status_code == 302
    assert not PlatformState.objects.exists()


def test_who_may_stop_may_not_let_go_again() -> None:
    stopper = browser("view_platformstate", "add_pause")
    stopper.post(BOARD, {"activity": "buying", "to": "stop", "reason": "look"})
    assert platform_read().stopped == {Activity.BUYING}
    assert "Allow again" not in stopper.get(BOARD).content.decode()
    for values in ({"activity": "buying", "to": "allow"}, {"activity": "signing_up", "to": "stop"}):
        assert stopper.post(BOARD, {**values, "reason": "r"}).status_code == 403
    assert platform_read().stopped == {Activity.BUYING}


def test_the_waitlist_is_exported_without_formulas(operator: Client) -> None:
    go(State.PRE_LAUNCH)
    waiting("ada@example.org")
    waiting("+sum@example.org")
    ids = [str(pk) for pk in WaitlistEntry.objects.values_list("pk", flat=True)]
    answer = operator.post(
        reverse("admin:launch_waitlistentry_changelist"), {"action": "export", "_selected_action": ids}
    )
    lines = b"".join(answer.streaming_content).decode().splitlines()  # type: ignore[attr-defined]
    assert lines[0] == "email,language,state,rank,referral_code,referrals,created_at,proved_at"
    assert lines[1].startswith("ada@example.org,en,waiting,1,")
    assert lines[2].startswith("'+sum@example.org,en,waiting,2,")
    record = AuditRecord.objects.get(action="admin.launch.waitlistentry.export")
    assert (record.after, record.via, record.address) == ({"rows": 2}, "admin", "127.0.0.1")


def test_who_may_only_look_at_the_waitlist_does_not_take_it_away() -> None:
    go(State.PRE_LAUNCH)
    waiting("ada@example.org")
    ids = [str(pk) for pk in WaitlistEntry.objects.values_list("pk", flat=True)]
    place = reverse("admin:launch_waitlistentry_changelist")
    looker = browser("view_waitlistentry")
    assert looker.get(place).status_code == 200
    assert looker.post(place, {"action": "export", "_selected_action": ids}).status_code == 403
    assert not AuditRecord.objects.filter(action="admin.launch.waitlistentry.export").exists()


def test_a_batch_is_made_and_shown_with_its_progress(operator: Client) -> None:
    go(State.PRE_LAUNCH)
    waiting("ada@example.org")
    operator.post(
        reverse("admin:launch_invitationbatch_add"),
        {"name": "First wave", "valid_days": "7", "next_in_line": "1", "emails": "bea@example.org"},
    )
    batch = InvitationBatch.objects.get()
    assert (batch.total, batch.valid_days, batch.actor.partition("@")[0]) == (2, 7, "op0")
    place = reverse("admin:launch_invitationbatch_changelist")
    assert "0 of 2" in operator.get(place).content.decode()
    for action, state in (("pause", "held"), ("resume", "queued"), ("cancel", "revoked")):
        operator.post(place, {"action": action, "_selected_action": [str(batch.pk)]})
        assert set(Invitation.objects.values_list("state", flat=True)) == {state}


def test_a_batch_with_a_bad_email_says_so(operator: Client) -> None:
    place = reverse("admin:launch_invitationbatch_add")
    answer = operator.post(place, {"name": "x", "valid_days": "7", "emails": "no email"}, follow=True)
    assert answer.status_code == 200
    assert "Not an email address" in answer.content.decode()
    assert not InvitationBatch.objects.exists()


def test_gauges_tell_state_and_length() -> None:
    go(State.PRE_LAUNCH)
    waiting("ada@example.org")
    found = {
        gauge.name: dict(gauge.read())
        for gauge in metrics.gauges()
        if "platform_state" in gauge.name or "waitlist" in gauge.name
    }
    assert found["tranche_platform_state"] == {
        ("pre_launch",): 1.0, ("live",): 0.0, ("paused",): 0.0, ("maintenance",): 0.0,
    }  # fmt: skip
    assert found["tranche_waitlist_entries"][("waiting",)] == 1.0
