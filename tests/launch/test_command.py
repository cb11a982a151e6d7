"""`manage.py platform`: what operators type, and what it says back."""

import json
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from apps.chain.models import SignerRule
from apps.launch.models import PlatformState
from apps.treasury.models import Pause
from tests.withdrawals.conftest import desk  # noqa: F401 — a fixture
from tests.withdrawals.support import Desk

pytestmark = pytest.mark.django_db


def platform(*arguments: str) -> str:
    out = StringIO()
    call_command("platform", *arguments, stdout=out)
    return out.getvalue()


def test_status_of_a_platform_that_is_open() -> None:
    assert platform("status") == (
        "live; sign-up: open\nBuying       allowed\nWithdrawing  allowed\nSigning up   allowed\n"
    )


def test_set_and_status_as_json() -> None:
    said = platform(
        "set", "maintenance", "--reason", "upgrade", "--message", "Soon.", "--minutes", "10", "--actor", "ann"
    )
    assert said == "maintenance (change 1)\n"
    report = json.loads(platform("status", "--json"))
    assert (report["state"], report["message"], report["sign_up"]) == ("maintenance", "Soon.", "closed")
    assert PlatformState.objects.get().actor == "ann"
    with pytest.raises(CommandError, match="maintenance already"):
        platform("set", "maintenance", "--reason", "again")


@pytest.mark.parametrize("activity", ["buying", "withdrawing", "signing-up"])
def test_stop_and_allow(activity: str) -> None:
    platform("stop", activity, "--reason", "look", "--actor", "ann")
    stopped = json.loads(platform("status", "--json"))["stopped"][activity.replace("-", "_")]
    assert [(one["asset"], one["source"], one["reason"], one["actor"]) for one in stopped] == [
        (None, "operator", "look", "ann")
    ]
    assert "everything, operator, ann: look" in platform("status")
    platform("allow", activity, "--reason", "over")
    assert not Pause.objects.filter(lifted_at__isnull=True).exists()
    with pytest.raises(CommandError):
        platform("allow", activity, "--reason", "again")


def test_what_is_missing_is_said() -> None:
    for arguments in (
        ("set", "closed", "--reason", "r"),
        ("set", "paused"),
        ("stop", "selling", "--reason", "r"),
    ):
        with pytest.raises(CommandError):
            platform(*arguments)
    with pytest.raises(CommandError, match="no such network"):
        platform("collecting-allow")
    with pytest.raises(CommandError, match="No asset has"):
        platform("payouts-allow")
    assert not PlatformState.objects.exists()


def test_the_signers_list_is_made_by_command(desk: Desk) -> None:  # noqa: F811
    SignerRule.objects.all().delete()
    said = platform("payouts-allow")
    assert f"{desk.asset('USDC').code}: withdrawals may be paid out" in said
    made = SignerRule.objects.count()
    assert made == len(desk.seeded.assets)
    assert platform("payouts-allow", "--asset", "USDC") == "USDC: withdrawals may be paid out\n"
    assert SignerRule.objects.count() == made  # again is no error, and adds nothing
    assert platform("collecting-allow") == "Sandbox: deposits may be collected\n"
    assert SignerRule.objects.filter(wallet_role="deposit").exists()
