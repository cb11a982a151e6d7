"""Two operators decide together, or nothing happens."""

from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client

from apps.accounts.models import User
from apps.core import invariants
from apps.core.errors import Conflict, DomainError
from apps.deposits import services
from apps.deposits.models import Deposit
from apps.events.models import Event
from apps.ledger.domain import AccountKind
from apps.ledger.models import Account, Journal
from tests.deposits.shore import Shore
from tests.deposits.support import USDC, Bank

ASKER, APPROVER = "ask@example.org", "approve@example.org"


@pytest.fixture
def refused(shore: Shore) -> Deposit:
    """USDC that came before anybody allowed it; registered since, and final."""
    ann = shore.person()
    token = shore.deployment.token("USDC").address
    shore.contracts.write(token, "transfer(address,uint256)", shore.address(ann), 25 * USDC)
    shore.land()
    shore.allow("USDC", token)
    row = Deposit.objects.get()
    assert (row.state, row.reason, row.asset_id) == ("unsupported", "token_not_allowed", None)
    return row


def books() -> tuple[Any, ...]:
    return Journal.objects.count(), list(Account.objects.values_list("balance_units", flat=True))


def test_one_asks_another_approves(shore: Shore, refused: Deposit) -> None:
    services.hand_request(deposit_id=refused.pk, actor=ASKER, note="came before the listing")
    assert books() == (0, [])

    row = services.hand_approve(deposit_id=refused.pk, actor=APPROVER)

    assert (row.state, row.credited_units) == ("credited", 25 * USDC)
    assert (row.hand_requested_by, row.hand_approved_by) == (ASKER, APPROVER)
    assert row.asset is not None
    assert shore.balance(row.user, row.asset) == 25 * USDC == shore.custody(row.asset)
    said = Event.objects.filter(topic__startswith="deposit.hand_").order_by("sequence")
    assert [(one.topic, one.subject_type, one.payload["actor"]) for one in said] == [
        ("deposit.hand_requested", "platform", ASKER),
        ("deposit.hand_approved", "platform", APPROVER),
    ]
    with pytest.raises(Conflict):
        services.hand_approve(deposit_id=refused.pk, actor=APPROVER)


@pytest.mark.parametrize("actor", [ASKER, ASKER.upper(), f" {ASKER} ", ""])
def test_the_same_person_is_refused_however_written(shore: Shore, refused: Deposit, actor: str) -> None:
    services.hand_request(deposit_id=refused.pk, actor=ASKER, note="why")

    with pytest.raises(Conflict) as error:
        services.hand_approve(deposit_id=refused.pk, actor=actor)

    assert error.value.code == "same_person"
    assert (Deposit.objects.get().state, books()) == ("unsupported", (0, []))


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"note": " "}, "reason_missing"),
        ({"actor": ""}, "reason_missing"),
        ({"units": 0}, "amount_out_of_range"),
        ({"units": 25 * USDC + 1}, "amount_out_of_range"),
    ],
)
def test_what_cannot_be_asked_for(refused: Deposit, changes: dict[str, Any], code: str) -> None:
    with pytest.raises(DomainError) as error:
        services.hand_request(**{"deposit_id": refused.pk, "actor": ASKER, "note": "why", **changes})
    assert error.value.code == code
    assert Deposit.objects.get().hand_requested_by == ""


def test_nothing_is_approved_that_nobody_asked_for_or_that_was_withdrawn(refused: Deposit) -> None:
    with pytest.raises(Conflict):
        services.hand_approve(deposit_id=refused.pk, actor=APPROVER)
    services.hand_request(deposit_id=refused.pk, actor=ASKER, note="why")
    services.hand_withdraw(deposit_id=refused.pk, actor=APPROVER)
    with pytest.raises(Conflict):
        services.hand_approve(deposit_id=refused.pk, actor=APPROVER)
    assert books() == (0, [])


def test_more_than_lies_at_the_address_is_refused(shore: Shore, refused: Deposit) -> None:
    """Say a token that announced more than it moved."""
    Deposit.objects.update(amount_units=26 * USDC)
    services.hand_request(deposit_id=refused.pk, actor=ASKER, note="why")

    with pytest.raises(Conflict) as error:
        services.hand_approve(deposit_id=refused.pk, actor=APPROVER)

    assert error.value.code == "not_covered"
    assert (Deposit.objects.get().hand_approved_by, books()) == ("", (0, []))


def test_a_block_that_is_not_final_is_refused(shore: Shore, refused: Deposit) -> None:
    shore.node.reorg(depth=5, transactions=[])
    shore.watch(3)
    services.hand_request(deposit_id=refused.pk, actor=ASKER, note="why")

    with pytest.raises(Conflict):
        services.hand_approve(deposit_id=refused.pk, actor=APPROVER)

    assert books() == (0, [])


def test_checked_again_after_its_token_was_allowed(shore: Shore, refused: Deposit) -> None:
    assert services.deposits_recheck(deposit_ids=[refused.pk]) == 1

    shore.land()

    row = Deposit.objects.get()
    assert (row.state, row.credited_units, row.measured_units) == ("credited", 25 * USDC, 25 * USDC)


def frozen(bank: Bank) -> Deposit:
    ann = bank.person()
    row = bank.credited(ann, 25 * USDC, transaction="one")
    bank.spend(ann, 20 * USDC)
    bank.blocks(4, 9, chain="b")
    services.deposits_orphan(bank.network.pk)
    return bank.read(row)


