"""A network without a node: its headers are written by hand, and deposits into blocks of them."""

import itertools
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from apps.accounts.models import User
from apps.chain.models import Block, Network, Token
from apps.core import clock, work
from apps.core.models import Asset
from apps.deposits.crediting import deposits_ready
from apps.deposits.domain import DepositKind, Sighting
from apps.deposits.kinds import CREDIT
from apps.deposits.models import Deposit, DepositAddress, DepositRule, Holding
from apps.deposits.services import deposit_address_open, sightings_record
from apps.events.models import Event
from apps.ledger.domain import AccountKey, AccountKind, JournalDraft, Posting
from apps.ledger.models import Account
from apps.ledger.services import accounts_open, journals_post
from apps.treasury.domain import DEPOSITS_REF

USDC = 10**6
CONTRACT = "0x" + "c0" * 20
STRANGER = "0x" + "5a" * 20


def hash_of(*parts: Any) -> str:
    return "0x" + sha256(repr(parts).encode()).hexdigest()


@dataclass
class Bank:
    """Blocks 0 to 9 are held on chain `a`; the final block is 9 unless a test says otherwise."""

    network: Network
    usdc: Asset
    native: Asset
    token: Token
    rule: DepositRule
    count: itertools.count = field(default_factory=itertools.count)  # type: ignore[type-arg]

    def person(self) -> User:
        user = User.objects.create(email=f"person{next(self.count)}@example.org")
        deposit_address_open(user_id=user.pk)
        return user

    def blocks(self, first: int, last: int, *, chain: str = "a") -> None:
        """Hold these headers of `chain`; others at their heights are orphaned, as the watcher does it."""
        held = Block.objects.filter(network=self.network, number__gte=first, orphaned_at__isnull=True)
        held.update(orphaned_at=clock.now())
        for number in range(first, last + 1):
            Block.objects.update_or_create(
                network=self.network,
                hash=hash_of(number, chain),
                defaults={
                    "number": number,
                    "parent_hash": hash_of(number - 1, chain),
                    "timestamp": 1_800_000_000 + number,
                    "orphaned_at": None,
                },
            )
        Network.objects.filter(pk=self.network.pk).update(watched_block=last, final_block=last)

    def sighting(self, person: User, units: int = USDC, **changes: Any) -> Sighting:
        """A USDC transfer in block 5 of chain `a`; `transaction` names it."""
        number, chain = changes.pop("number", 5), changes.pop("chain", "a")
        values: dict[str, Any] = {
            "address": DepositAddress.objects.get(user=person).address,
            "kind": DepositKind.TOKEN,
            "contract": CONTRACT,
            "transaction_hash": hash_of("transaction", changes.pop("transaction", next(self.count))),
            "position": 0,
            "sender": STRANGER,
            "amount_units": units,
            "block_number": number,
            "block_hash": hash_of(number, chain),
            "block_time": clock.now(),
        }
        return Sighting(**{**values, **changes})

    def seen(self, *sightings: Sighting) -> list[Deposit]:
        sightings_record(self.network.pk, sightings)
        hashes = [one.transaction_hash for one in sightings]
        return list(Deposit.objects.filter(transaction_hash__in=hashes).order_by("pk"))

    def confirming(self, person: User, units: int = USDC, **changes: Any) -> Deposit:
        """A deposit as the check leaves it: believed, waiting for depth."""
        (row,) = self.seen(self.sighting(person, units, **changes))
        self.believe()
        return Deposit.objects.get(pk=row.pk)

    def believe(self) -> None:
        for row in Deposit.objects.filter(state="seen"):
            Deposit.objects.filter(pk=row.pk).update(
                state="confirming", measured_units=row.amount_units, checked_block=row.block_number
            )

    def credit(self) -> None:
        deposits_ready()
        work.drain(CREDIT, budget_seconds=5)

    def credited(self, person: User, units: int = USDC, **changes: Any) -> Deposit:
        row = self.confirming(person, units, **changes)
        self.credit()
        return self.read(row)

    def read(self, row: Deposit) -> Deposit:
        return Deposit.objects.get(pk=row.pk)

    def balance(self, person: User, kind: AccountKind = AccountKind.AVAILABLE) -> int:
        row = Account.objects.filter(kind=kind, owner_id=person.pk, asset=self.usdc).first()
        return 0 if row is None else int(row.balance_units)

    def platform(self, kind: AccountKind = AccountKind.CUSTODY, ref: str = DEPOSITS_REF) -> int:
        row = Account.objects.filter(kind=kind, ref=ref, asset=self.usdc).first()
        return 0 if row is None else int(row.balance_units)

    def held(self) -> int:
        return sum(int(one.units) for one in Holding.objects.filter(asset=self.usdc))

    def spend(self, person: User, units: int, *, kind: str = "purchase") -> str:
        """The person's available money goes elsewhere, as a purchase books it (hold, then settle); back, if below 0."""
        held, available = (
            AccountKey(k, self.usdc.pk, person.pk) for k in (AccountKind.HELD, AccountKind.AVAILABLE)
        )
        fees = AccountKey(AccountKind.FEES, self.usdc.pk)
        accounts = accounts_open(keys=[held, available, fees])
        name = f"slot:{next(self.count)}"
        hold = JournalDraft(
            "hold", f"{name}:hold", [Posting(accounts[available], -units), Posting(accounts[held], units)]
        )
        settle = JournalDraft(
            kind, f"{name}:settle", [Posting(accounts[held], -units), Posting(accounts[fees], units)]
        )
        journals_post(drafts=[hold, settle] if units > 0 else [settle, hold])
        return f"{name}:settle"


def topics(row: Deposit) -> list[str]:
    found = Event.objects.filter(object_id=row.pk).order_by("sequence").values_list("topic", flat=True)
    return [topic.removeprefix("deposit.") for topic in found]
