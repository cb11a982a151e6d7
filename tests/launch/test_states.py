"""The platform's state: what it is, who changed it, what comes and goes with it."""

from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext

from apps.core import clock, invariants
from apps.core.errors import Conflict, DomainError
from apps.events.models import Event
from apps.launch.domain import State
from apps.launch.models import PlatformState
from apps.launch.states import PLATFORM_NOW, platform_now, platform_read, state_set
from apps.launch.switches import switch_allow, switch_stop
from apps.treasury.models import Activity, Pause
from apps.treasury.pauses import pause_set, paused_read
from tests.core.api.support import ApiClient
from tests.launch.support import go

pytestmark = pytest.mark.django_db
STATUS = "/api/v1/platform/status"


def test_an_installation_that_never_said_anything_is_live() -> None:
    assert ApiClient().get(STATUS).json() == {
        "state": "live",
        "since": None,
        "message": "",
        "until": None,
        "sign_up": "open",
        "waitlist": "closed",
        "allowed": {"buying": True, "withdrawing": True, "signing_up": True},
    }


def test_a_change_is_kept_with_who_when_and_why_and_told() -> None:
    until = clock.now() + timedelta(minutes=10)
    row = go(State.MAINTENANCE, message="Back soon.", until=until)

    assert (row.number, row.state, row.reason, row.actor) == (1, "maintenance", "drill", "op@example.org")
    answer = ApiClient().get(STATUS)
    assert answer["Cache-Control"] == "public, max-age=1"
    assert (answer.json()["state"], answer.json()["message"]) == ("maintenance", "Back soon.")
    assert answer.json()["since"] == row.created_at.isoformat().replace("+00:00", "Z")
    event = Event.objects.get(topic="platform.state_changed")
    assert event.payload == {"from": "live", "to": "maintenance", "message": "Back soon."}


def test_history_cannot_be_changed() -> None:
    row = go(State.PAUSED)
    for statement in ("UPDATE launch_platformstate SET reason = 'x'", "DELETE FROM launch_platformstate"):
        with pytest.raises(IntegrityError, match="append-only"), transaction.atomic():
            connection.cursor().execute(statement)
    row.refresh_from_db()
    assert row.reason == "drill"


@pytest.mark.parametrize("state", State)
def test_every_state_may_follow_every_other(state: State) -> None:
    for other in State:
        if other == state:
            continue
        if platform_read().state != other:
            go(other)
        go(state)
        assert platform_read().state == state
    with pytest.raises(Conflict):
        go(state)


def test_who_looked_at_an_older_state_is_refused_and_changes_nothing() -> None:
    go(State.PAUSED)
    with pytest.raises(Conflict) as refused:
        state_set(state=State.LIVE, reason="over", actor="op", seen=0)
    assert refused.value.code == "state_changed"
    assert platform_read().state == State.PAUSED


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"reason": " "}, "reason_missing"),
        ({"actor": ""}, "reason_missing"),
        ({"until": clock.now() - timedelta(hours=1)}, "until_in_the_past"),
    ],
)
def test_a_change_says_who_why_and_a_sensible_end(options: dict[str, object], code: str) -> None:
    with pytest.raises(DomainError) as refused:
        state_set(**{"state": State.PAUSED, "reason": "r", "actor": "a", **options})  # type: ignore[arg-type]
    assert refused.value.code == code
    assert not PlatformState.objects.exists()


def test_paused_stops_buying_and_lifts_only_its_own_stop() -> None:
    pause_set(activities=[Activity.BUYING], asset_id=None, reason="mine", actor="op")
    go(State.PAUSED)
    assert Pause.objects.filter(lifted_at__isnull=True, activity="buying").count() == 2
    assert not paused_read(activity=Activity.WITHDRAWING).everything

    go(State.LIVE)

    standing = Pause.objects.get(lifted_at__isnull=True)
    assert (standing.source, standing.reason) == ("operator", "mine")


def test_maintenance_stops_nothing_that_is_under_way() -> None:
    go(State.MAINTENANCE)
    assert not Pause.objects.exists()


def test_paused_to_maintenance_keeps_the_books_of_switches_right() -> None:
    for state in (State.PAUSED, State.MAINTENANCE, State.PAUSED, State.PRE_LAUNCH):
        go(state)
        held = {one.name: one.holds for one in invariants.run_all() if one.name.startswith("launch.")}
        assert held == {"launch.referred_once": True, "launch.switches_follow_the_state": True}


def test_the_invariant_finds_a_switch_that_was_lifted_by_hand() -> None:
    go(State.PAUSED)
    Pause.objects.update(lifted_at=clock.now())
    verdict = next(one for one in invariants.run_all() if one.name == "launch.switches_follow_the_state")
    assert verdict.violations == ("paused: buying differs",)


def test_switches_are_told_by_the_status_at_once_and_undone() -> None:
    switch_stop(activity=Activity.SIGNING_UP, reason="spam", actor="op")
    PLATFORM_NOW.forget()
    body = ApiClient().get(STATUS).json()
    assert body["allowed"] == {"buying": True, "withdrawing": True, "signing_up": False}
    assert body["sign_up"] == "closed"
    with pytest.raises(Conflict):
        switch_stop(activity=Activity.SIGNING_UP, reason="again", actor="op")

    switch_allow(activity=Activity.SIGNING_UP, reason="over", actor="op")
    PLATFORM_NOW.forget()
    assert ApiClient().get(STATUS).json()["sign_up"] == "open"
    with pytest.raises(Conflict):
        switch_allow(activity=Activity.SIGNING_UP, reason="again", actor="op")


def test_an_operator_does_not_lift_what_the_state_stopped() -> None:
    go(State.PAUSED)
    with pytest.raises(Conflict) as refused:
        switch_allow(activity=Activity.BUYING, reason="go", actor="op")
    assert refused.value.code == "not_stopped"


def test_signing_up_has_no_asset() -> None:
    with pytest.raises(DomainError) as refused:
        pause_set(activities=[Activity.SIGNING_UP], asset_id=uuid4(), reason="r", actor="a")
    assert refused.value.code == "asset_not_meant"


def test_the_state_is_asked_twice_a_second_not_per_request() -> None:
    platform_now()
    with CaptureQueriesContext(connection) as asked:
        for _ in range(50):
            platform_now()
    assert len(asked) <= 2
