"""The API under 32 clients that never pause, each with its own key, against a bare Django view on the same server.

Both servers are the web role's own command line (granian, as many workers and threads): ours with production's
settings, the baseline with `tests.bench.bare`. One of them is asked at a time, endpoint by endpoint, by
`tests.bench.load`; a run asks for everything once, and the figures are medians over the runs of each run's p95. Every
answer must be a success, and a run of plan creation must leave exactly one plan and one event per request. Plans that
were made are taken away again, so that each run lists and creates beside the same rows.
"""

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from django.conf import settings
from django.db import connection

from apps.accounts.models import User
from apps.accounts.services import api_key_create
from apps.core import clock
from apps.core.ids import uuid7
from apps.core.models import Asset
from apps.events.models import Event
from apps.ledger.domain import AccountKey, AccountKind, JournalDraft, Posting
from apps.ledger.services import accounts_open, journals_post
from apps.plans.models import Plan
from apps.providers.models import Market, PriceSnapshot
from apps.sandbox.runtime.processes import Child, child_start_on_free_port
from bin.check import production
from config.roles import command
from tests.bench.claiming import plans_make
from tests.support.stack import Stack

CLIENTS = 32
PLANS_EACH = 20
SCOPES = ("plans:read", "plans:write", "balances:read", "fees:read")
CREATED = "bench: created"
# Milliseconds at p95 (docs/bench.md).
GOALS = {"balances": 100, "plan list": 100, "plan create": 200, "fee quote": 50}

Requests = Callable[[int], list[list[str]]]


