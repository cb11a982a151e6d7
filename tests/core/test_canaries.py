"""A canary in every credential, real processes that work and break, and no canary outside its cage.

Production's settings; web, worker, signer, beat and Flower, and a web process whose services are away; a stand-in for
Sentry that takes what `sentry-sdk` really sends. What is looked through: every log, every error report, everything that
Redis was ever sent, every page of Flower, and every row of the database.
"""

import base64
import http.client
import json
import os
import re
import secrets
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from gzip import decompress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import psycopg
import pytest
import redis
from django.conf import settings
from django.db import connection
from pytest_django import DjangoDbBlocker

from apps.accounts.services import api_key_create, user_create
from apps.chain import derivation, services
from apps.chain.models import Wallet
from apps.core.models import Asset
from apps.mail.selectors import letters_received
from apps.sandbox.runtime.ports import port_pick
from apps.sandbox.runtime.processes import Child
from apps.sandbox.runtime.valkey import Valkey
from tests.accounts.signin.support import totp_at
from tests.core.api.town import everything
from tests.support.stack import wait_until
from tests.support.web import database_copy, web_start

pytestmark = [pytest.mark.django_db, pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(300)]
ROLES = ("worker", "signer", "beat", "flower")
# Headers and body members that carry a credential of a person, present and coming.
BODY = (
    "password",
    "new_password",
    "refresh_token",
    "access_token",
    "code",
    "recovery_code",
    "key",
    "token",
    "secret",
)


def made(name: str) -> str:
    """Nothing else looks like it."""
    return f"canary{name}{secrets.token_hex(12)}"