def test_a_debt_is_written_off_by_two_and_the_person_is_free(bank: Bank) -> None:
    row = frozen(bank)
    services.hand_request(deposit_id=row.pk, actor=ASKER, note="settled by phone")
    with pytest.raises(Conflict):
        services.hand_approve(deposit_id=row.pk, actor=ASKER)

    row = services.hand_approve(deposit_id=row.pk, actor=APPROVER)

    assert (row.state, row.owed_units, row.written_off_units) == ("reversed", 0, 20 * USDC)
    assert (bank.balance(row.user, AccountKind.OWED), bank.platform(AccountKind.LOSS, "")) == (0, -20 * USDC)
    assert User.objects.get(pk=row.user_id).frozen_at is None
    event = Event.objects.get(topic="debt.written_off")
    assert (event.subject_id, event.payload["units"]) == (row.user_id, str(20 * USDC))
    assert_invariants()


def test_a_part_is_written_off_and_then_the_rest(bank: Bank) -> None:
    row = frozen(bank)
    for units, state, left in ((5 * USDC, "frozen", 15 * USDC), (None, "reversed", 0)):
        services.hand_request(deposit_id=row.pk, actor=ASKER, note="part", units=units)
        row = services.hand_approve(deposit_id=row.pk, actor=APPROVER)
        assert (row.state, row.owed_units) == (state, left)
    assert bank.platform(AccountKind.LOSS, "") == -20 * USDC
    assert_invariants()


def test_what_was_written_off_is_made_good_when_the_deposit_comes_back(bank: Bank) -> None:
    row = frozen(bank)
    services.hand_request(deposit_id=row.pk, actor=ASKER, note="gone")
    services.hand_approve(deposit_id=row.pk, actor=APPROVER)

    row = bank.credited(row.user, 25 * USDC, transaction="one", number=7, chain="b")

    assert (row.state, row.written_off_units) == ("credited", 0)
    assert (bank.balance(row.user), bank.platform(AccountKind.LOSS, "")) == (5 * USDC, 0)
    assert bank.platform() == -25 * USDC == -bank.held()
    assert_invariants()


def test_a_deposit_that_comes_back_forgets_what_was_asked(bank: Bank) -> None:
    row = frozen(bank)
    services.hand_request(deposit_id=row.pk, actor=ASKER, note="gone")
    bank.confirming(row.user, 25 * USDC, transaction="one", number=7, chain="b")

    with pytest.raises(Conflict):
        services.hand_approve(deposit_id=row.pk, actor=APPROVER)


def assert_invariants() -> None:
    verdicts = [one for one in invariants.run_all() if one.name.startswith(("deposits.", "ledger."))]
    assert {one.name: one.violations for one in verdicts if not one.holds} == {}
    assert len(verdicts) >= 6


def test_operators_decide_from_the_list(bank: Bank) -> None:
    row = frozen(bank)
    clients = {}
    for email in (ASKER, APPROVER):
        clients[email] = Client()
        clients[email].force_login(User.objects.create(email=email, is_staff=True, is_superuser=True))

    def act(email: str, name: str, **more: str) -> str:
        body = {"action": name, "_selected_action": [str(row.pk)], "note": "", "amount": "", **more}
        return clients[email].post("/admin/deposits/deposit/", body, follow=True).content.decode()

    assert "Say who does this and why" in act(ASKER, "ask")
    assert "has 6 decimal places" in act(ASKER, "ask", note="gone", amount="1.0000001")
    assert "The amount is from 1 to" in act(ASKER, "ask", note="gone", amount="20.000001")
    assert "An amount is not negative" in act(ASKER, "ask", note="gone", amount="-1")
    assert bank.read(row).hand_requested_by == ""
    assert "1 deposits asked for" in act(ASKER, "ask", note="gone", amount="20")
    assert bank.read(row).hand_units == 20 * USDC
    assert "Somebody else has to approve it" in act(ASKER, "approve")
    assert bank.read(row).state == "frozen"
    assert "1 deposits approved" in act(APPROVER, "approve")
    assert bank.read(row).state == "reversed"
    assert [entry.user.email for entry in LogEntry.objects.order_by("pk")] == [ASKER, APPROVER]
    for path in ("", f"{row.pk}/change/"):
        assert clients[ASKER].get(f"/admin/deposits/deposit/{path}").status_code == 200


def test_who_may_only_look_cannot_decide(bank: Bank) -> None:
    from django.contrib.auth.models import Permission

    row = frozen(bank)
    services.hand_request(deposit_id=row.pk, actor=ASKER, note="gone")
    user = User.objects.create(email="look@example.org", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_deposit"))
    client = Client()
    client.force_login(user)

    client.post("/admin/deposits/deposit/", {"action": "approve", "_selected_action": [str(row.pk)]})

    assert bank.read(row).state == "frozen"


def test_each_invariant_sees_what_it_is_for(bank: Bank) -> None:
    row = frozen(bank)
    other = bank.credited(bank.person(), 7, number=6, chain="b")
    assert_invariants()

    def broken() -> set[str]:
        return {
            one.name for one in invariants.run_all() if one.name.startswith("deposits.") and not one.holds
        }

    Deposit.objects.filter(pk=other.pk).update(credited_units=8)
    assert broken() == {"deposits.credited_once"}
    Deposit.objects.filter(pk=other.pk).update(credited_units=7)
    services.holdings_move({(other.address_id, bank.usdc.pk): 1})
    assert broken() == {"deposits.holdings_equal_custody"}
    services.holdings_move({(other.address_id, bank.usdc.pk): -1})
    User.objects.filter(pk=row.user_id).update(frozen_at=None)
    assert broken() == {"deposits.owed_by_the_frozen"}
