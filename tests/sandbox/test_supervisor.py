"""`manage.py sandbox` as people use it: one terminal runs `up`, others look, pay and travel beside it."""

import json
import os
import select
import signal
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import psycopg
import pytest

from apps.sandbox.runtime.offset import offset_now
from apps.sandbox.runtime.rpc import Rpc
from apps.sandbox.runtime.status import process_started_at
from tests.sandbox.platform import Terminal

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(180)]

ROLES = {"web", "worker", "signer", "beat", "flower"}
SERVICES = {"postgres", "valkey", "anvil"}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    """One platform for the tests that leave it running; each stop has a platform of its own."""
    terminal = Terminal(tmp_path_factory.mktemp("supervisor") / "home")
    terminal.start()
    yield terminal
    terminal.end()


def _environment_of(pid: int) -> dict[str, str]:
    pairs = Path(f"/proc/{pid}/environ").read_text().rstrip("\0").split("\0")
    return dict(pair.split("=", 1) for pair in pairs)


def test_status_names_every_url_and_every_living_process(running: Terminal) -> None:
    status = running.status()

    assert status["running"] is True
    assert set(status["urls"]) == {"database", "broker", "rpc", "api", "flower"}
    assert set(status["processes"]) == ROLES | SERVICES
    for name, process in status["processes"].items():
        assert process["alive"] is True, name
        assert process_started_at(process["pid"]) is not None, name
    assert status["urls"]["api"].endswith(":" + running.environment["PORT"])
    ready = httpx.get(status["urls"]["api"] + "/api/v1/health/ready")
    assert (ready.status_code, ready.json()["status"]) == (200, "ok")
    assert httpx.get(status["urls"]["flower"] + "/healthcheck").status_code == 200
    for url in (*status["urls"].values(), "operator@example.com"):
        assert url in running.log.read_text()


def test_only_the_signer_is_given_the_keys(running: Terminal) -> None:
    pids = {name: process["pid"] for name, process in running.status()["processes"].items()}

    keyless = {role: _environment_of(pids[role]).get("SIGNER_KEYS") for role in ROLES - {"signer"}}

    assert keyless == dict.fromkeys(ROLES - {"signer"}, "")
    assert _environment_of(pids["signer"]).get("SIGNER_KEYS") != ""


def test_a_second_up_in_the_same_directory_says_that_one_runs(running: Terminal) -> None:
    before = running.status()

    second = running.manage("sandbox", "up")

    assert second.returncode == 1
    assert "runs in" in second.stderr
    assert f"pid {before['pid']}" in second.stderr
    assert running.status() == before


def test_a_killed_worker_is_started_again_and_works(running: Terminal) -> None:
    # given work that waits, and a worker that dies of SIGKILL
    status = running.status()
    old = status["processes"]["worker"]["pid"]
    os.kill(old, signal.SIGKILL)

    # when the supervisor has seen it
    running.wait_said("worker died (signal 9); starting it again at once")
    with psycopg.connect(status["urls"]["database"], autocommit=True) as connection:
        row = connection.execute(
            "INSERT INTO core_workprobe (id, state, passes, run_after, created_at)"
            " VALUES (gen_random_uuid(), 'open', 0, now(), now()) RETURNING id"
        ).fetchone()
        assert row is not None

        # then another process has its place and does the work
        pause, passes = threading.Event(), 0
        for _ in range(300):
            found = connection.execute("SELECT passes FROM core_workprobe WHERE id = %s", row).fetchone()
            if found is not None and (passes := found[0]):
                break
            pause.wait(0.1)
    assert passes == 1
    worker = running.status()["processes"]["worker"]
    assert worker["alive"] is True
    assert worker["pid"] != old


