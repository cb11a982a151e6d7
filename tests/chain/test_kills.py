"""A real process is killed at each place between two commits; another one goes on; the books are the same."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.db import connection

from tests.chain.conftest import Chain
from tests.chain.test_lifecycle import assert_invariants

STEPS = """
import sys
import django
django.setup()
from apps.chain.kinds import SEND_WORK, SIGN_WORK, WATCH_WORK
from apps.core import work
work.drain({"sign": SIGN_WORK, "send": SEND_WORK, "watch": WATCH_WORK}[sys.argv[1]], budget_seconds=0)
"""

PLACES = [
    ("sign", "work.chain.sign.claimed"),
    ("sign", "chain.sign.before_lock"),
    ("sign", "chain.sign.before_commit"),
    ("sign", "chain.sign.after_commit"),
    ("send", "chain.send.before_rpc"),
    ("send", "chain.send.after_rpc"),
    ("send", "chain.send.before_commit"),
    ("send", "chain.send.after_commit"),
    ("watch", "chain.watch.before_rpc"),
    ("watch", "chain.watch.after_rpc"),
    ("watch", "chain.watch.before_commit"),
    ("watch", "chain.watch.after_commit"),
]


def run(step: str, tmp_path: Path, failpoint: str = "") -> int:
    """One step in a process of its own, on the test's database; its exit status."""
    database = connection.settings_dict
    url = "postgresql://{USER}:{PASSWORD}@{HOST}:{PORT}/{NAME}".format(**database)
    environment = {
        **os.environ,
        "DATABASE_URL": url,
        "SANDBOX_DIR": str(tmp_path),
        "DJANGO_SETTINGS_MODULE": "config.settings.test",
        "FAILPOINTS": f"{failpoint}=kill@1" if failpoint else "",
    }
    done = subprocess.run(
        [sys.executable, "-c", STEPS, step], env=environment, timeout=60, check=False, capture_output=True
    )
    return done.returncode


def leases_end(chain: Chain) -> None:
    """What the lease's time does, without the wait."""
    with connection.cursor() as cursor:
        for table in ("chain_outboundtransaction", "chain_networkwatch"):
            cursor.execute(
                f"UPDATE {table} SET leased_until = clock_timestamp() - interval '1 second'"
                " WHERE leased_until IS NOT NULL"
            )
    chain.due()


@pytest.mark.slow
@pytest.mark.parametrize(("step", "place"), PLACES)
def test_killed_there_and_restarted_it_is_mined_once(
    chain: Chain, tmp_path: Path, step: str, place: str
) -> None:
    row = chain.request()
    if step in ("send", "watch"):
        chain.sign()
    if step == "watch":
        chain.send()
        chain.node.mine()
    chain.due()
    assert run(step, tmp_path, place) == -9
    leases_end(chain)
    assert run(step, tmp_path) == 0
    leases_end(chain)
    chain.sign()
    chain.send()
    chain.node.mine(blocks=3)
    chain.watch()
    final = chain.read(row)
    assert (final.state, final.nonce) == ("confirmed", 0)
    assert len(chain.attempts(row)) == 1
    assert chain.balance(chain.recipient) == 1_000
    assert chain.topics(row).count("transaction.sent") == 1
    assert chain.topics(row).count("transaction.confirmed") == 1
    assert_invariants()


@pytest.mark.slow
@pytest.mark.parametrize("place", ["chain.rebroadcast.before_rpc", "chain.rebroadcast.after_rpc"])
def test_killed_around_a_rebroadcast_it_is_mined_once(chain: Chain, tmp_path: Path, place: str) -> None:
    row = chain.sent()
    chain.node.transaction_drop(chain.attempts(row)[0].hash)
    chain.node.mine()
    chain.due()
    assert run("watch", tmp_path, place) == -9
    leases_end(chain)
    chain.node.mine()
    chain.watch()
    chain.node.mine(blocks=3)
    chain.watch()
    assert chain.read(row).state == "confirmed"
    assert chain.balance(chain.recipient) == 1_000
    assert_invariants()