def run(stack: Stack, *, people: int, assets: int, each: int, runs: int) -> list[dict[str, Any]]:
    """One row per endpoint: p95 in milliseconds, with `each` requests of each of the 32 clients in each run."""
    market = _market()
    keys = _people(people, assets, market)
    warm = max(2, each // 10)
    asked = _requests(keys, market, each + warm)
    found: dict[str, list[dict[str, float]]] = {name: [] for name in asked}
    ours, our_port = _serve(stack, "web", command("web"), _production(stack), "/api/v1/health")
    try:
        bare, bare_port = _serve(
            stack, "bare", _bare(), {"DJANGO_SETTINGS_MODULE": "tests.bench.bare"}, "/bare"
        )
        try:
            for _ in range(runs):
                for name, requests in asked.items():
                    port = bare_port if name == "bare" else our_port
                    found[name].append(_load(port, requests(each + warm), warm=warm))
                    if name == "plan create":
                        _created(keys, CLIENTS * (each + warm))
        finally:
            bare.stop()
    finally:
        ours.stop()
    baseline = median(one["p95"] for one in found["bare"])
    return [_row(name, found[name], found["bare"], baseline) for name in GOALS]


def _row(
    name: str, ours: Sequence[Mapping[str, float]], bare: Sequence[Mapping[str, float]], baseline: float
) -> dict[str, Any]:
    p95 = median(one["p95"] for one in ours)
    return {
        "name": f"api: {name}, {CLIENTS} clients",
        "ours": round(p95, 1),
        "baseline": round(baseline, 1),
        "floor": None,
        "unit": "ms at p95",
        "ratio": round(p95 / baseline, 1),
        "goal": f"under {GOALS[name]} ms",
        "met": p95 < GOALS[name],
        "runs": {"ours": list(ours), "baseline": list(bare)},
    }


def _load(port: int, clients: list[list[str]], *, warm: int) -> dict[str, float]:
    """Send them; p50, p95, p99 in milliseconds, and requests a second. Raises when one is not answered by a success."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.load"],
        input=json.dumps({"port": port, "warm": warm, "clients": clients}),
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
        cwd=settings.BASE_DIR,
    )
    if done.returncode:
        raise RuntimeError(f"the clients broke off: {done.stderr.strip().splitlines()[-1]}")
    said = json.loads(done.stdout)
    if set(said["statuses"]) - {"200", "201"}:
        raise RuntimeError(f"answers that are no success: {said['statuses']}")
    points = quantiles(said["seconds"], n=100)
    return {
        "p50": round(points[49] * 1_000, 1),
        "p95": round(points[94] * 1_000, 1),
        "p99": round(points[98] * 1_000, 1),
        "per_second": round(len(said["seconds"]) / said["elapsed"]),
    }


# What is asked


def _requests(keys: Sequence[str], market: Market, count: int) -> dict[str, Requests]:
    pair = f"{market.sold_asset.code}/{market.bought_asset.code}"
    quote = {"market": pair, "amount": "100"}
    plan = {
        "name": CREATED,
        "market": pair,
        "amount": "100",
        "total_budget": "5000",
        "price_max": "4000",
        "schedule": {
            "kind": "daily",
            "at": "09:00",
            "time_zone": "Europe/Berlin",
            "start_at": f"{datetime.now(UTC) + timedelta(days=200):%Y-%m-%dT00:00:00Z}",
        },
    }

    def same(method: str, path: str, body: Any = None) -> Requests:
        return lambda count: [[_request(method, path, key, body)] * count for key in keys]

    def once(path: str, body: Any) -> Requests:
        return lambda count: [
            [_request("POST", path, key, body, idempotency_key=str(uuid7())) for _ in range(count)]
            for key in keys
        ]

    return {
        "bare": same("GET", "/bare"),
        "balances": same("GET", "/api/v1/balances"),
        "plan list": same("GET", "/api/v1/plans"),
        "plan create": once("/api/v1/plans", plan),
        "fee quote": same("POST", "/api/v1/fees/quote", quote),
    }


def _request(method: str, path: str, key: str, body: Any = None, *, idempotency_key: str = "") -> str:
    text = "" if body is None else json.dumps(body)
    lines = [
        f"{method} {path} HTTP/1.1",
        "Host: 127.0.0.1",
        "Accept: application/json",
        *([f"Authorization: Bearer {key}"] if key else []),
        # As the proxy in front of production says it.
        "X-Forwarded-Proto: https",
    ]
    if text:
        lines += ["Content-Type: application/json", f"Content-Length: {len(text)}"]
    if idempotency_key:
        lines.append(f"Idempotency-Key: {idempotency_key}")
    return "\r\n".join([*lines, "", text])


def _created(keys: Sequence[str], wanted: int) -> None:
    """Each request made its plan once, and told of it once; then they are gone."""
    plans = Plan.objects.filter(name=CREATED)
    made = list(plans.values_list("pk", flat=True))
    told = Event.objects.filter(topic="plan.created", object_id__in=made).count()
    if not len(made) == told == wanted:
        raise RuntimeError(f"{wanted} requests made {len(made)} plans and {told} events")
    plans.delete()


# What is there


def _market() -> Market:
    """The first market, with a price, however old: no worker runs here to look."""
    market = Market.objects.select_related("sold_asset", "bought_asset").order_by("created_at", "id")[0]
    now = clock.now()
    PriceSnapshot.objects.get_or_create(
        market=market,
        defaults={
            "numerator": 10**18,
            "denominator": 2_500 * 10**6,
            "gas_numerator": 2_500 * 10**6,
            "gas_denominator": 10**18,
            "gas_price_units": 10**9,
            "swap_gas_units": 150_000,
            "block_number": 1,
            "observed_at": now,
        },
    )
    return market


def _people(people: int, assets: int, market: Market) -> list[str]:
    """`people` with 20 plans each; the first 32 have a key and a balance of `assets` assets. Returns the keys."""
    owners = User.objects.bulk_create(
        [User(email=f"bench-api-{number}@example.org", password="!") for number in range(people)]
    )
    for owner in owners:
        plans_make(owner, PLANS_EACH, due=False)
    codes = Asset.objects.bulk_create(
        [Asset(code=f"B{n}", name=f"Bench {n}", decimals=18) for n in range(assets)]
    )
    callers = owners[:CLIENTS]
    drafts = []
    for asset in codes:
        custody_key = AccountKey(AccountKind.CUSTODY, asset.pk, ref="bench-api")
        wanted = {
            kind: [AccountKey(kind, asset.pk, caller.pk) for caller in callers]
            for kind in (AccountKind.AVAILABLE, AccountKind.HELD)
        }
        opened = accounts_open(keys=[custody_key, *wanted[AccountKind.AVAILABLE], *wanted[AccountKind.HELD]])
        for kind, units in ((AccountKind.AVAILABLE, 123_456_789 * 10**12), (AccountKind.HELD, 10**16)):
            postings = [Posting(opened[key], units) for key in wanted[kind]]
            postings.append(Posting(opened[custody_key], -units * len(callers)))
            drafts.append(JournalDraft("deposit", f"bench-api:{asset.code}:{kind}", tuple(postings)))
    journals_post(drafts=drafts)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    return [api_key_create(user_id=caller.pk, name="bench", scopes=SCOPES).key for caller in callers]


# Who answers


def _production(stack: Stack) -> dict[str, str]:
    """Production's settings on the stack's services: JSON logs into a file, the system's clock, no sandbox."""
    own = stack.environment()
    return {
        **production(),
        **{name: own[name] for name in ("DATABASE_URL", "REDIS_URL")},
        "ALLOWED_HOSTS": "127.0.0.1",
        "LOG_LEVEL": "INFO",
        # Counted as in production, and never refused: a client that never pauses asks more than ten times a second.
        "API_LIMIT_PER_SECOND": "100000",
    }


def _bare() -> list[str]:
    """The web role's command with the other project in it."""
    return ["--factory" if part == "config.wsgi:application" else part for part in command("web")] + [
        "django.core.wsgi:get_wsgi_application"
    ]


def _serve(
    stack: Stack, name: str, argv: list[str], environment: dict[str, str], path: str
) -> tuple[Child, int]:
    def make(port: int) -> Child:
        return Child(
            name=name,
            argv=[
                str(port) if before == "--port" else part
                for before, part in zip(["", *argv], argv, strict=False)
            ],
            log=stack.directory / "logs" / f"bench-{name}.log",
            environment={"PATH": os.environ["PATH"], "SERVICE_NAME": "web", **environment},
            directory=Path(settings.BASE_DIR),
        )

    def ready(port: int, _: Child) -> bool:
        asked = urllib.request.Request(
            f"http://127.0.0.1:{port}{path}", headers={"X-Forwarded-Proto": "https"}
        )
        try:
            with urllib.request.urlopen(asked, timeout=5) as answer:  # noqa: S310
                return bool(answer.status == 200)
        except OSError:
            return False

    return child_start_on_free_port(make, ready=ready, seconds=60)
