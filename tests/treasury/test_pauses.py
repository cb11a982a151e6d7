"""Kill switches: who set them, what they stop, and that they act at once."""

import pytest

from apps.core.errors import DomainError, NotFound
from apps.core.models import Asset
from apps.events.models import Event
from apps.treasury.models import Activity, PauseSource
from apps.treasury.pauses import pause_lift, pause_set, paused_read

BOTH = [Activity.BUYING, Activity.WITHDRAWING]


@pytest.fixture
def asset(db: None) -> Asset:
    return Asset.objects.create(code="USDC", name="USD Coin", decimals=6)


def test_a_pause_of_one_asset_stops_that_asset_only(asset: Asset) -> None:
    other = Asset.objects.create(code="WETH", name="Wrapped Ether", decimals=18)

    pause_set(activities=[Activity.BUYING], asset_id=asset.pk, reason="depegged", actor="op@example.org")

    buying = paused_read(activity=Activity.BUYING)
    assert buying.reason_for(other.pk, asset.pk) == "depegged"
    assert buying.reason_for(other.pk) == ""
    assert paused_read(activity=Activity.WITHDRAWING).reason_for(asset.pk) == ""


def test_a_pause_of_everything_stops_everything_until_it_is_lifted(asset: Asset) -> None:
    (pause,) = pause_set(activities=[Activity.WITHDRAWING], asset_id=None, reason="drill", actor="op")
    assert paused_read(activity=Activity.WITHDRAWING).reason_for(asset.pk) == "drill"

    pause_lift(pause_id=pause.pk, actor="op", note="over")

    assert paused_read(activity=Activity.WITHDRAWING).reason_for(asset.pk) == ""
    topics = Event.objects.order_by("sequence").values_list("topic", flat=True)
    assert list(topics) == ["platform.paused", "platform.resumed"]
    with pytest.raises(NotFound):
        pause_lift(pause_id=pause.pk, actor="op", note="again")


def test_pausing_twice_is_one_pause_and_another_source_is_another(asset: Asset) -> None:
    assert len(pause_set(activities=BOTH, asset_id=asset.pk, reason="first", actor="op")) == 2
    assert pause_set(activities=BOTH, asset_id=asset.pk, reason="second", actor="op") == []

    made = pause_set(
        activities=[Activity.BUYING],
        asset_id=asset.pk,
        reason="chain has 5 less",
        actor="reconciliation",
        source=PauseSource.RECONCILIATION,
        details={"difference_units": "-5"},
    )

    assert [pause.details for pause in made] == [{"difference_units": "-5"}]
    assert Event.objects.filter(topic="platform.paused").count() == 3


@pytest.mark.parametrize(("reason", "actor"), [("", "op"), ("  ", "op"), ("why", "")])
def test_nobody_pauses_without_saying_who_and_why(asset: Asset, reason: str, actor: str) -> None:
    with pytest.raises(DomainError):
        pause_set(activities=BOTH, asset_id=asset.pk, reason=reason, actor=actor)

    assert not Event.objects.exists()
