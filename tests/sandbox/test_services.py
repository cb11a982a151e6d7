"""The services themselves: real processes in directories of their own."""

import io
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis

from apps.sandbox.deploy import deployment_cached
from apps.sandbox.runtime.errors import SandboxBusyError, SandboxError
from apps.sandbox.runtime.files import json_read
from apps.sandbox.runtime.paths import ROOT_DIR
from apps.sandbox.runtime.ports import HOST, port_pick
from apps.sandbox.runtime.postgres import Postgres
from apps.sandbox.runtime.processes import Child, Console, child_start_on_free_port
from apps.sandbox.runtime.sandbox import Sandbox
from apps.sandbox.runtime.status import process_started_at, sandbox_status
from apps.sandbox.runtime.valkey import Valkey


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[Postgres]:
    server = Postgres(tmp_path / "postgres")
    server.start()
    yield server
    server.stop()


def _wait_gone(pids: list[int]) -> bool:
    """Whether all processes end within a minute each; waits on the processes themselves."""
    for pid in pids:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            ended, _, _ = select.select([descriptor], [], [], 60)
        finally:
            os.close(descriptor)
        if not ended:
            return False
    return True


def test_committed_rows_survive_an_immediate_stop(postgres: Postgres) -> None:
    with psycopg.connect(postgres.url) as connection:
        connection.execute("CREATE TABLE kept (n int)")
        connection.execute("INSERT INTO kept SELECT generate_series(1, 1000)")
    url, pid = postgres.url, postgres.pid

    postgres.stop_immediate()
    assert process_started_at(pid) is None
    postgres.start()

    assert postgres.url == url
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT count(*), sum(n) FROM kept").fetchone() == (1000, 500_500)
    assert "redo starts" in postgres.log.read_text()


def test_postgres_never_runs_as_root_and_keeps_its_password(postgres: Postgres) -> None:
    status = Path(f"/proc/{postgres.pid}/status").read_text()
    effective = next(line for line in status.splitlines() if line.startswith("Uid:")).split()[2]
    assert effective != "0"
    wrong = postgres.url.replace("tranche:", "tranche:not", 1)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(wrong)
    with psycopg.connect(postgres.url) as connection:
        settings = connection.execute(
            "SELECT current_setting('fsync'), current_setting('max_connections'), current_setting('jit'),"
            " current_setting('server_encoding'), current_setting('TimeZone')"
        ).fetchone()
    assert settings == ("on", "200", "off", "UTF8", "UTC")


def test_postgres_listens_on_its_short_socket(postgres: Postgres) -> None:
    url = f"host={postgres.socket_dir} port={postgres.port} user=tranche dbname=tranche"
    with pytest.raises(psycopg.OperationalError, match="no password supplied"):
        psycopg.connect(url)
    postgres.stop()
    assert not postgres.socket_dir.exists()


def test_valkey_keeps_its_keys_over_a_restart_and_refuses_rather_than_evicts(tmp_path: Path) -> None:
    server = Valkey(tmp_path / "valkey")
    server.start()
    try:
        url = server.url
        with redis.Redis.from_url(url) as client:
            client.set("kept", "yes")
            assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
            assert client.config_get("appendonly") == {"appendonly": "yes"}
        server.restart()
        assert server.url == url
        with redis.Redis.from_url(url) as client:
            assert client.get("kept") == b"yes"
    finally:
        server.stop()
    assert not server.running


def test_a_taken_port_is_replaced_by_another(tmp_path: Path) -> None:
    """Two starts may be given the same port between the check and the bind; the loser picks again."""
    tried: list[int] = []
    with socket.socket() as squatter:
        squatter.bind((HOST, 0))
        squatter.listen()
        taken = squatter.getsockname()[1]
        script = (
            "import socket, sys\n"
            "server = socket.socket(); server.bind(('127.0.0.1', int(sys.argv[1]))); server.listen()\n"
            "print('listening', flush=True); server.accept()"
        )

        def make(port: int) -> Child:
            tried.append(taken if not tried else port)
            return Child(
                name="server",
                argv=[sys.executable, "-c", script, str(tried[-1])],
                log=tmp_path / "server.log",
            )

        child, _ = child_start_on_free_port(
            make, ready=lambda _port, server: server.log.read_text().endswith("listening\n")
        )
    child.stop()
    assert len(tried) == 2
    assert "Address already in use" in child.log.read_text()


def test_picked_ports_lie_below_those_of_outgoing_connections() -> None:
    start = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert all(15_000 <= port_pick() < start for _ in range(50))


def test_two_sandboxes_run_side_by_side_and_one_directory_has_one_owner(tmp_path: Path) -> None:
    first, second = Sandbox(tmp_path / "first", fsync=False), Sandbox(tmp_path / "second", fsync=False)
    with first, second:
        assert not set(first.urls().values()) & set(second.urls().values())
        assert not set(first.pids().values()) & set(second.pids().values())
        with psycopg.connect(first.urls()["database"]) as connection:
            connection.execute("CREATE TABLE only_here ()")
        with psycopg.connect(second.urls()["database"]) as connection:
            assert connection.execute("SELECT to_regclass('only_here')").fetchone() == (None,)
        with pytest.raises(SandboxBusyError, match=f"pid {os.getpid()}"):
            Sandbox(tmp_path / "first").start()
        status = sandbox_status(tmp_path / "first")
        assert status.running
        assert set(status.alive) == {"postgres", "valkey", "anvil"}
        assert all(status.alive.values())
        assert status.deployment == first.deployment
        pids = [*first.pids().values(), *second.pids().values()]
    assert [process_started_at(pid) for pid in pids] == [None] * 6
    assert not sandbox_status(tmp_path / "first").running
    assert not (tmp_path / "first" / "sandbox.env").exists()


