"""`manage.py sandbox` as people use it: one terminal runs `up`, others look, pay and travel beside it."""

import json
import os
import re
import select
import signal
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from apps.sandbox.runtime.offset import offset_now
from apps.sandbox.runtime.rpc import Rpc
from apps.sandbox.runtime.status import process_started_at
from tests.sandbox.platform import Terminal

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(480)]

ROLES = {"web", "stream", "worker", "background", "signer", "beat", "flower"}
SERVICES = {"postgres", "valkey", "anvil"}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    """One platform for the tests that leave it running; each stop has a platform of its own."""
    terminal = Terminal(tmp_path_factory.mktemp("supervisor") / "home")
    try:
        terminal.start()
        yield terminal
    finally:
        terminal.end()


def _environment_of(pid: int) -> dict[str, str]:
    pairs = Path(f"/proc/{pid}/environ").read_text().rstrip("\0").split("\0")
    return dict(pair.split("=", 1) for pair in pairs)


def test_status_names_every_url_and_every_living_process(running: Terminal) -> None:
    status = running.status()

    assert status["running"] is True
    assert set(status["urls"]) == {"database", "broker", "rpc", "api", "stream", "flower"}
    assert set(status["processes"]) == ROLES | SERVICES
    for name, process in status["processes"].items():
        assert process["alive"] is True, name
        assert process_started_at(process["pid"]) is not None, name
    assert status["urls"]["api"].endswith(":" + running.environment["PORT"])
    ready = httpx.get(status["urls"]["api"] + "/api/v1/health/ready", timeout=30)
    assert (ready.status_code, ready.json()["status"]) == (200, "ok")
    assert httpx.get(status["urls"]["flower"] + "/healthcheck", timeout=30).status_code == 200
    for url in (*status["urls"].values(), "operator@example.com"):
        assert url in running.log.read_text()


def test_only_the_signer_is_given_the_keys(running: Terminal) -> None:
    pids = {name: process["pid"] for name, process in running.status()["processes"].items()}

    keyless = {role: _environment_of(pids[role]).get("SIGNER_KEYS") for role in ROLES - {"signer"}}

    assert keyless == dict.fromkeys(ROLES - {"signer"}, "")
    assert _environment_of(pids["signer"]).get("SIGNER_KEYS") != ""


def test_a_newcomer_signs_up_with_the_code_that_the_sandbox_shows(running: Terminal) -> None:
    # given what `up` prints
    assert "/admin/mail/letter/" in running.log.read_text()
    email = "newcomer@example.com"
    unknown = running.manage("sandbox", "mail", "--to", email)
    assert (unknown.returncode, unknown.stdout) == (1, "")

    # when somebody signs up and reads the mail
    with httpx.Client(base_url=running.status()["urls"]["api"] + "/api/v1/", timeout=30) as http:
        signed_up = http.post("auth/sign-up", json={"email": email, "password": "plough-Ganymede-46"})
        assert signed_up.status_code == 401, signed_up.text
        deadline = time.monotonic() + 90
        while (mail := running.manage("sandbox", "mail", "--to", email)).returncode:
            assert time.monotonic() < deadline, mail.stderr
        code = re.search(r"^ +(\d{6})$", mail.stdout, re.MULTILINE)
        assert code is not None, mail.stdout
        headers = {"X-Session-Token": signed_up.json()["session_token"]}
        verified = http.post("auth/verify", json={"code": code[1]}, headers=headers)

        # then they are in
        assert verified.status_code == 200, verified.text
        me = http.get("me", headers={"Authorization": f"Bearer {verified.json()['access_token']}"})
        assert (me.status_code, me.json()["email"]) == (200, email)


def test_a_second_up_in_the_same_directory_says_that_one_runs(running: Terminal) -> None:
    before = running.status()

    second = running.manage("sandbox", "up")

    assert second.returncode == 1
    assert "runs in" in second.stderr
    assert f"pid {before['pid']}" in second.stderr
    assert running.status() == before


def _work_is_done(status: dict[str, Any], *, seconds: float = 60) -> bool:
    """Whether a new durable no-op is worked exactly once: beat rings, broker carries, a worker works."""
    with psycopg.connect(status["urls"]["database"], autocommit=True) as connection:
        row = connection.execute(
            "INSERT INTO core_workprobe (id, state, passes, run_after, created_at)"
            " VALUES (gen_random_uuid(), 'open', 0, now(), now()) RETURNING id"
        ).fetchone()
        assert row is not None
        pause, passes = threading.Event(), 0
        for _ in range(int(seconds / 0.1)):
            found = connection.execute("SELECT passes FROM core_workprobe WHERE id = %s", row).fetchone()
            if found is not None and (passes := found[0]):
                break
            pause.wait(0.1)
    return bool(passes == 1)


def _kill(terminal: Terminal, name: str) -> dict[str, Any]:
    """SIGKILL a process and wait until another has its place; the status then."""
    old = terminal.status()["processes"][name]["pid"]
    said = terminal.log.read_text().count(f"{name} died")
    os.kill(old, signal.SIGKILL)
    pause = threading.Event()
    for _ in range(100):
        status = terminal.status()
        again = status["processes"][name]
        if terminal.log.read_text().count(f"{name} died") > said and again["alive"] and again["pid"] != old:
            return status
        pause.wait(0.2)
    raise AssertionError(f"{name} was not started again:\n{terminal.log.read_text()[-3000:]}")


