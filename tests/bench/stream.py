"""The live stream with 1,000 connections open, one for each of 1,000 people, in one process of the role `stream`.

Ours: one commit tells each of them of one event, with the payload of a settled slot; from the commit to the instant at
which the client has it, the p95 over the connections, median over the rounds. And one event for one of them, at a time.
The floor: the same server, connections and clients, but what is published in Redis goes to everybody as it is: no
database, no sequence, nobody's rights (`tests.bench.bare_stream`). Each round asks both, one after the other. The
memory is the role's, all its processes together, shared pages by their share, before anything was told.
"""

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles
from typing import Any
from uuid import UUID

import redis
from django.conf import settings
from django.db import transaction

from apps.accounts.domain import token_make
from apps.accounts.models import ApiKey, User
from apps.core import clock
from apps.core.ids import uuid7
from apps.events.services import EventDraft, events_publish
from apps.sandbox.runtime.processes import Child
from config.roles import command
from tests.bench import bare_stream
from tests.bench.api import _production, _serve
from tests.support.stack import Stack

PAYLOAD = {
    "plan_id": str(uuid7()), "plan_name": "Ether every morning", "slot_id": str(uuid7()), "number": 12,
    "scheduled_at": "2026-12-01T08:00:00+00:00", "sold_asset": "USDC", "bought_asset": "WETH",
    "amount_units": "100000000", "fee_units": "500000", "swapped_units": "99500000",
    "received_units": "39800000000000000", "transaction_hash": "0x" + "ab" * 32,
}  # fmt: skip
GOAL_MEGABYTES = 300


def run(stack: Stack, *, connections: int, rounds: int, singles: int) -> list[dict[str, Any]]:
    people, keys = _people(connections)
    ours, our_port = _serve(stack, "stream", command("stream"), _production(stack), "/api/v1/health")
    try:
        bare, bare_port = _serve(stack, "bare-stream", _bare(), _production(stack), "/health")
        try:
            with (
                _listeners(our_port, "/api/v1/stream", keys) as listening,
                _listeners(bare_port, "/stream", keys) as at_floor,
            ):
                memory, floor_memory = _megabytes(ours), _megabytes(bare)
                told, floor = [], []
                for _ in range(rounds + 1):
                    told.append(_p95(_tell(listening, people)))
                    floor.append(_p95(_publish(at_floor, connections)))
                alone = [one for person in people[:singles] for one in _tell(listening, [person])]
                floor_alone = [min(_publish(at_floor, connections)) for _ in range(min(singles, 30))]
        finally:
            bare.stop()
    finally:
        ours.stop()
    # The first round finds caches cold on both sides.
    fan_out = (median(told[1:]), median(floor[1:]))
    lone = (_p95(alone), _p95(floor_alone))
    return [
        _row(f"stream: a commit for {connections} connections", "ms at p95", *fan_out, told[1:], floor[1:]),
        _row(f"stream: an event for one of {connections}", "ms at p95", *lone, alone, floor_alone),
        {
            **_row(f"stream: memory, {connections} connections", "MB", memory, floor_memory, [memory], [floor_memory]),
            "goal": f"under {GOAL_MEGABYTES} MB",
            "met": memory < GOAL_MEGABYTES,
        },
    ]  # fmt: skip


def _row(
    name: str, unit: str, ours: float, floor: float, our_runs: Sequence[float], floor_runs: Sequence[float]
) -> dict[str, Any]:
    return {
        "name": name,
        "ours": round(ours, 1),
        "baseline": None,
        "floor": round(floor, 1),
        "unit": unit,
        "ratio": round(ours / floor, 1),
        "goal": "under 1,000 ms",
        "met": ours < 1_000,
        "runs": {"ours": list(our_runs), "baseline": list(floor_runs)},
    }


def _p95(milliseconds: Sequence[float]) -> float:
    return quantiles(milliseconds, n=20)[-1] if len(milliseconds) > 1 else milliseconds[0]


# Telling


class _Listening:
    """The clients of one server."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def say(self, text: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(text + "\n")
        self._process.stdin.flush()

    def hear(self) -> str:
        assert self._process.stdout is not None
        line: str = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the clients broke off")
        return str(line)


def _tell(listening: _Listening, people: Sequence[UUID]) -> list[float]:
    """One event for each, in one commit; milliseconds from the commit to each arrival."""
    listening.say(str(len(people)))
    committed: list[float] = []
    with transaction.atomic():
        # The first thing after the commit.
        transaction.on_commit(lambda: committed.append(time.monotonic()))
        events_publish(
            [
                EventDraft("execution.settled", "person", user_id, PAYLOAD, "slot", user_id)
                for user_id in people
            ]
        )
    return [(at - committed[0]) * 1_000 for at in json.loads(listening.hear())]


def _publish(listening: _Listening, connections: int) -> list[float]:
    listening.say(str(connections))
    data = json.dumps({"id": str(uuid7()), "topic": "execution.settled", "payload": PAYLOAD})
    piece = f"id: 1\nevent: execution.settled\ndata: {data}\n\n"
    with redis.Redis.from_url(settings.REDIS_URL) as client:
        client.ping()
        started = time.monotonic()
        client.publish(bare_stream.CHANNEL, piece)
    return [(at - started) * 1_000 for at in json.loads(listening.hear())]


# What is there


def _people(count: int) -> tuple[list[UUID], list[str]]:
    users = User.objects.bulk_create(
        [User(email=f"bench-stream-{number}@example.org", password="!") for number in range(count)]
    )
    tokens = [token_make() for _ in users]
    ApiKey.objects.bulk_create(
        [
            ApiKey(user=user, name="bench", prefix=token.prefix, secret_hash=token.secret_hash,
                   scopes=["events:read"], created_at=clock.now())
            for user, token in zip(users, tokens, strict=True)
        ]
    )  # fmt: skip
    return [user.pk for user in users], [token.reveal() for token in tokens]


@contextmanager
def _listeners(port: int, path: str, keys: Sequence[str]) -> Iterator[_Listening]:
    with subprocess.Popen(
        [sys.executable, "-m", "tests.bench.listen"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=settings.BASE_DIR,
    ) as process:
        try:
            listening = _Listening(process)
            listening.say(json.dumps({"port": port, "path": path, "keys": list(keys)}))
            if listening.hear().strip() != "ready":
                raise RuntimeError("the clients could not listen")
            yield listening
        finally:
            process.kill()


def _bare() -> list[str]:
    """The stream role's command with the bare application in it."""
    return [
        "tests.bench.bare_stream:application" if part == "config.stream:application" else part
        for part in command("stream")
    ]


def _megabytes(child: Child) -> float:
    children = Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()
    kilobytes = 0
    for pid in [child.pid, *map(int, children)]:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        kilobytes += int(re.findall(r"^Pss: +(\d+) kB", text, re.MULTILINE)[0])
    return kilobytes / 1_000