def test_a_killed_owner_takes_its_services_along_and_the_next_start_goes_on(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom pathlib import Path\nfrom apps.sandbox.runtime.sandbox import Sandbox\n"
        "sandbox = Sandbox(Path(sys.argv[1]))\nsandbox.start()\nprint('up', flush=True)\nsys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT_DIR,
    ) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"up\n"
        status = sandbox_status(tmp_path)
        with psycopg.connect(status.urls["database"]) as connection:
            connection.execute("CREATE TABLE kept ()")
        owner.send_signal(signal.SIGKILL)
        owner.wait()
        assert _wait_gone(list(status.pids.values()))

    assert json_read(tmp_path / "state.json") is not None
    assert not sandbox_status(tmp_path).running
    with Sandbox(tmp_path) as again, psycopg.connect(again.urls()["database"]) as connection:
        assert connection.execute("SELECT to_regclass('kept')::text").fetchone() == ("kept",)


def test_ctrl_c_stops_everything_cleanly(tmp_path: Path) -> None:
    script = (
        "import signal, sys, threading\nfrom pathlib import Path\nfrom apps.sandbox.runtime.sandbox import Sandbox\n"
        # Where the tests run in a shell's background, SIGINT is ignored from birth.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "try:\n"
        "    with Sandbox(Path(sys.argv[1]), fsync=False):\n"
        "        print('up', flush=True)\n"
        "        threading.Event().wait()\n"
        "except KeyboardInterrupt:\n"
        "    sys.exit(7)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, cwd=ROOT_DIR
    ) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"up\n"
        pids = list(sandbox_status(tmp_path).pids.values())
        assert all(process_started_at(pid) for pid in pids)
        owner.send_signal(signal.SIGINT)
        assert owner.wait(timeout=60) == 7

    assert [process_started_at(pid) for pid in pids] == [None] * 3
    assert not (tmp_path / "state.json").exists()
    assert not (tmp_path / "postgres" / "data" / "postmaster.pid").exists()
    assert "database system is shut down" in (tmp_path / "postgres" / "postgres.log").read_text()


def test_a_sandbox_starts_from_nothing_in_seconds(tmp_path: Path) -> None:
    deployment_cached()
    took: list[float] = []
    # The quickest of three: what else runs on the machine is no time of the sandbox's.
    while len(took) < 3 and min(took, default=10) >= 10:
        directory = tmp_path / str(len(took))
        start = time.monotonic()
        with Sandbox(directory) as sandbox:
            took.append(time.monotonic() - start)
            names = {line.split("=")[0] for line in (directory / "sandbox.env").read_text().splitlines()}
            assert names == {"DATABASE_URL", "REDIS_URL", "RPC_URL", "SANDBOX_DIR"}
            assert sandbox.environment()["SANDBOX_DIR"] == str(directory)
    assert min(took) < 10, took


def test_a_part_that_fails_to_start_leaves_nothing_running(tmp_path: Path) -> None:
    (tmp_path / "chain").mkdir()
    (tmp_path / "chain" / "state.json").write_text('{"cut off')
    sandbox = Sandbox(tmp_path, fsync=False)

    with pytest.raises(SandboxError, match="damaged"):
        sandbox.start()

    assert sandbox.postgres is not None
    assert sandbox.valkey is not None
    assert not sandbox.postgres.running
    assert not sandbox.valkey.running
    assert not sandbox_status(tmp_path).running


def test_given_services_are_used_instead_of_started_ones(tmp_path: Path) -> None:
    database_url, redis_url = "postgresql://db.test/x", "redis://cache.test/0"
    with Sandbox(tmp_path, with_chain=False, database_url=database_url, redis_url=redis_url) as sandbox:
        assert sandbox.pids() == {}
        assert sandbox.urls() == {"database": database_url, "broker": redis_url}
        sandbox.publish(urls={"api": "http://127.0.0.1:8000"}, pids={"web": os.getpid()})
        status = sandbox_status(tmp_path)
    assert status.urls["api"] == "http://127.0.0.1:8000"
    assert (status.pids, status.alive) == ({"web": os.getpid()}, {"web": True})


def test_console_puts_a_name_before_each_line_and_the_log_keeps_them_bare(tmp_path: Path) -> None:
    output = io.StringIO()
    console = Console(stream=output, width=6, colour=True)
    child = Child(
        name="web",
        argv=["sh", "-c", "echo one; echo two >&2; exit 3"],
        log=tmp_path / "web.log",
        console=console,
    )
    child.start()
    assert child.wait(seconds=10) == 3
    assert child.stop() == 3

    assert output.getvalue().splitlines() == [
        "\x1b[36mweb    │ \x1b[0mone",
        "\x1b[36mweb    │ \x1b[0mtwo",
    ]
    assert child.log.read_text() == "one\ntwo\n"


def test_a_child_that_ignores_the_polite_signal_is_killed_with_its_children(tmp_path: Path) -> None:
    child = Child(
        name="stubborn",
        argv=["sh", "-c", "trap '' TERM; sh -c 'trap \"\" TERM; echo $$; exec sleep 600' & wait; wait"],
        log=tmp_path / "stubborn.log",
    )
    child.start()
    with child.log.open() as log:
        line = ""
        while not line.endswith("\n"):
            assert child.running
            line += log.read()
    grandchild = int(line)

    status = child.stop(grace_seconds=0.2)

    assert status == -signal.SIGKILL
    assert _wait_gone([grandchild])