def test_money_is_minted_and_credited_once_per_reference(running: Terminal) -> None:
    # given a person with a key
    assert running.manage("accounts", "create-user", "--email", "ada@example.com").returncode == 0
    made = running.manage("accounts", "create-key", "--email", "ada@example.com", "--scopes", "all")
    key = made.stdout.strip()
    wanted = ("--email", "ada@example.com", "--asset", "USDC", "--amount", "1000.50", "--reference", "first")

    # when the same payment is made twice
    first, second = running.manage("sandbox", "fund", *wanted), running.manage("sandbox", "fund", *wanted)

    # then it counts once, on the API and on the chain
    assert (first.returncode, second.returncode) == (0, 0)
    assert first.stdout.startswith("minted and credited: 1000.50 USDC")
    assert second.stdout.startswith("already credited: 1000.50 USDC")
    urls = running.status()["urls"]
    answer = httpx.get(urls["api"] + "/api/v1/balances", headers={"Authorization": f"Bearer {key}"})
    balances = answer.json()["data"]
    assert [(row["asset"], row["available"]) for row in balances] == [("USDC", "1000.5")]
    with psycopg.connect(urls["database"]) as connection:
        journals = connection.execute(
            "SELECT count(*) FROM ledger_journal WHERE reference LIKE 'credit:faucet:%'"
        ).fetchone()
    assert journals == (1,)
    # and the same reference for something else is refused, and mints nothing
    other = running.manage("sandbox", "fund", *wanted[:5], "7", *wanted[6:])
    assert other.returncode == 1
    assert "used before" in other.stderr
    assert running.manage("invariants").returncode == 0


def test_time_moves_for_every_process_and_for_the_chain_and_partitions_are_there_before(
    running: Terminal,
) -> None:
    # given where time stands
    before = datetime.fromtimestamp(offset_now(running.directory), UTC)
    target = (before + timedelta(days=150)).replace(microsecond=0)

    # when another terminal travels
    done = running.manage("sandbox", "travel", "--to", target.isoformat())

    # then clock file, chain and API agree, and the new month has its partitions
    assert done.returncode == 0, done.stderr
    assert target.strftime("%Y-%m-%d") in done.stdout
    urls = running.status()["urls"]
    head = Rpc(urls["rpc"]).call("eth_getBlockByNumber", "latest", False)
    assert abs(int(head["timestamp"], 16) - offset_now(running.directory)) < 30
    assert offset_now(running.directory) >= int(target.timestamp())
    with psycopg.connect(urls["database"]) as connection:
        found = connection.execute(
            "SELECT to_regclass(%s)::text, to_regclass(%s)::text",
            [f"ledger_entry_{target:%Y_%m}", f"events_event_{target:%Y_%m}"],
        ).fetchone()
        snapshots = connection.execute("SELECT max(observed_at) FROM providers_pricesnapshot").fetchone()
    assert found == (f"ledger_entry_{target:%Y_%m}", f"events_event_{target:%Y_%m}")
    assert snapshots is not None
    assert snapshots[0] >= target - timedelta(seconds=30)
    # and time does not go back
    back = running.manage("sandbox", "travel", "--to", before.isoformat())
    assert back.returncode == 1
    assert "time only moves ahead" in back.stderr


def test_sigterm_stops_everything_and_the_next_up_goes_on_until_ctrl_c(tmp_path: Path) -> None:
    # given a platform with a person in it
    terminal = Terminal(tmp_path / "home")
    terminal.start()
    try:
        assert terminal.manage("accounts", "create-user", "--email", "ada@example.com").returncode == 0
        assert len(terminal.processes()) > len(ROLES | SERVICES)

        # when it is asked to end, then it does, and nothing of it is left
        assert terminal.stop(signal.SIGTERM) == 0
        assert terminal.processes() == []
        gone = terminal.manage("sandbox", "status", "--json")
        assert (gone.returncode, json.loads(gone.stdout)["running"]) == (1, False)
        assert terminal.manage("sandbox", "travel", "--days", "1").returncode == 1

        # and it starts again with its data, and Ctrl-C ends it as well
        terminal.start()
        again = terminal.manage("accounts", "create-user", "--email", "ada@example.com")
        assert "There is a user with this email" in again.stderr
        assert terminal.stop(signal.SIGINT) == 0
        assert terminal.processes() == []
    finally:
        terminal.end()


def test_ctrl_c_while_it_starts_leaves_nothing_running(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path / "home")
    terminal.start(until="migrating and seeding")
    try:
        assert terminal.stop(signal.SIGINT) == 0
        assert terminal.processes() == []
    finally:
        terminal.end()


def test_a_killed_supervisor_takes_everything_along(running: Terminal) -> None:
    """The last test of the module: it ends the platform that the others share."""
    watched = [os.pidfd_open(pid) for pid in running.processes()]
    assert len(watched) > len(ROLES | SERVICES)

    assert running.stop(signal.SIGKILL) == -signal.SIGKILL

    for descriptor in watched:
        ended = select.select([descriptor], [], [], 20)[0]
        os.close(descriptor)
        assert ended
    assert running.processes() == []
    assert running.manage("sandbox", "status").returncode == 1
