"""Posting 10,000 two-leg transfers over 1,000 accounts: ours, row by row, and bare COPY, in the same run.

Ours is `journals_post` in calls of 1,000, each its own transaction, with everything it promises: locks, idempotency,
overdraft, balances after each entry, and the checks of the database's triggers. The row-by-row baseline is what a
Django project writes first: per transfer one transaction that creates a journal and two entries and moves two
balances by F() under the same CHECK, on tables of the same columns and indexes. The floor COPYs the same columns
into such tables and moves the balances by one UPDATE per 1,000 transfers: no checks, no idempotency, no guard.

Rows of the floor are rendered before its clock starts; ours pays for everything after the drafts. The accounts are
the same; the other two start each round on empty tables, ours goes on in the ledger's. The ORM is given 1,000 of the
transfers and counted per transfer.
"""

import random
import statistics
import time
from collections.abc import Callable
from typing import Any, ClassVar
from uuid import UUID

from django.db import connection, models, transaction
from django.db.models import F

from apps.core import clock
from apps.core.fields import UnitsField
from apps.core.ids import uuid7, uuid7_many
from apps.core.models import Asset
from apps.ledger.domain import AccountKey, AccountKind, JournalDraft, Posting
from apps.ledger.services import accounts_open, journals_post

TRANSFERS = 10_000
ACCOUNTS = 1_000
CHUNK = 1_000
ORM_TRANSFERS = 1_000
ROUNDS = 3
START_UNITS = 10**12

Transfer = tuple[UUID, UUID, int]

# The same shape without guarantees: columns, primary keys, indexes, partitioning, CHECK; no triggers.
_PLAIN = """
DROP TABLE IF EXISTS bench_account, bench_journal, bench_entry;
CREATE TABLE bench_account (LIKE ledger_account INCLUDING ALL);
CREATE TABLE bench_journal (LIKE ledger_journal INCLUDING ALL);
CREATE TABLE bench_entry (LIKE ledger_entry INCLUDING ALL) PARTITION BY RANGE (id);
CREATE TABLE bench_entry_default PARTITION OF bench_entry DEFAULT;
INSERT INTO bench_account SELECT * FROM ledger_account;
ANALYZE bench_account;
"""
_UNPLAIN = "DROP TABLE IF EXISTS bench_account, bench_journal, bench_entry"


class BenchAccount(models.Model):
    id = models.UUIDField(primary_key=True)
    balance_units = UnitsField()

    objects: "ClassVar[models.Manager[BenchAccount]]" = models.Manager()

    class Meta:
        app_label = "bench"
        managed = False
        db_table = "bench_account"

    def __str__(self) -> str:
        return str(self.id)


class BenchJournal(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid7)
    kind = models.CharField(max_length=48)
    reference = models.CharField(max_length=200)
    fingerprint = models.BinaryField()
    metadata = models.JSONField(default=dict)
    posted_at = models.DateTimeField(default=clock.now)

    objects: "ClassVar[models.Manager[BenchJournal]]" = models.Manager()

    class Meta:
        app_label = "bench"
        managed = False
        db_table = "bench_journal"

    def __str__(self) -> str:
        return self.reference


class BenchEntry(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid7)
    journal_id = models.UUIDField()
    account_id = models.UUIDField()
    asset_id = models.UUIDField()
    amount_units = UnitsField()
    balance_after_units = UnitsField(default=0)

    objects: "ClassVar[models.Manager[BenchEntry]]" = models.Manager()

    class Meta:
        app_label = "bench"
        managed = False
        db_table = "bench_entry"

    def __str__(self) -> str:
        return str(self.id)


def run() -> list[dict[str, Any]]:
    """Two rows for `var/bench.json`: rates of transfers a second, medians of three runs each."""
    asset_id, accounts = accounts_make()
    ours, rows, floor = [], [], []
    try:
        for _ in range(ROUNDS):
            transfers = transfers_make(accounts, TRANSFERS)
            plain_tables()
            floor.append(copy_seconds(asset_id, transfers) / TRANSFERS)
            rows.append(orm_seconds(asset_id, transfers[:ORM_TRANSFERS]) / ORM_TRANSFERS)
            ours.append(ours_seconds(transfers) / TRANSFERS)
    finally:
        with connection.cursor() as cursor:
            cursor.execute(_UNPLAIN)
    own, row_by_row, bare = (round(1 / statistics.median(seconds)) for seconds in (ours, rows, floor))
    faster, slower = round(own / row_by_row, 1), round(bare / own, 2)
    common = {"ours": own, "baseline": row_by_row, "floor": bare, "unit": "transfers/s"}
    return [
        {
            "name": "ledger posting, against row-by-row ORM",
            **common,
            "ratio": faster,
            "goal": ">= 20",
            "met": faster >= 20,
        },
        {
            "name": "ledger posting, time against COPY of the same rows",
            **common,
            "ratio": slower,
            "goal": "<= 3",
            "met": slower <= 3,
        },
    ]


