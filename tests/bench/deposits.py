"""Crediting 5,000 final deposits in one go, against the bare SQL that any such credit needs.

Ours is one pass of `deposits.credit`, from claiming the rows to the commit: headers, rules, minimum, debts, accounts,
journals with the ledger's checks, states, holdings, events. The floor is what is left when nothing is checked: in one
transaction COPY of the same journals, entries and events into plain tables of the same columns and indexes, one
UPDATE of 5,000 deposits in a copy of their table, one of the balances, one of the holdings. Its rows are
rendered before its clock starts. 1,000 people with five deposits each; both in the same run, taking turns.
"""

import statistics
import time
from contextlib import suppress
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.db.models import F

from apps.accounts.models import User
from apps.chain.models import Block, Network, NetworkWatch, Token
from apps.chain.services import network_create
from apps.core import clock, partitions, work
from apps.core.ids import uuid7_many
from apps.core.models import Asset
from apps.deposits.domain import DepositKind, Sighting
from apps.deposits.kinds import CREDIT
from apps.deposits.models import Deposit, DepositAddress, DepositRule
from apps.deposits.services import sightings_record

DEPOSITS = 5_000
PEOPLE = 1_000
_CONTRACT = "0x" + "be" * 20
_BLOCK_HASH = "0x" + "bc" * 32

_PLAIN = """
DROP TABLE IF EXISTS bench_deposit, bench_account, bench_journal, bench_entry, bench_event, bench_holding;
CREATE TABLE bench_deposit (LIKE deposits_deposit INCLUDING ALL);
CREATE TABLE bench_account (LIKE ledger_account INCLUDING ALL);
INSERT INTO bench_account SELECT * FROM ledger_account;
CREATE TABLE bench_journal (LIKE ledger_journal INCLUDING ALL);
CREATE TABLE bench_entry (LIKE ledger_entry INCLUDING ALL);
CREATE TABLE bench_event (LIKE events_event INCLUDING ALL);
CREATE TABLE bench_holding (LIKE deposits_holding INCLUDING ALL);
INSERT INTO bench_holding SELECT * FROM deposits_holding;
ANALYZE bench_account; ANALYZE bench_holding;
"""
_UNPLAIN = "DROP TABLE IF EXISTS bench_deposit, bench_account, bench_journal, bench_entry, bench_event, bench_holding"


def run(*, count: int = DEPOSITS, people: int = PEOPLE, runs: int = 3) -> list[dict[str, Any]]:
    """One row for `var/bench.json`: deposits a second, and how many times the floor's time ours takes."""
    partitions.ensure()
    network, addresses = _world(min(people, count))
    # The first round opens everybody's accounts and holdings, so that each round after it moves what exists.
    _ours_seconds(_seen(network, addresses, count, -1))
    ours, floor = [], []
    try:
        for number in range(runs):
            ids = _seen(network, addresses, count, number)
            floor.append(_floor_seconds(ids))
            ours.append(_ours_seconds(ids))
    finally:
        with connection.cursor() as cursor:
            cursor.execute(_UNPLAIN)
        # No node stands behind this network: nobody else should watch it, or compare its books with a chain.
        NetworkWatch.objects.filter(network=network).delete()
        Network.objects.filter(pk=network.pk).update(watched_block=None, final_block=None)
    own, bare = statistics.median(ours), statistics.median(floor)
    ratio = round(own / bare, 2)
    return [
        {
            "name": f"crediting {count:,} deposits, time against bare SQL",
            "ours": round(count / own),
            "baseline": None,
            "floor": round(count / bare),
            "unit": "deposits/s",
            "ratio": ratio,
            "goal": "<= 4",
            "met": ratio <= 4,
            "runs": runs,
        }
    ]


def _world(people: int) -> tuple[Network, list[str]]:
    native, _ = Asset.objects.get_or_create(code="BETH", defaults={"name": "Bench Ether", "decimals": 18})
    asset, _ = Asset.objects.get_or_create(code="BUSD", defaults={"name": "Bench Dollar", "decimals": 6})
    network = network_create(chain_id=99_999, name="bench-credits", native_asset_id=native.pk)
    Token.objects.get_or_create(
        network=network, asset=asset, defaults={"address": _CONTRACT, "decimals": asset.decimals}
    )
    DepositRule.objects.get_or_create(asset=asset, defaults={"minimum_units": 1})
    Block.objects.get_or_create(
        network=network,
        hash=_BLOCK_HASH,
        defaults={"number": 5, "parent_hash": "0x" + "bb" * 32, "timestamp": 1},
    )
    Network.objects.filter(pk=network.pk).update(watched_block=9, final_block=9)
    start = DepositAddress.objects.count()
    users = User.objects.bulk_create([User(email=f"bench{start + n}@example.org") for n in range(people)])
    rows = [
        DepositAddress(user=user, index=start + n, address=f"0x{start + n + 1:040x}")
        for n, user in enumerate(users)
    ]
    DepositAddress.objects.bulk_create(rows)
    return network, [row.address for row in rows]