@pytest.mark.parametrize("role", ["worker", "signer", "beat", "flower", "stream", "web"])
def test_a_killed_role_is_started_again_and_works(running: Terminal, role: str) -> None:
    # given a role that dies of SIGKILL, when the supervisor has seen it, then another process has its place
    status = _kill(running, role)
    assert f"{role} died (signal 9); starting it again" in running.log.read_text()
    # and it does the work of its role
    if role in ("worker", "beat"):
        assert _work_is_done(status)
    if role == "signer":
        assert _heart_beats(running.directory / "hearts" / "signer" / "tranche.heartbeat")
    if role in ("web", "stream", "flower"):
        path = "/healthcheck" if role == "flower" else "/api/v1/health/ready"
        assert _answers(status["urls"]["api" if role == "web" else role] + path)


@pytest.mark.parametrize("service", ["valkey", "postgres"])
def test_a_killed_service_is_started_again_where_it_was_and_all_go_on(
    running: Terminal, service: str
) -> None:
    # given a person, committed before the service dies
    email = f"before-{service}@example.com"
    assert running.manage("accounts", "create-user", "--email", email).returncode == 0
    before = running.status()
    # when it dies of SIGKILL and another has its place
    after = _kill(running, service)
    # then it is where it was, with what was committed, and the roles work on without being started again
    assert after["urls"] == before["urls"]
    assert "There is a user" in running.manage("accounts", "create-user", "--email", email).stderr
    assert _work_is_done(after)
    assert _answers(after["urls"]["api"] + "/api/v1/health/ready")
    assert running.manage("invariants").returncode == 0


def test_down_stops_everything_from_another_terminal_and_leaves_the_data(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path / "home")
    terminal.start()
    try:
        # when another terminal says down
        done = terminal.manage("sandbox", "down")
        # then `up` has ended well when it returns, and nothing of it runs or says that it does
        assert (done.returncode, done.stdout) == (0, "stopped\n"), done.stderr
        assert terminal.up is not None
        assert terminal.up.wait(timeout=5) == 0
        assert terminal.processes() == []
        assert not [name for name in ("state.json", "sandbox.env") if (terminal.directory / name).exists()]
        assert (terminal.directory / "postgres" / "data" / "PG_VERSION").exists()
        # and there is nothing to stop any more
        again = terminal.manage("sandbox", "down")
        assert again.returncode == 1
        assert "nothing runs" in again.stderr
    finally:
        terminal.end()


@pytest.mark.timeout(600)  # two whole platforms, started one after the other
def test_two_at_once_do_not_collide(running: Terminal, tmp_path: Path) -> None:
    # given one that runs, and a second one that asks for no ports of its own
    second = Terminal(tmp_path / "second", ports=False)
    try:
        second.start()
        first, other = running.status(), second.status()
        # then nothing is shared, and each answers
        assert not set(first["urls"].values()) & set(other["urls"].values())
        assert not {one["pid"] for one in first["processes"].values()} & {
            one["pid"] for one in other["processes"].values()
        }
        assert _work_is_done(other)
        assert _work_is_done(first)
        # and what is done in one is not done in the other: people, time, the end
        assert second.manage("accounts", "create-user", "--email", "two@example.com").returncode == 0
        made = running.manage("accounts", "create-user", "--email", "two@example.com")
        assert made.returncode == 0, made.stderr
        stood = offset_now(running.directory)
        assert second.manage("sandbox", "travel", "--days", "3").returncode == 0
        assert offset_now(second.directory) - stood > 2 * 86_400
        assert offset_now(running.directory) - stood < 3_600
        assert second.manage("sandbox", "down").returncode == 0
        assert all(process["alive"] for process in running.status()["processes"].values())
    finally:
        second.end()


def _answers(url: str, *, seconds: float = 90) -> bool:
    """Whether it says 200 in time."""
    pause = threading.Event()
    for _ in range(int(seconds / 0.2)):
        try:
            if httpx.get(url, timeout=5).status_code == 200:
                return True
        except httpx.HTTPError:
            pass
        pause.wait(0.2)
    return False


def _heart_beats(file: Path, *, seconds: float = 90) -> bool:
    """Whether a process touches its heartbeat file from now on."""
    now, pause = time.time(), threading.Event()
    for _ in range(int(seconds / 0.2)):
        if file.exists() and file.stat().st_mtime > now:
            return True
        pause.wait(0.2)
    return False


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
    answer = httpx.get(
        urls["api"] + "/api/v1/balances", headers={"Authorization": f"Bearer {key}"}, timeout=30
    )
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


def test_a_chain_that_died_ends_everything_with_the_reason(tmp_path: Path) -> None:
    """Its last seconds are gone while the books have them: going on would be a lie."""
    terminal = Terminal(tmp_path / "home")
    terminal.start()
    try:
        os.kill(terminal.status()["processes"]["anvil"]["pid"], signal.SIGKILL)
        assert terminal.up is not None
        assert terminal.up.wait(timeout=90) == 1
        assert "the chain died, and its last seconds with it" in terminal.log.read_text()
        assert terminal.processes() == []
    finally:
        terminal.end()


def test_a_killed_supervisor_takes_everything_along(running: Terminal) -> None:
    """The last test of the module: it ends the platform that the others share."""
    watched = {
        os.pidfd_open(pid): Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
        for pid in running.processes()
    }
    assert len(watched) > len(ROLES | SERVICES)

    assert running.stop(signal.SIGKILL) == -signal.SIGKILL

    for descriptor, name in watched.items():
        ended = select.select([descriptor], [], [], 20)[0]
        os.close(descriptor)
        assert ended, name
    assert running.processes() == []
    assert running.manage("sandbox", "status").returncode == 1