@dataclass
class Cage:
    """Every credential of the platform, by name; `forms` are the shapes in which one may get out."""

    secret_key: str = field(default_factory=lambda: made("secretkey") + secrets.token_hex(20))
    database: str = field(default_factory=lambda: made("database"))
    redis: str = field(default_factory=lambda: made("redis"))
    sentry: str = field(default_factory=lambda: secrets.token_hex(16))
    metrics: str = field(default_factory=lambda: made("metrics"))
    flower: str = field(default_factory=lambda: made("flower"))
    endpoint: str = field(default_factory=lambda: made("endpoint"))
    password: str = field(default_factory=lambda: made("password"))
    header: str = field(default_factory=lambda: made("header"))
    cookie: str = field(default_factory=lambda: made("cookie"))
    body: str = field(default_factory=lambda: made("body"))
    bearer: str = field(default_factory=lambda: made("bearer"))
    encryption: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    access_tokens: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    webhook: str = field(default_factory=lambda: made("webhook"))
    resend: str = field(default_factory=lambda: made("resend"))
    signer: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    wallet: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    xprv: str = ""
    api_key: str = ""

    def forms(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for name, value in vars(self).items():
            if isinstance(value, bytes):
                found[name] = [base64.b64encode(value).decode(), value.hex(), repr(value)[2:-1]]
            else:
                coded = base64.b64encode(value.encode()).decode().rstrip("=")
                found[name] = [value, coded, quote(value, safe="")]
        # The part of an API key that may be shown is no secret.
        found["api_key"].append(self.api_key.rpartition("_")[2])
        return found


class Sentry(ThreadingHTTPServer):
    """Takes envelopes as Sentry does, and keeps what they hold."""

    def __init__(self) -> None:
        self.reports: list[str] = []
        self.calls: list[str] = []
        super().__init__(("127.0.0.1", 0), _Taker)


class _Taker(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert isinstance(self.server, Sentry)
        if self.path.startswith("/v2/"):
            # A node that answers nonsense. It may be told its own key and nobody else's.
            self.server.calls.append(f"{self.headers} {body.decode()}")
            self._answer()
            return
        coding = self.headers.get("Content-Encoding", "")
        body = (
            decompress(body) if coding == "gzip" else zlib.decompress(body) if coding == "deflate" else body
        )
        # The first line is the envelope's own head, which names the project by its public key: that is the way in.
        _, _, items = body.decode().partition("\n")
        self.server.reports.append(items)
        self._answer()

    def _answer(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: Any) -> None:
        """Quiet."""


class Listener(threading.Thread):
    """Everything that anybody sends to Redis, from its own monitor."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self.client = redis.Redis.from_url(url, socket_timeout=None)
        self.heard: list[str] = []

    def run(self) -> None:
        # Until the server goes.
        with suppress(redis.RedisError, OSError), self.client.monitor() as monitor:  # type: ignore[no-untyped-call]
            for command in monitor.listen():
                self.heard.append(str(command["command"]))


@dataclass
class Platform:
    cage: Cage
    directory: Path
    database: str
    web: int
    broken: int
    flower: int
    sentry: Sentry
    listener: Listener
    redis: redis.Redis


@pytest.fixture(scope="module")
def platform(
    django_db_setup: None, django_db_blocker: DjangoDbBlocker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Platform]:
    directory = tmp_path_factory.mktemp("canaries")
    cage = Cage()
    xpub, cage.xprv = derivation.account_make()
    with ExitStack() as stack:
        stack.enter_context(django_db_blocker.unblock())
        keeper = stack.enter_context(_keeper(cage.database))
        url = stack.enter_context(database_copy())
        keys = {"ENCRYPTION_KEYS": {"k": cage.encryption}, "SIGNER_KEYS": {"s": cage.signer}}
        for name, value in keys.items():
            before = getattr(settings, name)
            setattr(settings, name, value)
            stack.callback(setattr, settings, name, before)
        sentry = Sentry()
        _fill(cage, f"http://127.0.0.1:{sentry.server_port}/v2/{cage.endpoint}?key={cage.endpoint}")
        threading.Thread(target=sentry.serve_forever, daemon=True).start()
        stack.callback(sentry.server_close)
        stack.callback(sentry.shutdown)
        valkey = Valkey(directory / "valkey")
        valkey.start()
        stack.callback(valkey.stop)
        server = redis.Redis.from_url(valkey.url)
        server.config_set("requirepass", cage.redis)
        locked = f"redis://:{cage.redis}@127.0.0.1:{valkey.port}/0"
        listener = Listener(locked)
        listener.start()
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONWARNINGS": "ignore",
            "DJANGO_SETTINGS_MODULE": "tests.core.canary_settings",
            "SECRET_KEY": cage.secret_key,
            "ENCRYPTION_KEYS": f"k:{base64.b64encode(cage.encryption).decode()}",
            "ACCESS_TOKEN_KEYS": f"t:{base64.b64encode(cage.access_tokens).decode()}",
            "RESEND_WEBHOOK_SECRETS": f"whsec_{base64.b64encode(cage.webhook.encode()).decode()}",
            "RESEND_API_KEY": cage.resend,
            "MAIL_TRANSPORT": "database",
            "MAIL_FROM": "hello@tranche.example",
            "PUBLIC_URL": "https://tranche.example",
            "DEPOSIT_XPUB": xpub,
            "DATABASE_URL": f"postgresql://{keeper}:{cage.database}@{url.rpartition('@')[2]}",
            "REDIS_URL": locked,
            "ALLOWED_HOSTS": "127.0.0.1",
            "TRUSTED_PROXY_HOPS": "0",
            "METRICS_TOKEN": cage.metrics,
            "SENTRY_DSN": f"http://{cage.sentry}@127.0.0.1:{sentry.server_port}/1",
            "FLOWER_BASIC_AUTH": f"ops:{cage.flower}",
            "LOG_LEVEL": "DEBUG",
            "WORKER_CONCURRENCY": "1",
            "API_LIMIT_PER_SECOND": "1000",
            "SIGN_IN_LIMIT_PER_SECOND": "1000",
        }
        gone = {
            "DATABASE_URL": f"postgresql://tranche:{cage.database}@127.0.0.1:1/tranche",
            "REDIS_URL": f"redis://:{cage.redis}@127.0.0.1:1/0",
        }
        ports = []
        for name, more in (("web", {}), ("broken", gone)):
            child, port = web_start(directory, name=name, environment={**environment, **more}, alone=True)
            stack.callback(child.stop)
            ports.append(port)
        flower = port_pick()
        children = {}
        for role in ROLES:
            own = {"HEARTBEAT_DIR": str(directory / role), "FLOWER_PORT": str(flower)}
            if role == "signer":
                own["SIGNER_KEYS"] = f"s:{base64.b64encode(cage.signer).decode()}"
                own["SIGNER_DEPOSIT_XPRV"] = cage.xprv
            (directory / role).mkdir()
            children[role] = Child(
                name=role,
                argv=[sys.executable, "-m", "config.roles", role],
                log=directory / f"{role}.log",
                environment={**environment, **own},
                directory=settings.BASE_DIR,
            )
            children[role].start()
            stack.callback(children[role].stop)
        for role in ("worker", "signer", "beat"):
            heart = directory / role / "tranche.heartbeat"
            wait_until(
                heart.exists,
                seconds=90,
                what=f"{role} beats",
            )
        wait_until(lambda: _flower(flower, "/healthcheck", cage)[0] == 200, seconds=60, what="Flower answers")
        yield Platform(
            cage, directory, url, ports[0], ports[1], flower, sentry, listener, redis.Redis.from_url(locked)
        )


@contextmanager
def _keeper(password: str) -> Iterator[str]:
    """A role of the database server whose password is the canary."""
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE ROLE keeper LOGIN SUPERUSER PASSWORD '{password}'")
    yield "keeper"
    with connection.cursor() as cursor:
        cursor.execute("DROP ROLE keeper")
    connection.close()


def _fill(cage: Cage, node: str) -> None:
    """People, keys, an endpoint that is away and costs money to use, and transactions that cannot be signed."""
    user = user_create(email="root@example.org", password=cage.password, is_staff=True)
    cage.api_key = api_key_create(user_id=user.pk, name="all", scopes=["plans:read", "keys:write"]).key
    native = Asset.objects.create(code="ETH", name="Ether", decimals=18)
    network = services.network_create(chain_id=1, name="mainnet", native_asset_id=native.pk)
    services.endpoint_add(network_id=network.pk, name="paid", url=node)
    away = f"http://user:{cage.endpoint}@127.0.0.1:1/v2/{cage.endpoint}?key={cage.endpoint}"
    services.endpoint_add(network_id=network.pk, name="away", url=away, priority=20)
    good = services.wallet_import(key=cage.wallet, role="swap", name="swaps")
    broken = services.wallet_create(role="treasury", name="broken")
    Wallet.objects.filter(pk=broken.pk).update(key_ciphertext=Wallet.objects.get(pk=good.pk).key_ciphertext)
    services.signer_rule_allow(network_id=network.pk, to="0x" + "12" * 20)
    for number, wallet in enumerate((good, broken)):
        services.wallet_cap_set(
            wallet_id=wallet.pk, asset_id=native.pk, per_transaction_units=10**18, daily_units=10**18
        )
        services.transaction_request(
            network_id=network.pk, wallet_id=wallet.pk, to="0x" + "12" * 20, data="0x", gas_limit=50_000,
            purpose="test", reference=f"test-{number}", value_units=1,
        )  # fmt: skip


def _flower(port: int, path: str, cage: Cage) -> tuple[int, str]:
    return _ask(
        port,
        "GET",
        path,
        {"Authorization": "Basic " + base64.b64encode(f"ops:{cage.flower}".encode()).decode()},
    )


def _ask(port: int, method: str, path: str, headers: dict[str, str], body: str = "") -> tuple[int, str]:
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        link.request(method, path, body=body or None, headers={"X-Forwarded-Proto": "https", **headers})
        answer = link.getresponse()
        return answer.status, answer.read().decode()
    except OSError:
        return 0, ""
    finally:
        link.close()


def _requests(cage: Cage) -> Iterator[tuple[str, str, dict[str, str], str]]:
    """What people send: credentials everywhere that one may stand, right and wrong."""
    headers = {
        "Cookie": f"sessionid={cage.cookie}; csrftoken={cage.cookie}; refresh={cage.cookie}",
        "X-CSRFToken": cage.header,
        "X-Session-Token": cage.header,
        "X-Api-Key": cage.header,
        "Content-Type": "application/json",
    }
    body = json.dumps(
        {**dict.fromkeys(BODY, cage.body), "nested": {"password": cage.body, "code": cage.body}}
    )
    for bearer in (
        cage.api_key,
        cage.api_key[:-1] + "0",
        cage.bearer,
        f"eyJhbGciOiJIUzI1NiJ9.{cage.bearer}.x",
    ):
        sent = {**headers, "Authorization": f"Bearer {bearer}"}
        for path in (
            "me",
            "probe/crash",
            "probe/raises/database",
            "probe/raises/retryable",
            "auth/sign-in",
            "api-keys",
        ):
            yield "POST", f"/api/v1/{path}", sent, body
            yield "GET", f"/api/v1/{path}", sent, ""
    form = {"Content-Type": "application/x-www-form-urlencoded", "Cookie": headers["Cookie"]}
    for password in (cage.password, cage.body):
        yield "POST", "/admin/login/", form, urlencode({"username": "root@example.org", "password": password})
    yield "GET", "/metrics", {"Authorization": f"Bearer {cage.metrics}", "X-Forwarded-For": "8.8.8.8"}, ""
    yield "GET", "/api/v1/health/ready", {}, ""


SIX_DIGITS = r"\b\d{6}\b"


class Walker:
    """A person who goes through the flows of signing in over HTTP; `held` is all that they were given."""

    EMAIL = "walker@example.org"

    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self.password, self.other = made("walker"), made("walkers")
        self.held: dict[str, str] = {"password": self.password, "new password": self.other}
        self.flow = self.access = ""

    def post(self, path: str, body: dict[str, Any] | None = None, *, status: int = 200) -> dict[str, Any]:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        if self.flow:
            headers["X-Session-Token"] = self.flow
        if self.access:
            headers["Authorization"] = f"Bearer {self.access}"
        text = json.dumps(body) if body is not None else ""
        # The same where everything is away, and where it crashes: neither may say what it was sent.
        for port, place in ((self.platform.broken, f"auth/{path}"), (self.platform.web, "probe/crash")):
            broken, said = _ask(port, "POST", f"/api/v1/{place}", headers, text)
            assert broken >= 500 or broken in (401, 405), (place, said)
        answered, said = _ask(self.platform.web, "POST", f"/api/v1/auth/{path}", headers, text)
        assert answered == status, (path, said)
        found: dict[str, Any] = json.loads(said) if said else {}
        self.flow = found.get("session_token") or self.flow
        if found.get("access_token"):
            self.access, self.flow = found["access_token"], ""
            self.keep(access=found["access_token"], refresh=found["refresh_token"])
        return found

    def keep(self, **values: str) -> None:
        self.held |= {f"{name} {len(self.held)}": value for name, value in values.items()}

    def code(self, template: str, form: str, *, to: str = EMAIL) -> str:
        """Of the letter that a worker has sent: before that it is nowhere to be read."""
        found: list[str] = []

        def arrived() -> bool:
            letters = [one.text for one in letters_received(to=to) if one.template == template]
            found.extend(code for text in letters[:1] for code in re.findall(form, text))
            return bool(found)

        wait_until(arrived, seconds=60, what=f"a letter {template}")
        return found[0]

    def walk(self) -> None:
        self.post("sign-up", {"email": self.EMAIL, "password": self.password}, status=401)
        self.keep(flow=self.flow, code=self.code("code", SIX_DIGITS))
        self.post("verify", {"code": "no code"}, status=400)
        self.post("verify", {"code": self.code("code", SIX_DIGITS)})
        secret = self.post("factors/totp")["secret"]
        right = totp_at(secret, int(time.time()) // 30)
        self.keep(totp=secret, totp_code=right)
        codes = self.post("factors/totp/confirm", {"code": right})["recovery_codes"]
        self.keep(**{f"recovery {number}": code for number, code in enumerate(codes)})
        self.post("step-up", {"code": codes[0]}, status=204)
        self.post("step-up", {"password": self.password}, status=403)
        self.post("email", {"email": "walked@example.org"}, status=202)
        self.keep(change=self.code("code", SIX_DIGITS, to="walked@example.org"))
        self.post("password", {"current_password": self.password, "new_password": self.other}, status=204)
        refresh = next(value for name, value in self.held.items() if name.startswith("refresh"))
        self.post("refresh", {"refresh_token": refresh})
        # A replay, which ends the session and is told by mail.
        self.post("refresh", {"refresh_token": refresh}, status=401)
        self.access = ""
        self.post("password/forgot", {"email": self.EMAIL}, status=401)
        reset = self.code("password_reset_code", r"\b[B-Z]{4}-[B-Z]{4}\b")
        self.keep(flow=self.flow, reset=reset)
        self.post("password/reset", {"code": "BBBB-BBBB", "password": self.password}, status=400)
        self.post("password/reset", {"code": reset, "password": self.password}, status=204)
        self.flow = ""
        self.post("sign-in", {"email": self.EMAIL, "password": self.password}, status=401)
        self.keep(flow=self.flow)
        self.post("sign-in/factor", {"code": codes[1]})
        self.access = ""
        self.post("sign-in/google", {"id_token": f"e30.{made('idtoken')}.x", "proof": "p"}, status=404)

    def leaks(self, searched: dict[str, str]) -> dict[str, str]:
        """Where what they were given stands, with what is around it."""
        found = {}
        for name, value in self.held.items():
            # Digits are also in other numbers: only as a word of their own.
            shape = rf"(?<![\w.\-:+]){value}(?![\w.\-:+])" if value.isdigit() else re.escape(value)
            for place, text in searched.items():
                if at := re.search(shape, text):
                    found[f"{name} in {place}"] = text[max(0, at.start() - 200) : at.end() + 60]
        return found


def _tables(url: str) -> dict[str, str]:
    """Every table of the database as text, those of packages too."""
    with psycopg.connect(url) as link:
        names = link.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY tablename"
        ).fetchall()
        return {
            f"table {name}": "\n".join(
                row[0] for row in link.execute(f'SELECT t::text FROM "{name}" AS t').fetchall()
            )
            for (name,) in names
        }


def _broken_for_a_moment(platform: Platform, said: Callable[[str], str]) -> None:
    """A table is missing, and the tick that asks it crashes. Outside of the test's own transaction."""
    with psycopg.connect(platform.database, autocommit=True) as link:
        link.execute("ALTER TABLE core_workprobe RENAME TO core_workprobe_gone")
        wait_until(
            lambda: 'relation \\"core_workprobe\\" does not exist' in said("worker"),
            seconds=60,
            what=lambda: said("worker")[-3_000:],
        )
        link.execute("ALTER TABLE core_workprobe_gone RENAME TO core_workprobe")
    reported = lambda: any("core_workprobe" in report for report in platform.sentry.reports)  # noqa: E731
    wait_until(reported, seconds=60, what="the crash is reported")


def test_no_canary_is_anywhere_outside_its_cage(platform: Platform) -> None:
    cage = platform.cage
    # given everything that works and breaks: requests, with services there and away, ...
    statuses: dict[int, set[int]] = {}
    for port in (platform.web, platform.broken):
        for method, path, headers, body in _requests(cage):
            statuses.setdefault(port, set()).add(_ask(port, method, path, headers, body)[0])
    assert {200, 401, 403, 405, 500, 503} <= statuses[platform.web]
    assert {500, 503} <= statuses[platform.broken]

    # ... somebody who signs up, in, and back in, ...
    walker = Walker(platform)
    walker.walk()
    assert len([name for name in walker.held if name.startswith(("access", "refresh", "recovery"))]) >= 14

    # ... a signer that cannot sign, a worker whose chain is away, ...
    def said(role: str) -> str:
        return (platform.directory / f"{role}.log").read_text()

    wait_until(
        lambda: "rpc endpoint failed" in said("worker"), seconds=60, what=lambda: said("worker")[-3_000:]
    )
    # ... tasks that crash, ...
    _broken_for_a_moment(platform, said)
    # ... pages that people look at, ...
    pages = [
        _flower(platform.flower, path, cage)
        for path in ("/", "/workers", "/tasks", "/broker", "/api/tasks", "/api/workers?refresh=1")
    ]
    workers = json.loads(pages[-1][1])
    assert len(workers) == 2
    pages += [_flower(platform.flower, f"/worker/{quote(name)}", cage) for name in workers]
    tasks = json.loads(pages[4][1])
    assert tasks
    pages += [_flower(platform.flower, f"/task/{one}", cage) for one in list(tasks)[:5]]
    assert {status for status, _ in pages} == {200}
    rows, tables = repr(everything()), _tables(platform.database)
    # ... and Redis going away under everybody.
    heard = len(platform.listener.heard)
    assert heard > 50
    mark = len(said("worker"))
    platform.redis.config_set("requirepass", "another")
    platform.redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")  # type: ignore[no-untyped-call]
    for method, path, headers, body in _requests(cage):
        _ask(platform.web, method, path, headers, body)
    lost = lambda: "Connection" in said("worker")[mark:]  # noqa: E731
    wait_until(lost, seconds=30, what=lambda: said("worker")[-3_000:])

    # then
    logs = {log.stem: log.read_text() for log in platform.directory.glob("*.log")}
    assert set(logs) == {"web", "broken", *ROLES}
    assert len(platform.sentry.reports) >= 3
    assert platform.sentry.calls
    searched = {
        **{f"{name}.log": text for name, text in logs.items()},
        **{f"report {number}": text for number, text in enumerate(platform.sentry.reports)},
        **{f"call {number}": text for number, text in enumerate(platform.sentry.calls)},
        "redis": "\n".join(platform.listener.heard),
        **{f"flower page {number}": text for number, (_, text) in enumerate(pages)},
        "database": rows,
    }
    leaks = walker.leaks({**{name: text for name, text in searched.items() if name != "database"}, **tables})
    for place, text in searched.items():
        for name, forms in cage.forms().items():
            for form in forms:
                if form in text:
                    at = text.index(form)
                    leaks[f"{name} in {place}"] = text[max(0, at - 200) : at + 60]
    assert leaks == {}, "\n".join(f"{what}: {context}" for what, context in leaks.items())