def _seen(network: Network, addresses: list[str], count: int, run: int) -> list[UUID]:
    """`count` deposits, checked and final."""
    sightings = [
        Sighting(
            address=addresses[n % len(addresses)],
            kind=DepositKind.TOKEN,
            contract=_CONTRACT,
            transaction_hash=f"0x{(run + 2) * 10**9 + n:064x}",
            position=0,
            sender="0x" + "5a" * 20,
            amount_units=1_000_000 + n,
            block_number=5,
            block_hash=_BLOCK_HASH,
        )
        for n in range(count)
    ]
    sightings_record(network.pk, sightings)
    # Of this network alone: what other benchmarks left behind is nobody's to credit.
    seen = Deposit.objects.filter(network=network, state="seen")
    ids = list(seen.order_by("pk").values_list("pk", flat=True))
    if len(ids) != count:
        raise RuntimeError(f"{len(ids)} of {count} deposits were seen")
    seen.update(state="confirming", measured_units=F("amount_units"), checked_block=9)
    # VACUUM beside a benchmark would be its noise.
    with suppress(Exception), connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE deposits_deposit, ledger_account, ledger_entry, ledger_journal")
    return ids


def _ours_seconds(ids: list[UUID]) -> float:
    start = time.perf_counter()
    handled = work.drain(CREDIT)
    seconds = time.perf_counter() - start
    if handled != len(ids) or Deposit.objects.filter(pk__any_of=ids).exclude(state="credited").exists():
        raise RuntimeError("not everything was credited")
    return seconds


def _floor_seconds(ids: list[UUID]) -> float:
    with connection.cursor() as cursor:
        cursor.execute(_PLAIN)
        cursor.execute("INSERT INTO bench_deposit SELECT * FROM deposits_deposit WHERE id = ANY (%s)", [ids])
        cursor.execute("ANALYZE bench_deposit")
    rows = list(
        Deposit.objects.filter(pk__any_of=ids)
        .order_by("pk")
        .values("pk", "user_id", "asset_id", "amount_units")
    )
    accounts = _accounts()
    made = iter(uuid7_many(4 * len(rows)))
    now = clock.now().isoformat()
    journals, entries, events = [], [], []
    for row in rows:
        journal_id, units, asset_id = next(made), int(row["amount_units"]), row["asset_id"]
        journals.append(
            f"{journal_id}\tdeposit\tdeposit:{row['pk']}:credit:1\t\\\\x{'00' * 32}\t{{}}\t{now}\n"
        )
        for account_id, amount in ((accounts[row["user_id"]], units), (accounts[None], -units)):
            entries.append(f"{next(made)}\t{journal_id}\t{account_id}\t{asset_id}\t{amount}\t0\n")
        payload = f'{{"deposit_id":"{row["pk"]}","credited_units":"{units}"}}'
        events.append(
            f"{next(made)}\tdeposit.credited\tperson\t{row['user_id']}\t1\tdeposit\t{row['pk']}\t{payload}\t{now}\n"
        )
    journal_text, entry_text, event_text = "".join(journals), "".join(entries), "".join(events)
    start = time.perf_counter()
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            "UPDATE bench_deposit SET state = 'credited', credited_units = amount_units, credited_at = now()"
            " WHERE id = ANY (%s)",
            [ids],
        )
        with cursor.copy(
            "COPY bench_journal (id, kind, reference, fingerprint, metadata, posted_at) FROM STDIN"
        ) as copy:
            copy.write(journal_text)
        with cursor.copy("COPY bench_entry FROM STDIN") as copy:
            copy.write(entry_text)
        with cursor.copy(
            "COPY bench_event (id, topic, subject_type, subject_id, sequence, object_type, object_id, payload,"
            " occurred_at) FROM STDIN"
        ) as copy:
            copy.write(event_text)
        cursor.execute(
            "UPDATE bench_account AS account SET balance_units = account.balance_units + moved.units FROM ("
            " SELECT account_id, sum(amount_units) AS units FROM bench_entry GROUP BY account_id) AS moved"
            " WHERE account.id = moved.account_id"
        )
        cursor.execute(
            "UPDATE bench_holding AS held SET units = held.units + moved.units FROM ("
            " SELECT address_id, asset_id, sum(amount_units) AS units FROM bench_deposit GROUP BY 1, 2) AS moved"
            " WHERE held.address_id = moved.address_id AND held.asset_id = moved.asset_id"
        )
    return time.perf_counter() - start


def _accounts() -> dict[UUID | None, UUID]:
    """Account ids by owner; None is custody."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT owner_id, ledger_account.id FROM ledger_account JOIN core_asset ON core_asset.id = asset_id"
            " WHERE core_asset.code = 'BUSD' AND kind IN ('available', 'custody')"
        )
        return dict(cursor.fetchall())