def accounts_make() -> tuple[UUID, list[UUID]]:
    """An asset and 1,000 people with funds."""
    asset, _ = Asset.objects.get_or_create(code="BENCH", defaults={"name": "Bench", "decimals": 6})
    keys = [AccountKey(AccountKind.AVAILABLE, asset.id, uuid7()) for _ in range(ACCOUNTS)]
    custody_key = AccountKey(AccountKind.CUSTODY, asset.id, ref="bench")
    accounts = list(accounts_open(keys=keys).values())
    custody = accounts_open(keys=[custody_key])[custody_key]
    journals_post(
        drafts=[
            JournalDraft(
                "deposit",
                f"bench:deposit:{account_id}",
                (Posting(custody, -START_UNITS), Posting(account_id, START_UNITS)),
            )
            for account_id in accounts
        ]
    )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE ledger_account")
    return asset.id, accounts


def transfers_make(accounts: list[UUID], count: int) -> list[Transfer]:
    chance = random.Random(count)
    pairs = [chance.sample(accounts, 2) for _ in range(count)]
    return [(payer, payee, chance.randrange(1, 10**6)) for payer, payee in pairs]


def plain_tables() -> None:
    with connection.cursor() as cursor:
        cursor.execute(_PLAIN)


def timed(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def ours_seconds(transfers: list[Transfer]) -> float:
    run_id = uuid7()
    drafts = [
        JournalDraft("transfer", f"bench:{run_id}:{n}", (Posting(payer, -units), Posting(payee, units)))
        for n, (payer, payee, units) in enumerate(transfers)
    ]

    def work() -> None:
        for start in range(0, len(drafts), CHUNK):
            journals_post(drafts=drafts[start : start + CHUNK])

    return timed(work)


def orm_seconds(asset_id: UUID, transfers: list[Transfer]) -> float:
    run_id = uuid7()

    def work() -> None:
        for n, (payer, payee, units) in enumerate(transfers):
            with transaction.atomic():
                journal = BenchJournal.objects.create(
                    kind="transfer", reference=f"orm:{run_id}:{n}", fingerprint=b"\0" * 32
                )
                for account_id, amount in ((payer, -units), (payee, units)):
                    BenchEntry.objects.create(
                        journal_id=journal.id, account_id=account_id, asset_id=asset_id, amount_units=amount
                    )
                    BenchAccount.objects.filter(id=account_id).update(
                        balance_units=F("balance_units") + amount
                    )

    return timed(work)


def copy_seconds(asset_id: UUID, transfers: list[Transfer]) -> float:
    ids = iter(uuid7_many(3 * len(transfers)))
    now = clock.now().isoformat()
    chunks: list[tuple[str, str, str]] = []
    for start in range(0, len(transfers), CHUNK):
        journals: list[str] = []
        entries: list[str] = []
        deltas: dict[UUID, int] = {}
        for payer, payee, units in transfers[start : start + CHUNK]:
            journal_id = next(ids)
            journals.append(f"{journal_id}\ttransfer\tcopy:{journal_id}\t\\\\x{'00' * 32}\t{{}}\t{now}\n")
            for account_id, amount in ((payer, -units), (payee, units)):
                entries.append(
                    f"{next(ids)}\t{journal_id}\t{account_id}\t{asset_id}\t{amount}\t{START_UNITS + amount}\n"
                )
                deltas[account_id] = deltas.get(account_id, 0) + amount
        moves = ",".join(f"('{account_id}'::uuid,{units}::numeric)" for account_id, units in deltas.items())
        update = (
            "UPDATE bench_account AS a SET balance_units = a.balance_units + d.units"
            f" FROM (VALUES {moves}) AS d (id, units) WHERE a.id = d.id"
        )
        chunks.append(("".join(journals), "".join(entries), update))

    def work() -> None:
        for journals, entries, update in chunks:
            with transaction.atomic(), connection.cursor() as cursor:
                with cursor.copy(
                    "COPY bench_journal (id, kind, reference, fingerprint, metadata, posted_at) FROM STDIN"
                ) as copy:
                    copy.write(journals)
                with cursor.copy("COPY bench_entry FROM STDIN") as copy:
                    copy.write(entries)
                cursor.execute(update)

    return timed(work)
