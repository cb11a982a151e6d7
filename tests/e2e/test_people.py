"""People and operators over two web processes and a worker, which share PostgreSQL and, while it is there, Redis."""

import os
import re
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from django.conf import settings
from kombu import Connection
from pytest_django import DjangoDbBlocker

from apps.accounts.audit.models import AuditRecord
from apps.accounts.models import User
from apps.accounts.roles import Role, role_grant, role_revoke
from apps.accounts.services import user_create
from apps.core import bulk, clock
from apps.core.ids import uuid7_many
from apps.core.models import Asset
from apps.events.models import Event
from apps.fees.services import fee_schedule_set
from apps.launch.switches import switch_allow, switch_stop
from apps.mail.selectors import ReceivedLetter, letters_received
from apps.plans import kinds
from apps.plans.models import Slot
from apps.providers.models import Market
from apps.sandbox.runtime.processes import Child
from apps.sandbox.runtime.valkey import Valkey
from apps.treasury.models import Activity
from config.celery import app as celery
from tests.accounts.signin.support import OTHER, PASSWORD, totp_at
from tests.accounts.tokens.support import FIREFOX
from tests.deposits.conftest import bank_make
from tests.deposits.support import USDC
from tests.support.web import committed, webs_open

# django_db only so that the tests' database is there to be copied: what the processes are to see is `committed`.
pytestmark = [pytest.mark.django_db, pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(600)]

CURL = "curl/8.9"


@dataclass(frozen=True)
class Town:
    """Where the two web processes answer, the Redis of all, and connections to ask by."""

    webs: tuple[str, str]
    valkey: Valkey
    http: httpx.Client


@pytest.fixture(scope="module")
def town(
    django_db_setup: None, django_db_blocker: DjangoDbBlocker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Town]:
    directory = tmp_path_factory.mktemp("people")
    # One after the other: what is under way when a switch is pressed is one chunk.
    shared = {"DJANGO_SETTINGS_MODULE": "config.settings.test", "WORKER_CONCURRENCY": "1"}
    with django_db_blocker.unblock(), webs_open(directory, **shared) as webs:
        worker = Child(
            name="worker",
            argv=[sys.executable, "-m", "config.roles", "worker"],
            log=directory / "worker.log",
            environment={**os.environ, **webs.environment, "TMPDIR": str(directory)},
            directory=machine(directory),
        )
        worker.start()
        try:
            with httpx.Client(timeout=30) as http:
                one, other = (f"http://127.0.0.1:{port}" for port in webs.ports)
                yield Town((one, other), webs.valkey, http)
        finally:
            worker.kill()


def machine(directory: Path) -> Path:
    """The code on a disk of its own: what a process there writes beside it, the others do not find."""
    root = directory / "machine"
    for part in ("apps", "config", "workers"):
        ignored = shutil.ignore_patterns("__pycache__", "node_modules")
        shutil.copytree(settings.BASE_DIR / part, root / part, ignore=ignored)
    return root


class Device:
    """One person's browser or program; `web` says which of the two processes it asks."""

    def __init__(self, town: Town, agent: str = FIREFOX) -> None:
        self.town, self.agent, self.flow = town, agent, ""

    def ask(
        self, web: int, method: str, path: str, body: Any = None, *, token: str = ""
    ) -> tuple[int, dict[str, Any]]:
        headers = {"User-Agent": self.agent}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        if self.flow:
            headers["X-Session-Token"] = self.flow
        url = f"{self.town.webs[web]}/api/v1/{path}"
        answer = self.town.http.request(method, url, json=body, headers=headers)
        document: dict[str, Any] = answer.json() if answer.content else {}
        self.flow = document.get("session_token") or ""
        return answer.status_code, document

    def refused(self, web: int, method: str, path: str, body: Any = None, *, token: str = "") -> str:
        """`status code` of a problem."""
        status, document = self.ask(web, method, path, body, token=token)
        return f"{status} {document.get('code')}"

    def sign_up(self, email: str) -> dict[str, Any]:
        """At one process; the code of the mail that the worker sent is shown to the other."""
        answered = self.refused(0, "POST", "auth/sign-up", {"email": email, "password": PASSWORD})
        assert answered == "401 authentication_incomplete"
        code = re.findall(r"\b\d{6}\b", letter(email, "code").text)[0]
        status, tokens = self.ask(1, "POST", "auth/verify", {"code": code})
        assert status == 200, tokens
        return tokens


def letter(to: str, template: str) -> ReceivedLetter:
    """The letter of that kind that has arrived in somebody's mailbox, when it has."""
    found: ReceivedLetter = until(
        lambda: next((one for one in letters_received(to=to) if one.template == template), None)
    )
    return found


def until(look: Callable[[], Any], *, seconds: float = 60) -> Any:
    pause, end = threading.Event(), time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < end, "not within its time"
        pause.wait(0.05)
    return found


