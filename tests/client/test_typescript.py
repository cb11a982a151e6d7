"""A frontend's way in: a client generated from docs/openapi.yaml compiles under `strict`, and does a first day.

The types are made anew on each run and never committed: there is no second copy that could be old, and
docs/openapi.yaml is what the code says (`make check`). The run is `typescript/src/main.ts`; here is what a program
lacks of a person, a mailbox and a wallet.
"""

import json
import os
import re
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest

from apps.sandbox.deploy import deployment_cached
from apps.sandbox.market import Market
from apps.sandbox.outside import OutsideWallet
from apps.sandbox.runtime.node import node_ensure, node_modules_ensure
from apps.sandbox.runtime.rpc import Rpc
from tests.sandbox.platform import Terminal

pytestmark = pytest.mark.slow

PROJECT = Path(__file__).parent / "typescript"
# In another process: this one's Django knows the tests' database and keys, not the platform's.
_MAILBOX = """
import time
from apps.mail.selectors import letters_received
while not (found := [one for one in letters_received(to={to!r}) if one.template == "code"]):
    time.sleep(0.1)
print(found[0].text)
"""


def node(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A Node.js program in the project, with what npm installed there."""
    node_modules_ensure(PROJECT)
    return subprocess.run(
        [node_ensure().node, *arguments], cwd=PROJECT, env={**os.environ, **environment},
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def program() -> Path:
    """The compiled program; types first, from the document as it is now."""
    commands = json.loads((PROJECT / "package.json").read_text())["scripts"]
    _, *arguments = commands["generate"].split()
    modules = node_modules_ensure(PROJECT)
    generated = node(modules / "openapi-typescript" / "bin" / "cli.js", *arguments)
    assert generated.returncode == 0, generated.stdout + generated.stderr
    compiled = node(modules / "typescript" / "bin" / "tsc")
    assert compiled.returncode == 0, compiled.stdout + compiled.stderr
    return PROJECT / "build" / "main.js"


class Desk:
    """`GET /code?to=…` answers the code of the newest mail; `POST /pay?address=…&asset=…&units=…` sends it on chain."""

    def __init__(self, terminal: Terminal) -> None:
        self.terminal = terminal
        self.rpc = Rpc(terminal.status()["urls"]["rpc"])
        self.market = Market(self.rpc, deployment_cached()[1])
        desk = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.say(desk.code(**desk.asked(self.path)))

            def do_POST(self) -> None:
                self.say(desk.pay(**desk.asked(self.path)))

            def say(self, text: str) -> None:
                self.send_response(200)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    @staticmethod
    def asked(path: str) -> dict[str, str]:
        return {name: values[0] for name, values in parse_qs(urlsplit(path).query).items()}

    def code(self, to: str) -> str:
        read = self.terminal.manage("shell", "--verbosity", "0", "--command", _MAILBOX.format(to=to))
        found = re.search(r"^\s*([0-9]{6})\s*$", read.stdout, re.MULTILINE)
        assert found is not None, read.stdout + read.stderr
        return found[1]

    def pay(self, address: str, asset: str, units: str) -> str:
        payer = OutsideWallet(self.market)
        payer.fill(symbol=asset, units=int(units))
        return payer.send(symbol=asset, to=address, units=int(units))

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    terminal = Terminal(tmp_path / "home")
    try:
        terminal.start()
        yield terminal
    finally:
        terminal.end()


def run(program: Path, terminal: Terminal, desk: Desk) -> dict[str, Any]:
    """What the program says in the end, while blocks come a little faster than by the clock."""
    urls = terminal.status()["urls"]
    over = threading.Event()

    def mine() -> None:
        while not over.wait(0.3):
            desk.rpc.call("evm_mine")

    miner = threading.Thread(target=mine, daemon=True)
    miner.start()
    try:
        ended = node(program, API_URL=urls["api"], STREAM_URL=urls["stream"], DESK_URL=desk.url)
    finally:
        over.set()
        miner.join()
    assert ended.returncode == 0, ended.stdout + ended.stderr
    found: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return found


def test_packages_are_pinned_and_locked_without_a_registry() -> None:
    wanted = json.loads((PROJECT / "package.json").read_text())
    locked = json.loads((PROJECT / "package-lock.json").read_text())["packages"]
    for name, version in {**wanted["dependencies"], **wanted["devDependencies"]}.items():
        assert locked[f"node_modules/{name}"]["version"] == version
    assert [
        path for path, one in locked.items() if path and ("resolved" in one or "integrity" not in one)
    ] == []


@pytest.mark.timeout(300)
def test_the_client_compiles_and_nothing_hides_a_wrong_schema(program: Path) -> None:
    assert program.exists()
    options = json.loads((PROJECT / "tsconfig.json").read_text())["compilerOptions"]
    strict = ("strict", "noUncheckedIndexedAccess", "exactOptionalPropertyTypes", "noEmitOnError")
    assert all(options[name] for name in strict)
    written = [path for path in (PROJECT / "src").glob("*.ts") if path.name != "schema.ts"]
    assert len(written) >= 5
    for path in written:
        code = re.sub(r"^(import .* from| *(//|/?\*)).*$|`[^`]*`", "", path.read_text(), flags=re.MULTILINE)
        # `as const` says no more than what stands there, and a renamed import hides nothing.
        hiding = re.findall(r"\bany\b|\bas (?!const\b).*|@ts-ignore|@ts-nocheck|[\w\])]!(?=[.;,)\]])", code)
        assert hiding == [], path.name


@pytest.mark.e2e
@pytest.mark.timeout(300)
def test_signs_up_pays_in_plans_and_buys_against_the_running_stack(program: Path, terminal: Terminal) -> None:
    desk = Desk(terminal)
    try:
        said = run(program, terminal, desk)
    finally:
        desk.close()

    # The program's figures are the books'.
    with psycopg.connect(terminal.status()["urls"]["database"]) as connection:
        row = connection.execute(
            "SELECT person.email, slot.state, slot.amount_units, slot.received_units"
            " FROM plans_slot AS slot JOIN accounts_user AS person ON person.id = slot.owner_id"
            " WHERE slot.id = %s AND slot.plan_id = %s",
            [said["slot"], said["plan"]],
        ).fetchone()
    assert row == (said["email"], "settled", int(said["amount"]), int(said["received"]))
    assert said["credited"] == "125000001"
    told = ["person.email_verified", "deposit.credited", "plan.created", "execution.settled"]
    assert [topic for topic in said["topics"] if topic in told] == told
    assert said["pages"] >= 2
