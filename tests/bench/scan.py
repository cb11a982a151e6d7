"""The deposit monitor on a real node: 200,000 Transfer logs over 2,000 blocks, and a block at the head.

An anvil of its own holds 2,000 blocks of ten transactions with ten Transfer logs each; one log in a hundred goes to
one of ours. Ours is the real step of `deposits.scan`, from the claim to recorded deposits and the cursor's move: logs
by range, full blocks (native coin) and their bloom filters, the match against the table, receipts of what is ours.
Headers are held before, as `chain.watch` leaves them; traces are off, as on most nodes; the second reading of final
blocks is not part of it. It runs in a process of its own, so that its peak of memory is the scanner's.

Raw is `eth_getLogs` for the same ranges with requests and orjson, decoded and thrown away; the floor does not even
decode. web3.py is `get_logs` and `process_log` of the Transfer event, over the first window, counted per log. Ratios
are the median of each round's own.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

WINDOW = 200
LOGS_PER_TRANSACTION = 10
TRANSACTIONS = 10
LOGS_PER_BLOCK = LOGS_PER_TRANSACTION * TRANSACTIONS
OURS = 500  # addresses of ours that are paid, in turn
HEAD_BLOCKS = 60
WATCHED, FEW, MANY = 100_000, 1_000, 1_000_000
RAW_GOAL, WEB3_GOAL, MEMORY_GOAL_MB, FLAT_GOAL = 0.6, 10, 300, 1.3
CHAIN_ID = 990_031  # of the row only: nobody asks the node, see `_network`

_ABI = [
    {
        "anonymous": False,
        "name": "Transfer",
        "type": "event",
        "inputs": [
            {"indexed": True, "name": "from", "type": "address"},
            {"indexed": True, "name": "to", "type": "address"},
            {"indexed": False, "name": "value", "type": "uint256"},
        ],
    }
]


def run(
    *, blocks: int = 2_000, runs: int = 5, watched: int = WATCHED, many: int = MANY
) -> list[dict[str, Any]]:
    """Rows for `var/bench.json`."""
    from apps.sandbox.runtime.anvil import Anvil

    with tempfile.TemporaryDirectory(prefix="bench-scan-") as directory:
        node = Anvil(Path(directory), accounts=1)
        node.start()
        try:
            first, last = chain_make(node, blocks)
            network_id = _network(node.url, node, first, last)
            addresses_fill(FEW)
            few = head_seconds(network_id, last)
            addresses_fill(watched)
            rows = _throughput(node.url, first, last, runs)
            addresses_fill(many)
            among_many = head_seconds(network_id, last)
            addresses_keep(FEW)
            few += head_seconds(network_id, last)
        finally:
            node.kill()
    own, baseline = statistics.median(among_many), statistics.median(few)
    ratio = round(own / baseline, 2)
    return [
        *rows,
        {
            "name": f"scanning a block at the head: {many:,} addresses against {FEW:,}",
            "ours": round(own * 1_000, 2),
            "baseline": round(baseline * 1_000, 2),
            "floor": None,
            "unit": f"ms per block of {LOGS_PER_BLOCK} logs",
            "ratio": ratio,
            "goal": f"<= {FLAT_GOAL}",
            "met": ratio <= FLAT_GOAL,
            "runs": {"ours": len(among_many), "baseline": len(few)},
        },
    ]


def _throughput(url: str, first: int, last: int, runs: int) -> list[dict[str, Any]]:
    ours, raw, floor, web3, peaks = [], [], [], [], []
    logs = (last - first + 1) * LOGS_PER_BLOCK
    window = min(WINDOW, last - first + 1)
    for _ in range(runs):
        # Before and after ours: on a shared machine the two would else see different neighbours.
        plain = [_timed(lambda: raw_read(url, first, last, decode=True))]
        found = _child()
        plain.append(_timed(lambda: raw_read(url, first, last, decode=True)))
        ours.append(logs / found["seconds"])
        peaks.append(found["peak_mb"])
        raw.append(logs / statistics.mean(plain))
        floor.append(logs / _timed(lambda: raw_read(url, first, last, decode=False)))
        web3.append(window * LOGS_PER_BLOCK / _timed(lambda: web3_read(url, first, first + window - 1)))
    own, plain_rate, bare, library = (round(statistics.median(rates)) for rates in (ours, raw, floor, web3))
    against_raw = round(statistics.median(a / b for a, b in zip(ours, raw, strict=True)), 2)
    against_web3 = round(statistics.median(a / b for a, b in zip(ours, web3, strict=True)), 1)
    peak = round(max(peaks))
    kept = {"ours": [round(rate) for rate in ours], "raw": [round(rate) for rate in raw]}
    return [
        {
            "name": f"scanning {logs:,} logs, against raw JSON thrown away",
            "ours": own,
            "baseline": plain_rate,
            "floor": bare,
            "unit": "logs/s",
            "ratio": against_raw,
            "goal": f">= {RAW_GOAL}",
            "met": against_raw >= RAW_GOAL,
            "runs": kept,
        },
        {
            "name": "scanning logs, against web3.py with event decoding",
            "ours": own,
            "baseline": library,
            "floor": None,
            "unit": "logs/s",
            "ratio": against_web3,
            "goal": f">= {WEB3_GOAL}",
            "met": against_web3 >= WEB3_GOAL,
            "runs": {"ours": kept["ours"], "web3": [round(rate) for rate in web3]},
        },
        {
            "name": "scanner memory",
            "ours": peak,
            "baseline": None,
            "floor": None,
            "unit": "MB, peak of the process",
            "ratio": None,
            "goal": f"under {MEMORY_GOAL_MB} MB",
            "met": peak < MEMORY_GOAL_MB,
            "runs": {"ours": peaks},
        },
    ]


# The world


def ours_address(index: int) -> str:
    return f"0x{0xDE00000000000000000000000000000000000000 + index:040x}"


def chain_make(node: Any, blocks: int) -> tuple[int, int]:
    """The first and the last block with transfers; each has one to an address of ours."""
    from apps.sandbox.runtime.contracts import Contracts
    from tests.support import bytecode

    rpc = node.rpc
    sender = rpc.call("eth_accounts")[0]
    emitter = Contracts(rpc, sender=sender).deploy(bytecode.EMITTER)
    node.balance_set(sender, wei=10**24)
    node.mining_manual()
    nonce = int(rpc.call("eth_getTransactionCount", sender, "latest"), 16)
    first = node.block_number() + 1
    for block in range(blocks):
        calls = []
        for place in range(TRANSACTIONS):
            receivers = [
                f"0x{(block * 7 + place * 3 + n) * 0x9E3779B97F4A7C15F39CC0605CEDC834 % 2**160:040x}"
                for n in range(LOGS_PER_TRANSACTION)
            ]
            if place == 4:
                receivers[5] = ours_address(block % OURS)
            request = {
                "from": sender,
                "to": emitter,
                "data": bytecode.words(*receivers),
                "gas": hex(200_000),
                "nonce": hex(nonce),
                "gasPrice": hex(10**10),
            }
            calls.append(("eth_sendTransaction", [request]))
            nonce += 1
        rpc.batch(calls)
        rpc.call("evm_mine")
    return first, node.block_number()


def _network(url: str, node: Any, first: int, last: int) -> Any:
    """A network whose headers are held, as `chain.watch` leaves them."""
    from apps.chain.models import Block, Network, NetworkWatch, RpcEndpoint
    from apps.chain.services import endpoint_add, network_create
    from apps.core import clock
    from apps.core.models import Asset
    from apps.deposits.models import Scan

    asset, _ = Asset.objects.get_or_create(code="BENCHETH", defaults={"name": "Ether", "decimals": 18})
    network = network_create(chain_id=CHAIN_ID, name="bench", native_asset_id=asset.pk)
    NetworkWatch.objects.filter(network=network).delete()
    endpoint = endpoint_add(network_id=network.pk, name="bench", url=url)
    # The node has the sandbox's chain id, which another row has already.
    RpcEndpoint.objects.filter(pk=endpoint.pk).update(chain_checked_at=clock.now())
    shown = []
    for start in range(first - 1, last + 1, 200):
        numbers = range(start, min(start + 200, last + 1))
        shown += node.rpc.batch([("eth_getBlockByNumber", [hex(number), False]) for number in numbers])
    Block.objects.bulk_create(
        Block(
            network=network,
            number=int(one["number"], 16),
            hash=one["hash"],
            parent_hash=one["parentHash"],
            timestamp=int(one["timestamp"], 16),
        )
        for one in shown
    )
    Network.objects.filter(pk=network.pk).update(watched_at=clock.now())
    Scan.objects.create(network=network, traces=False)
    return network.pk


def addresses_fill(count: int) -> None:
    """Up to `count` deposit addresses with their people; the first ones are those that are paid."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 0")
        cursor.execute("SELECT count(*) FROM deposits_depositaddress")
        have = cursor.fetchall()[0][0]
        cursor.execute(
            "WITH people AS (INSERT INTO accounts_user (id, email, password, is_superuser, is_active, is_staff,"
            "   created_at)"
            "  SELECT gen_random_uuid(), 'bench-scan-' || n || '@example.org', '', false, true, false, now()"
            "  FROM generate_series(%s, %s) AS n RETURNING id, email)"
            " INSERT INTO deposits_depositaddress (id, user_id, index, address, created_at)"
            " SELECT gen_random_uuid(), people.id, numbered.n,"
            "  CASE WHEN n < %s THEN '0xde' || lpad(to_hex(n), 38, '0')"
            "  ELSE '0x' || left(encode(sha256(n::text::bytea), 'hex'), 40) END, now()"
            " FROM people CROSS JOIN LATERAL (SELECT split_part(split_part(email, '@', 1), '-', 3)::int AS n)"
            "  AS numbered",
            [have, count - 1, OURS],
        )
        cursor.execute("ANALYZE deposits_depositaddress")
        cursor.execute("RESET statement_timeout")