def test_a_refresh_token_that_comes_back_ends_the_session_everywhere_and_is_told_of(town: Town) -> None:
    # given a person who refreshed once, and somebody who has a copy of the token of before
    email = "ann@example.org"
    ann, thief = Device(town), Device(town, CURL)
    signed_up = ann.sign_up(email)
    copied = {"refresh_token": signed_up["refresh_token"]}
    status, mine = ann.ask(0, "POST", "auth/refresh", copied)
    assert status == 200
    assert [ann.ask(web, "GET", "me", token=mine["access_token"])[0] for web in (0, 1)] == [200, 200]

    # when the copy is shown, to the other process
    assert thief.refused(1, "POST", "auth/refresh", copied) == "401 invalid_refresh_token"

    # then no token of the session is good for anything, in either process
    for web in (0, 1):
        for token in (mine, signed_up):
            assert ann.refused(web, "GET", "me", token=token["access_token"]) == "401 invalid_access_token"
        again = ann.refused(web, "POST", "auth/refresh", {"refresh_token": mine["refresh_token"]})
        assert again == "401 invalid_refresh_token"
    # the person has a mail that says so, from where and by what; the log and the events have it once
    told = letter(email, "refresh_reuse")
    assert {"Device: curl", "IP address: 127.0.0.1"} <= {line.strip() for line in told.text.splitlines()}
    user = User.objects.get(email=email)
    record = AuditRecord.objects.get(action="session.revoked", target_id=mine["session_id"])
    assert record.before is not None
    assert record.after is not None
    assert (record.before["device"], record.after["device"], record.after["reason"]) == (
        FIREFOX, CURL, "refresh_reuse",
    )  # fmt: skip
    event = Event.objects.get(topic="session.revoked", subject_id=user.pk)
    assert (str(event.object_id), event.payload["reason"]) == (mine["session_id"], "refresh_reuse")
    assert [one.template for one in letters_received(to=email)].count("refresh_reuse") == 1
    # and signs in anew
    status, anew = ann.ask(1, "POST", "auth/sign-in", {"email": email, "password": PASSWORD})
    assert status == 200
    _, sessions = ann.ask(0, "GET", "sessions", token=anew["access_token"])
    assert [one["id"] for one in sessions["data"]] == [anew["session_id"]]


@pytest.fixture
def browser() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=30, follow_redirects=True) as client:
        yield client


