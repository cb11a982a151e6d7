"""Switches act within a second in every process, with Redis gone: two web servers of two processes, a worker's loop.

Redis is not slow here but not there: the address is one where nobody listens.
"""

import http.client
import json
import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from apps.launch.domain import State
from apps.launch.models import PlatformState
from apps.launch.switches import switch_allow, switch_stop
from apps.sandbox.runtime.ports import port_pick
from apps.treasury.models import Activity
from tests.house.tree import ROOT
from tests.launch.support import go

NO_REDIS = "redis://127.0.0.1:1/0"
# What a worker asks before it buys, pays out or signs: in a loop, as it does chunk after chunk. With each new answer it
# says when it began to ask for the last time and was answered otherwise.
LOOP = """
import sys, time
import django
django.setup()
from uuid import uuid4
from apps.accounts import signup_gate
from apps.accounts.signup_gate import SignUpRefused
from apps.treasury.models import Activity
from apps.treasury.pauses import paused_read
before, asked = None, 0.0
while True:
    otherwise, asked = asked, time.monotonic()
    found = [bool(paused_read(activity=one).reason_for(uuid4())) for one in (Activity.BUYING, Activity.WITHDRAWING)]
    try:
        signup_gate.current().check(email="a@example.org", invitation="")
        found.append(False)
    except SignUpRefused:
        found.append(True)
    if found != before:
        before = found
        print(otherwise, *map(int, found), flush=True)
    time.sleep(0.05)
"""


def environment(tmp_path: Path) -> dict[str, str]:
    url = "postgresql://{USER}:{PASSWORD}@{HOST}:{PORT}/{NAME}".format(**connection.settings_dict)
    return {
        **os.environ,
        "DATABASE_URL": url,
        "REDIS_URL": NO_REDIS,
        "SANDBOX_DIR": str(tmp_path),
        "DJANGO_SETTINGS_MODULE": "config.settings.test",
    }


def ask(port: int, path: str, body: Any = None) -> tuple[int, dict[str, Any]]:
    """One request on a connection of its own, so that any of the server's processes may take it."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}",
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json", "Connection": "close"},
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)
    except (OSError, http.client.HTTPException):
        # Not yet there, or accepted by a process that does not serve yet.
        return 0, {}


def wait_until(condition: Callable[[], bool], *, seconds: float) -> None:
    pause, end = threading.Event(), time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "not within its time"
        pause.wait(0.02)


@pytest.fixture
def webs(transactional_db: None, tmp_path: Path) -> Iterator[list[int]]:
    """The ports of two web servers of two processes each."""
    ports, running = [port_pick(), port_pick()], []
    with (tmp_path / "web.log").open("wb") as log:
        for port in ports:
            extra = {"PORT": str(port), "WEB_WORKERS": "2", "WEB_THREADS": "2"}
            running.append(
                subprocess.Popen(
                    [sys.executable, "-m", "config.roles", "web"],
                    cwd=ROOT,
                    env={**environment(tmp_path), **extra},
                    stdout=log,
                    stderr=log,
                )
            )
        try:
            for port in ports:
                wait_until(lambda: ask(port, "/api/v1/health")[0] == 200, seconds=60)  # noqa: B023
            yield ports
        finally:
            for process in running:
                process.terminate()
            for process in running:
                process.wait(timeout=30)


def settled(
    webs: list[int], path: str, wanted: Callable[[int, dict[str, Any]], bool], body: Any = None
) -> float:
    """Ask both servers again and again for two seconds; how long after now the last unwanted answer came.

    Twenty requests a server and round, so that each of its processes is asked.
    """
    started, last = time.monotonic(), 0.0
    while time.monotonic() - started < 2:
        for port in webs:
            for _ in range(5):
                asked = time.monotonic() - started
                if not wanted(*ask(port, path, body)):
                    last = asked
    return last


@pytest.mark.e2e
@pytest.mark.slow
def test_states_and_switches_act_within_a_second_in_every_web_process_without_redis(webs: list[int]) -> None:
    took: dict[str, float] = {}
    plans = "/api/v1/plans"
    assert settled(webs, plans, lambda status, _: status == 401) == 0

    go(State.MAINTENANCE)
    took["maintenance"] = settled(webs, plans, lambda _, body: body.get("code") == "platform_maintenance")
    assert all(ask(port, "/api/v1/health")[0] == 200 for port in webs)

    go(State.PRE_LAUNCH)
    took["pre_launch"] = settled(webs, plans, lambda status, _: status == 401)

    switch_stop(activity=Activity.SIGNING_UP, reason="drill", actor="op")
    took["sign-up stopped"] = settled(
        webs, "/api/v1/platform/status", lambda _, body: body.get("sign_up") == "closed"
    )
    switch_allow(activity=Activity.SIGNING_UP, reason="over", actor="op")
    took["sign-up allowed"] = settled(
        webs, "/api/v1/platform/status", lambda _, body: body.get("sign_up") == "invitation"
    )
    print({name: round(seconds, 2) for name, seconds in took.items()})
    assert PlatformState.objects.count() == 2
    assert {name: seconds for name, seconds in took.items() if seconds > 1} == {}


@pytest.mark.e2e
@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_switches_act_within_a_second_in_a_process_that_works_without_redis(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", LOOP], cwd=ROOT, env=environment(tmp_path), stdout=subprocess.PIPE, text=True
    )
    lines: list[tuple[float, str]] = []

    def read() -> None:
        assert process.stdout is not None
        for line in iter(process.stdout.readline, ""):
            otherwise, _, found = line.strip().partition(" ")
            lines.append((float(otherwise), found))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    took = {}
    try:
        wait_until(lambda: bool(lines), seconds=60)
        for activity, seen in (
            (Activity.BUYING, "1 0 0"),
            (Activity.WITHDRAWING, "1 1 0"),
            (Activity.SIGNING_UP, "1 1 1"),
        ):
            switch_stop(activity=activity, reason="drill", actor="op")
            pressed = time.monotonic()
            wait_until(lambda: lines[-1][1] == seen, seconds=60)  # noqa: B023
            took[str(activity)] = lines[-1][0] - pressed
    finally:
        process.kill()
        process.wait()
        reader.join()
        if process.stdout is not None:
            process.stdout.close()
    print({name: round(seconds, 3) for name, seconds in took.items()})
    assert max(took.values()) < 1