def addresses_keep(count: int) -> None:
    """Down to `count` again; the people stay."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 0")
        cursor.execute("SET session_replication_role = replica")
        cursor.execute("DELETE FROM deposits_depositaddress WHERE index >= %s", [count])
        cursor.execute("RESET session_replication_role")
        cursor.execute("VACUUM (ANALYZE) deposits_depositaddress")
        cursor.execute("REINDEX TABLE deposits_depositaddress")
        cursor.execute("RESET statement_timeout")


def _begin_at(first: int, last: int, *, final: bool) -> None:
    """Put the cursor before `first`; nothing is known. With `final` every block is final, and was read again."""
    from django.db import connection

    from apps.chain.models import Block, Network
    from apps.core import clock
    from apps.deposits.models import Scan

    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        cursor.execute("DELETE FROM deposits_deposit")
        cursor.execute("RESET session_replication_role")
    network = Network.objects.get(chain_id=CHAIN_ID)
    tip = Block.objects.get(network=network, number=last)
    Network.objects.filter(pk=network.pk).update(
        watched_block=last,
        watched_hash=tip.hash,
        watched_at=clock.now(),
        final_block=last if final else first - 2,
    )
    Scan.objects.filter(network=network).update(
        next_block=first,
        block_hash=Block.objects.get(network=network, number=first - 1).hash,
        next_final_block=last + 1,
        window=WINDOW,
        window_refused=None,
        window_calm=0,
        run_after=clock.now(),
        lease_token=None,
        leased_until=None,
        attempts=0,
    )


# What is measured


def _timed(act: Callable[[], object]) -> float:
    started = time.perf_counter()
    act()
    return time.perf_counter() - started


def head_seconds(network_id: Any, last: int) -> list[float]:
    """Seconds per step for the last blocks, one at a time, by hash."""
    from apps.chain.models import Network
    from apps.core import clock, work
    from apps.deposits.kinds import SCAN
    from apps.deposits.models import Scan

    count = min(HEAD_BLOCKS, last // 2)
    first = last - count + 1
    _begin_at(first, last, final=False)
    taken = []
    for number in range(first, last + 1):
        Network.objects.filter(pk=network_id).update(watched_block=number)
        Scan.objects.filter(network_id=network_id).update(run_after=clock.now())
        claim = work.claim_due(SCAN)
        taken.append(_timed(partial(work._work_on, claim)))
    if Scan.objects.get(network_id=network_id).next_block != last + 1:
        raise RuntimeError("a block was not read")
    return taken[5:]


def raw_read(url: str, first: int, last: int, *, decode: bool) -> None:
    """The same ranges as raw JSON, thrown away."""
    import orjson
    import requests

    from apps.chain.looking import TRANSFER

    with requests.Session() as session:
        for start in range(first, last + 1, WINDOW):
            wanted: dict[str, Any] = {
                "fromBlock": hex(start),
                "toBlock": hex(min(last, start + WINDOW - 1)),
                "topics": [TRANSFER],
            }
            body: dict[str, Any] = {"jsonrpc": "2.0", "id": 1, "method": "eth_getLogs", "params": [wanted]}
            content = session.post(url, json=body, timeout=60).content
            if decode:
                orjson.loads(content)


def web3_read(url: str, first: int, last: int) -> None:
    from web3 import HTTPProvider, Web3

    from apps.chain.looking import TRANSFER

    client = Web3(HTTPProvider(url))
    event = client.eth.contract(abi=_ABI).events.Transfer()
    found = client.eth.get_logs({"fromBlock": first, "toBlock": last, "topics": [TRANSFER]})
    decoded = [event.process_log(log) for log in found]
    if len(decoded) != (last - first + 1) * LOGS_PER_BLOCK:
        raise RuntimeError("web3.py found another number of logs")


def _child() -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.scan"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ,
    )
    if done.returncode != 0:
        raise RuntimeError(done.stderr[-2_000:])
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _scan_all() -> None:
    """The child: scan everything that is held, say how long it took and how much memory."""
    import django

    django.setup()

    from django.db.models import Max, Min

    from apps.chain.models import Block, Network
    from apps.core import work
    from apps.deposits.kinds import SCAN
    from apps.deposits.models import Deposit, Scan

    network = Network.objects.get(chain_id=CHAIN_ID)
    ends = Block.objects.filter(network=network).aggregate(low=Min("number"), high=Max("number"))
    first, last = ends["low"] + 1, ends["high"]
    _begin_at(first, last, final=True)
    seconds = _timed(lambda: work.drain(SCAN, budget_seconds=600))
    scan = Scan.objects.get(network=network)
    if scan.next_block != last + 1 or Deposit.objects.count() != last - first + 1:
        raise RuntimeError(f"read up to {scan.next_block} of {last}, {Deposit.objects.count()} deposits")
    peak = next(
        int(line.split()[1]) / 1024
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("VmHWM:")
    )
    print(json.dumps({"seconds": seconds, "peak_mb": round(peak)}))


if __name__ == "__main__":
    _scan_all()