def test_a_role_that_is_taken_away_opens_nothing_at_the_next_request_of_any_process(
    town: Town, browser: httpx.Client
) -> None:
    def hire() -> None:
        user = user_create(email="op@example.org", password=PASSWORD)
        role_grant(user_id=user.pk, role=Role.OPERATOR, actor="test")

    committed(hire)
    operator = User.objects.get(email="op@example.org")

    def send(web: int, path: str, **fields: str) -> httpx.Response:
        token = browser.cookies.get("csrftoken", "")
        return browser.post(town.webs[web] + path, data={**fields, "csrfmiddlewaretoken": token})

    # given somebody who signed in with both factors
    browser.get(town.webs[0] + "/admin/login/")
    page = send(0, "/admin/login/", username=operator.email, password=PASSWORD)
    secret = re.findall(r"<code[^>]*>([A-Z2-7]{32})</code>", page.text)[0]
    assert send(1, page.url.path, code=totp_at(secret, int(time.time()) // 30)).status_code == 200
    plans = "/admin/plans/plan/"
    assert [browser.get(web + plans).url.path for web in town.webs] == [plans, plans]

    # when the role is taken away, by a third process
    committed(lambda: role_revoke(user_id=operator.pk, role=Role.OPERATOR, actor="test"))

    # then the very next request to each is turned away
    for web in town.webs:
        answer = browser.get(web + plans, follow_redirects=False)
        assert answer.status_code in (302, 403), answer.text[:200]
        assert "Select plan" not in answer.text


def test_a_lock_holds_in_every_process_with_redis_flushed_and_with_redis_gone(town: Town) -> None:
    email = "lea@example.org"
    Device(town).sign_up(email)
    stranger, right = Device(town), {"email": email, "password": PASSWORD}
    tries = [
        stranger.refused(number % 2, "POST", "auth/sign-in", {"email": email, "password": OTHER})
        for number in range(5)
    ]
    assert tries == ["400 wrong_credentials"] * 4 + ["429 sign_in_locked"]

    with redis.Redis.from_url(town.valkey.url) as client:
        client.flushall()
    assert [stranger.refused(web, "POST", "auth/sign-in", right) for web in (0, 1)] == [
        "429 sign_in_locked"
    ] * 2

    town.valkey.kill()
    try:
        assert [stranger.refused(web, "POST", "auth/sign-in", right) for web in (0, 1)] == [
            "429 sign_in_locked"
        ] * 2
    finally:
        town.valkey.start()


def test_switches_act_within_a_second_in_a_worker_and_with_redis_gone_in_web_processes(town: Town) -> None:
    took = {}
    # given a worker that decides about thousands of buys
    due = 8 * int(kinds.RESERVE.chunk)
    committed(lambda: plans_without_funds(due))
    with Connection(town.valkey.url) as broker:
        celery.send_task("plans.open", queue="plans", connection=broker, ignore_result=True)
    until(lambda: Slot.objects.exclude(state="open").exists(), seconds=120)

    # when buying is stopped
    stop(Activity.BUYING)
    stopped = clock.now()

    # then whatever it begins from here on it decides otherwise, and it had no more than one chunk in hand
    until(lambda: Slot.objects.filter(closed_at__isnull=False).count() == due, seconds=120)
    outcomes = list(Slot.objects.values_list("reason", "updated_at", "closed_at"))
    assert {reason for reason, *_ in outcomes} == {"insufficient_funds", "paused"}
    # When the step's transaction began, and when the slot was closed in it.
    unaware = [(begun, at) for reason, begun, at in outcomes if reason == "insufficient_funds"]
    assert all(begun < stopped for begun, _ in unaware)
    assert sum(at is not None and at > stopped for _, at in unaware) <= int(kinds.RESERVE.chunk)

    # when Redis is gone, then the web processes say what was stopped, and allowed again
    town.valkey.kill()
    try:
        stop(Activity.WITHDRAWING)
        took["withdrawing"] = last_wrong(town, lambda status: not status["allowed"]["withdrawing"])
        stop(Activity.SIGNING_UP)
        took["signing up"] = last_wrong(town, lambda status: status["sign_up"] == "closed")
        someone = {"email": "max@example.org", "password": PASSWORD}
        for web in (0, 1):
            assert Device(town).refused(web, "POST", "auth/sign-up", someone) == "403 sign_up_closed"
        for activity in Activity:
            committed(partial(switch_allow, activity=activity, reason="over", actor="op"))
        took["allowed again"] = last_wrong(town, lambda status: all(status["allowed"].values()))
    finally:
        town.valkey.start()
    print({name: round(seconds, 2) for name, seconds in took.items()})
    assert max(took.values()) < 1, took


def test_an_export_is_downloaded_from_another_machine_than_made_it(town: Town) -> None:
    ann = Device(town)
    token = ann.sign_up("exports@example.org")["access_token"]
    status, asked = ann.ask(0, "POST", "me/exports", token=token)
    assert (status, asked["state"]) == (202, "queued")

    def ready() -> dict[str, Any] | None:
        _, found = ann.ask(1, "GET", f"me/exports/{asked['id']}", token=token)
        return found if found["state"] == "ready" else None

    export = until(ready)
    for web in town.webs:
        answer = town.http.get(f"{web}{export['download_url']}")
        assert answer.status_code == 200, answer.text
        assert int(answer.headers["Content-Length"]) == export["size_bytes"] == len(answer.content)
        assert sha256(answer.content).hexdigest() == export["sha256"]


def stop(activity: Activity) -> None:
    committed(lambda: switch_stop(activity=activity, reason="drill", actor="op"))


def last_wrong(town: Town, right: Callable[[dict[str, Any]], bool]) -> float:
    """For two seconds both processes are asked again and again: when the last answer that was not right came."""
    device, started, last = Device(town), time.monotonic(), 0.0
    while time.monotonic() - started < 2:
        for web in (0, 1):
            asked = time.monotonic() - started
            if not right(device.ask(web, "GET", "platform/status")[1]):
                last = asked
    return last


def plans_without_funds(count: int) -> None:
    """Each due now, of somebody who has nothing to buy with."""
    bank, now = bank_make(), clock.now()
    weth = Asset.objects.create(code="WETH", name="Wrapped Ether", decimals=18)
    market = Market.objects.create(
        network=bank.network, sold_asset=bank.usdc, bought_asset=weth, min_trade_units=USDC, guard_bps=200
    )
    fee_schedule_set(tier="standard", asset_id=bank.usdc.pk, bps=25, min_units=10_000, max_units=5 * USDC)
    owner = user_create(email="poor@example.org")
    same: dict[str, Any] = {
        "owner_id": owner.pk,
        "market_id": market.pk,
        "amount_units": 100 * USDC,
        "name": "Ether",
        "state": "active",
        "schedule_kind": "daily",
        "interval": 1,
        "local_time": now.timetz().replace(tzinfo=None, second=0, microsecond=0),
        "weekdays": [],
        "cron": "",
        "zone": "UTC",
        "start_at": now,
        "next_number": 1,
        "max_slippage_bps": 200,
        "missed_policy": "run_once",
        "grace_seconds": 86_400,
        "run_all_limit": 1,
        "run_after": now,
        "created_at": now,
    }
    bulk.insert(
        "plans_plan",
        {"id": uuid7_many(count, now), **{column: [value] * count for column, value in same.items()}},
    )
