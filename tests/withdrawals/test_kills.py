"""A real process is killed at each place between two commits or effects; another goes on; it left once."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings
from django.db import connection

from apps.chain.kinds import SEND_WORK as BROADCAST
from apps.chain.kinds import SIGN_WORK, WATCH_WORK
from apps.chain.models import OutboundTransaction
from apps.ledger.domain import AccountKind
from apps.withdrawals.kinds import CHECK_WORK, SEND_WORK
from apps.withdrawals.models import Withdrawal
from tests.withdrawals.support import Desk, books_hold, journals, topics

WHOLE = 10**6
STEPS = """
import sys
import django
django.setup()
from apps.accounts.models import User
from apps.core import work
from apps.core.models import Asset
from apps.withdrawals import services
from apps.withdrawals.kinds import CHECK_WORK, SEND_WORK, SETTLE_WORK
from apps.withdrawals.models import Withdrawal, WithdrawalDestination
step = sys.argv[1]
works = {"check": CHECK_WORK, "send": SEND_WORK, "settle": SETTLE_WORK}
if step in works:
    work.drain(works[step], budget_seconds=0)
elif step == "request":
    to = WithdrawalDestination.objects.get()
    usdc = Asset.objects.get(code="USDC")
    services.withdrawal_request(user_id=to.user_id, asset=usdc, amount_units=5_000_000, destination=to.address)
else:
    row = Withdrawal.objects.get()
    # Not by id: two that were made within a millisecond have them in any order.
    operator = User.objects.filter(is_staff=True).order_by("email").last()
    if step == "cancel":
        services.withdrawal_cancel(user_id=row.user_id, withdrawal_id=row.pk)
    else:
        act = getattr(services, "withdrawal_" + step)
        act(withdrawal_id=row.pk, operator_id=operator.pk, note="killed")
"""

WORK = [
    ("check", "work.withdrawals.check.claimed"),
    ("check", "withdrawals.check.before_lock"),
    ("check", "withdrawals.check.before_commit"),
    ("check", "withdrawals.check.after_commit"),
    ("send", "work.withdrawals.send.claimed"),
    ("send", "withdrawals.send.before_rpc"),
    ("send", "withdrawals.send.after_rpc"),
    ("send", "withdrawals.send.before_lock"),
    ("send", "withdrawals.send.requested"),
    ("send", "withdrawals.send.before_commit"),
    ("send", "withdrawals.send.after_commit"),
    ("settle", "work.withdrawals.settle.claimed"),
    ("settle", "withdrawals.settle.posted"),
    ("settle", "withdrawals.settle.before_commit"),
    ("settle", "work.withdrawals.settle.before_commit"),
    ("settle", "work.withdrawals.settle.after_commit"),
]
# Where a request or an operator's click dies: nothing of it happened.
CALLS = [
    ("request", "withdrawals.request.before_commit"),
    ("cancel", "withdrawals.cancel.before_commit"),
    ("approve", "withdrawals.approve.before_commit"),
    ("reject", "withdrawals.reject.before_commit"),
]
# Inside the transaction of `withdrawals.cancel`, and tested as that one; needs a factor installed in the process.
LIKE_CANCEL = {"withdrawals.confirm.before_commit"}


def run(step: str, tmp_path: Path, failpoint: str = "") -> int:
    """One step in a process of its own, on the test's database; its exit status."""
    url = "postgresql://{USER}:{PASSWORD}@{HOST}:{PORT}/{NAME}".format(**connection.settings_dict)
    environment = {
        **os.environ,
        "DATABASE_URL": url,
        # The clock file is read from the run's directory; markers go to one of the test's own.
        "SANDBOX_DIR": str(tmp_path),
        "DJANGO_SETTINGS_MODULE": "config.settings.test",
        "FAILPOINTS": f"{failpoint}=kill@1" if failpoint else "",
    }
    done = subprocess.run(
        [sys.executable, "-c", STEPS, step], env=environment, timeout=60, check=False, capture_output=True
    )
    assert done.returncode in (0, -9), done.stderr[-2000:]
    return done.returncode


def leases_end(desk: Desk) -> None:
    """What the lease's time does, without the wait."""
    with connection.cursor() as cursor:
        for table in ("withdrawals_withdrawal", "chain_outboundtransaction", "chain_networkwatch"):
            cursor.execute(
                f"UPDATE {table} SET leased_until = clock_timestamp() - interval '1 second'"
                " WHERE leased_until IS NOT NULL"
            )
    desk.due()


def test_every_failpoint_of_withdrawals_has_its_kill() -> None:
    names: set[str] = set()
    for path in (Path(settings.BASE_DIR) / "apps" / "withdrawals").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "reach":
                assert isinstance(node.args[0], ast.Constant)
                names.add(str(node.args[0].value))
    killed = {place for _, place in WORK + CALLS if not place.startswith("work.")}
    assert names == killed | LIKE_CANCEL


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("step", "place"), WORK)
def test_killed_there_and_restarted_it_leaves_once(desk: Desk, tmp_path: Path, step: str, place: str) -> None:
    person = desk.person()
    desk.fund(person, "USDC", 20 * WHOLE)
    destination = desk.destination(person)
    rows = [desk.request(person, "USDC", 5 * WHOLE, destination) for _ in range(2)]
    if step in ("send", "settle"):
        desk.step(CHECK_WORK)
    if step == "settle":
        desk.step(SEND_WORK, SIGN_WORK, BROADCAST)
        desk.node.mine(blocks=3)
        desk.step(WATCH_WORK)
        assert set(OutboundTransaction.objects.values_list("state", flat=True)) == {"confirmed"}
    desk.due()
    assert run(step, tmp_path, place) == -9
    leases_end(desk)
    assert run(step, tmp_path) == 0
    leases_end(desk)
    desk.finish()

    for row in rows:
        row.refresh_from_db()
        assert (row.state, row.reason) == ("confirmed", "")
        assert journals(row) == ["hold", "settle"]
        said = topics(row)
        assert len(said) == len(set(said))
    assert OutboundTransaction.objects.count() == 2
    assert desk.on_chain("USDC", destination) == sum(row.sent_units for row in rows)
    assert desk.balance(person, "USDC", AccountKind.HELD) == 0
    books_hold()


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("step", "place"), CALLS)
def test_a_call_that_dies_has_done_nothing_and_can_be_made_again(
    desk: Desk, tmp_path: Path, step: str, place: str
) -> None:
    desk.rule("USDC", approval_above_units=0)
    person, first, _ = desk.person(), desk.operator(), desk.operator()
    desk.fund(person, "USDC", 20 * WHOLE)
    destination = desk.destination(person)
    if step != "request":
        row = desk.request(person, "USDC", 5 * WHOLE, destination)
        desk.step(CHECK_WORK)
        if step == "approve":
            from apps.withdrawals import services

            services.withdrawal_approve(withdrawal_id=row.pk, operator_id=first.pk, note="first")
    held = desk.balance(person, "USDC", AccountKind.HELD)
    before = list(Withdrawal.objects.values_list("pk", "state"))

    assert run(step, tmp_path, place) == -9
    assert list(Withdrawal.objects.values_list("pk", "state")) == before
    assert desk.balance(person, "USDC", AccountKind.HELD) == held
    assert run(step, tmp_path) == 0

    row = Withdrawal.objects.get()
    state = {"request": "requested", "cancel": "cancelled", "approve": "approved", "reject": "rejected"}[step]
    assert row.state == state
    expected = 0 if step in ("cancel", "reject") else 5 * WHOLE
    assert desk.balance(person, "USDC", AccountKind.HELD) == expected
    books_hold()
