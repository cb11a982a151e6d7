"""Credits by hand and the platform's own money: once per reference, with a name and a reason."""

from typing import Any
from uuid import UUID

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.accounts.models import User
from apps.accounts.services import user_create
from apps.chain.models import Network, Token, Wallet
from apps.chain.services import network_create, wallet_create
from apps.core.errors import DomainError, NotFound
from apps.core.ids import uuid7
from apps.core.models import Asset
from apps.events.models import Event
from apps.ledger.errors import ReferenceReused
from apps.ledger.models import Account, Journal
from apps.treasury.errors import NoWallet
from apps.treasury.services import credit_by_hand, equity_fund
from tests.treasury.conftest import statements

pytestmark = pytest.mark.django_db


@pytest.fixture
def network() -> Network:
    ether = Asset.objects.create(code="ETH", name="Ether", decimals=18)
    return network_create(chain_id=1, name="mainnet", native_asset_id=ether.pk)


@pytest.fixture
def usdc(network: Network) -> Asset:
    asset = Asset.objects.create(code="USDC", name="USD Coin", decimals=6)
    Token.objects.create(network=network, asset=asset, address="0x" + "a" * 40, decimals=6)
    return asset


@pytest.fixture
def wallet(network: Network) -> Wallet:
    return wallet_create(role="swap")


@pytest.fixture
def person() -> User:
    return user_create(email="ann@example.org")


def _balances() -> dict[tuple[str, UUID | None, str], int]:
    return {(row.kind, row.owner_id, row.ref): row.balance_units for row in Account.objects.all()}


def _credit(person: User, usdc: Asset, **changes: Any) -> Any:
    said = {"amount_units": 500, "reference": "case 7", "note": "lost transfer", "actor": "op@example.org"}
    return credit_by_hand(user_id=person.pk, asset_id=usdc.pk, **{**said, **changes})


def test_credit_is_posted_once_per_reference_and_tells_the_person(
    person: User, usdc: Asset, wallet: Wallet
) -> None:
    results = [_credit(person, usdc) for _ in range(3)]
    assert [(result.posted, result.repeated) for result in results] == [(1, 0), (0, 1), (0, 1)]
    assert _balances() == {("custody", None, wallet.address): -500, ("available", person.pk, ""): 500}
    journal = Journal.objects.get()
    assert (journal.kind, journal.reference) == ("credit_by_hand", "credit:case 7")
    assert journal.metadata == {"note": "lost transfer", "actor": "op@example.org"}
    event = Event.objects.get(subject_id=person.pk, topic="balance.credited")
    assert event.payload == {"asset_id": str(usdc.pk), "amount_units": "500", "note": "lost transfer"}


def test_reference_stands_for_one_fact(person: User, usdc: Asset, wallet: Wallet) -> None:
    _credit(person, usdc)
    for changes in ({"amount_units": 501}, {"note": "another"}, {"actor": "else@example.org"}):
        with pytest.raises(ReferenceReused):
            _credit(person, usdc, **changes)
    other = user_create(email="bob@example.org")
    with pytest.raises(ReferenceReused):
        _credit(other, usdc)
    assert Journal.objects.count() == 1


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"amount_units": 0}, "amount_not_positive"),
        ({"amount_units": -5}, "amount_not_positive"),
        ({"note": "  "}, "reason_missing"),
        ({"actor": ""}, "reason_missing"),
    ],
)
def test_credit_without_amount_or_reason_is_refused(
    person: User, usdc: Asset, wallet: Wallet, changes: dict[str, Any], code: str
) -> None:
    with pytest.raises(DomainError) as refused:
        _credit(person, usdc, **changes)
    assert refused.value.code == code
    assert not Journal.objects.exists()


def test_credit_needs_a_person_and_a_wallet_that_can_hold_it(
    person: User, usdc: Asset, network: Network
) -> None:
    with pytest.raises(NoWallet, match="no enabled wallet"):
        _credit(person, usdc)
    wallet = wallet_create(role="swap")
    with pytest.raises(NotFound):
        credit_by_hand(user_id=uuid7(), asset_id=usdc.pk, amount_units=1, reference="x", note="n", actor="a")
    nowhere = Asset.objects.create(code="DAI", name="Dai", decimals=18)
    with pytest.raises(NoWallet, match="no network"):
        _credit(person, nowhere)
    Wallet.objects.update(enabled=False)
    with pytest.raises(NoWallet):
        _credit(person, usdc, wallet_id=wallet.pk)
    assert not Journal.objects.exists()


def test_wallet_can_be_named(person: User, usdc: Asset, wallet: Wallet) -> None:
    treasury = wallet_create(role="treasury")
    _credit(person, usdc, wallet_id=treasury.pk)
    assert ("custody", None, treasury.address) in _balances()


def test_equity_is_the_platforms_own(network: Network, wallet: Wallet) -> None:
    for _ in range(2):
        equity_fund(
            asset_id=network.native_asset_id,
            amount_units=10**18,
            reference="start",
            note="gas money",
            actor="op@example.org",
        )
    assert _balances() == {("custody", None, wallet.address): -(10**18), ("equity", None, ""): 10**18}
    assert Journal.objects.get().reference == "equity:start"
    assert not Event.objects.filter(topic="balance.credited").exists()


def test_credit_costs_few_queries(person: User, usdc: Asset, wallet: Wallet) -> None:
    _credit(person, usdc)
    # Person, asset's network, wallet, accounts, their lock, known references, two COPYs, event head, event.
    with CaptureQueriesContext(connection) as context:
        _credit(person, usdc, reference="case 8")
    assert len(statements(context)) == 10
