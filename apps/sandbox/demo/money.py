"""Money in and money out, as people see it: transfers on chain to and from wallets outside, and the REST API."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from apps.chain.models import Network
from apps.core import clock, doorbell
from apps.core.models import Asset
from apps.deposits.models import Holding
from apps.sandbox.demo.client import Person
from apps.sandbox.demo.journey import Journey
from apps.sandbox.demo.room import unfinished_look
from apps.sandbox.demo.scenario import PersonSpec
from apps.sandbox.market import Market
from apps.sandbox.outside import OutsideWallet

# A destination may be used a day after it was added.
_REST = timedelta(hours=24, seconds=1)


@dataclass
class Purse:
    """A person's wallets outside: one pays, the other, which never had anything, gets what is withdrawn.

    `sent` are base units by transaction hash and asset. `asked` are the withdrawals as first answered.
    """

    person: Person
    payer: OutsideWallet
    receiver: OutsideWallet
    sent: dict[tuple[str, str], int] = field(default_factory=dict)
    asked: list[dict[str, Any]] = field(default_factory=list)

    @property
    def sent_units(self) -> Counter[str]:
        units: Counter[str] = Counter()
        for (_, code), sent in self.sent.items():
            units[code] += sent
        return units


def money_in(
    journey: Journey, market: Market, people: Sequence[tuple[Person, PersonSpec]]
) -> dict[str, Purse]:
    """Everybody pays on chain to the address that the API gave them; by name, once all is credited and collected."""
    decimals = dict(Asset.objects.values_list("code", "decimals"))
    purses = {}
    for person, spec in people:
        purse = purses[person.name] = Purse(person, OutsideWallet(market), OutsideWallet(market))
        address = person.deposit_address()
        for code, amount in spec.funds.items():
            units = int(Decimal(amount).scaleb(decimals[code]))
            purse.payer.fill(symbol=code, units=units)
            transaction_hash = purse.payer.send(symbol=code, to=address, units=units)
            purse.sent[transaction_hash, code] = units
    journey.wait(lambda: all(_credited(purse) for purse in purses.values()), what="deposits")
    # Beat asks twice a minute what is worth collecting; the story's time goes faster.
    doorbell.ring("deposits.sweep_plan")
    journey.wait(_collected, what="sweeps")
    return purses


def money_out(journey: Journey, purses: Sequence[Purse]) -> None:
    """Everybody adds a wallet, waits a day, and withdraws all they have to it; returns when it has arrived.

    Whoever has a second factor shows it twice: to add the wallet (a step-up), and for each withdrawal.
    """
    for purse in purses:
        purse.person.destination_add(address=purse.receiver.address, label="my own wallet")
    journey.travel_by(_REST)
    for purse in purses:
        for balance in purse.person.balances():
            if int(balance["available_units"]):
                asked = purse.person.withdraw(
                    asset=balance["asset"],
                    amount=balance["available"],
                    destination=purse.receiver.address,
                )
                purse.asked.append(asked)
    for purse in purses:
        if purse.person.app.second_factor:
            _confirm(journey, purse)
    journey.wait(lambda: all(_confirmed(purse) for purse in purses), what="withdrawals")
    journey.wait(lambda: not unfinished_look().anything, what="the last gas", bells=["treasury.gas"])


def reserves_proved(journey: Journey, person: Person) -> list[dict[str, Any]]:
    """The published proof of reserves, once each asset was looked at after now."""
    asked_at = clock.now()

    def looked() -> bool:
        found = person.reserves()
        return bool(found) and all(
            datetime.fromisoformat(row["checked_at"]) > asked_at and row["verdict"] != "unproved"
            for row in found
        )

    journey.wait(looked, what="the proof of reserves", bells=["treasury.reserves"], mine=False)
    return person.reserves()


def _confirm(journey: Journey, purse: Purse) -> None:
    """Show the second factor for each, once the platform asks for it."""

    def asked_for() -> bool:
        states = [row["state"] for row in purse.person.withdrawals()]
        return states.count("awaiting_confirmation") == len(states) == len(purse.asked)

    journey.wait(asked_for, what="the question for the second factor")
    for row in purse.asked:
        purse.person.withdrawal_confirm(row["id"])


def _credited(purse: Purse) -> bool:
    """Whether as many deposits as were sent are credited, by the API."""
    states = [row["state"] for row in purse.person.deposits()]
    return states.count("credited") == len(states) == len(purse.sent)


def _collected() -> bool:
    """Whether no token lies at deposit addresses any more, by the books; some ether stays there for gas."""
    native = Network.objects.values("native_asset_id")
    return not Holding.objects.filter(units__gt=0).exclude(asset_id__in=native).exists()


def _confirmed(purse: Purse) -> bool:
    states = [row["state"] for row in purse.person.withdrawals()]
    return states.count("confirmed") == len(states) == len(purse.asked)
