"""A real process is killed at each place between two commits; another one goes on; every deposit counts once."""

from pathlib import Path

import pytest
from django.db import connection

from apps.core import clock, invariants
from apps.deposits.models import Deposit
from apps.events.models import Event
from apps.ledger.domain import AccountKind
from apps.ledger.models import Journal
from tests.chain import test_kills as chain_kills
from tests.deposits.shore import Shore
from tests.deposits.support import USDC, Bank, hash_of, topics

STEPS = """
import json, sys
import django
django.setup()
from uuid import UUID
from apps.core import work
from apps.deposits.domain import Sighting
from apps.deposits.kinds import CHECK, CREDIT
from apps.deposits.services import deposits_orphan, hand_approve, sightings_record
step, argument = sys.argv[1].split("=", 1)
if step in ("check", "credit"):
    work.drain({"check": CHECK, "credit": CREDIT}[step], budget_seconds=0)
elif step == "orphan":
    deposits_orphan(UUID(argument))
elif step == "approve":
    hand_approve(deposit_id=UUID(argument), actor="approve@example.org")
else:
    values = json.loads(argument)
    sightings_record(UUID(values.pop("network")), [Sighting(**values)])
"""


@pytest.fixture(autouse=True)
def steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain_kills, "STEPS", STEPS)


def killed(tmp_path: Path, step: str, place: str) -> None:
    """Die there, let the lease end, go on."""
    assert chain_kills.run(step, tmp_path, place) == -9
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE deposits_deposit SET leased_until = clock_timestamp() - interval '1 second'"
            " WHERE leased_until IS NOT NULL"
        )
    Deposit.objects.update(run_after=clock.now())
    if step.startswith("approve") and Deposit.objects.filter(state="reversed").exists():
        return
    assert chain_kills.run(step, tmp_path) == 0


def assert_whole() -> None:
    found = [one for one in invariants.run_all() if one.name.startswith(("deposits.", "ledger."))]
    assert {one.name: one.violations for one in found if not one.holds} == {}


@pytest.mark.slow
@pytest.mark.parametrize(
    "place",
    [
        "work.deposits.check.claimed",
        "deposits.check.before_rpc",
        "deposits.check.after_rpc",
        "deposits.check.before_commit",
        "deposits.check.after_commit",
    ],
)
def test_killed_while_checking(shore: Shore, tmp_path: Path, place: str) -> None:
    ann = shore.person()
    shore.contracts.send_value(shore.address(ann), wei=5)
    shore.watch(2)
    shore.scan()

    killed(tmp_path, "check=", place)

    row = Deposit.objects.get()
    assert (row.state, row.measured_units) == ("confirming", 5)
    assert topics(row) == ["seen", "confirming"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "place",
    [
        "work.deposits.credit.claimed",
        "deposits.credit.posted",
        "deposits.credit.before_commit",
        "work.deposits.credit.before_commit",
        "work.deposits.credit.after_commit",
    ],
)
def test_killed_while_crediting(shared: Bank, tmp_path: Path, place: str) -> None:
    people = [shared.person() for _ in range(3)]
    rows = [shared.confirming(person, 5 * USDC) for person in people for _ in range(2)]

    killed(tmp_path, "credit=", place)

    assert {shared.read(row).state for row in rows} == {"credited"}
    assert [shared.balance(person) for person in people] == [10 * USDC] * 3
    assert shared.held() == 30 * USDC == -shared.platform()
    assert Event.objects.filter(topic="deposit.credited").count() == 6
    assert_whole()


@pytest.mark.slow
@pytest.mark.parametrize("place", ["deposits.reverse.posted", "deposits.orphan.before_commit"])
def test_killed_while_reversing(shared: Bank, tmp_path: Path, place: str) -> None:
    ann, ben = shared.person(), shared.person()
    spent, kept = shared.credited(ann, 25 * USDC), shared.credited(ben, 7 * USDC)
    shared.spend(ann, 20 * USDC)
    shared.blocks(4, 9, chain="b")

    killed(tmp_path, f"orphan={shared.network.pk}", place)

    assert (shared.read(spent).state, shared.read(kept).state) == ("frozen", "reversed")
    assert (shared.balance(ann, AccountKind.OWED), shared.platform(), shared.held()) == (-20 * USDC, 0, 0)
    assert Journal.objects.filter(kind="deposit_reversal").count() == 2
    assert Event.objects.filter(topic="deposit.reversed").count() == 2
    assert_whole()


@pytest.mark.slow
def test_killed_while_recording(shared: Bank, tmp_path: Path) -> None:
    import json

    ann = shared.person()
    one = shared.sighting(ann, 5, transaction="one")
    values = {name: getattr(one, name) for name in one.__dataclass_fields__}
    values |= {"kind": "token", "block_time": None, "network": str(shared.network.pk)}

    killed(tmp_path, f"record={json.dumps(values)}", "deposits.record.before_commit")

    row = Deposit.objects.get()
    assert (row.transaction_hash, row.state, topics(row)) == (hash_of("transaction", "one"), "seen", ["seen"])


@pytest.mark.slow
def test_killed_while_a_debt_is_written_off(shared: Bank, tmp_path: Path) -> None:
    from apps.deposits.services import deposits_orphan, hand_request

    ann = shared.person()
    row = shared.credited(ann, 25 * USDC)
    shared.spend(ann, 20 * USDC)
    shared.blocks(4, 9, chain="b")
    deposits_orphan(shared.network.pk)
    hand_request(deposit_id=row.pk, actor="ask@example.org", note="gone")

    killed(tmp_path, f"approve={row.pk}", "deposits.hand.before_commit")

    assert shared.read(row).state == "reversed"
    assert shared.platform(AccountKind.LOSS, "") == -20 * USDC
    assert_whole()
