"""A thousand approved withdrawals to the signer and onto the chain, against one Celery task per withdrawal.

Both sides ask the node the same, write the same and are signed and broadcast by the same engine; the baseline's tasks
have two pool processes of their own beside the platform's.
"""

import secrets
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import Any

import redis
from celery import current_app
from django.conf import settings
from django.db import transaction

from apps.accounts.models import User
from apps.chain import services as chain
from apps.chain.models import Network, Wallet
from apps.core import clock, doorbell
from apps.core.ids import uuid7_many
from apps.core.models import Asset
from apps.ledger.domain import AccountKey, AccountKind, hold
from apps.ledger.services import accounts_open, journals_post
from apps.sandbox.deploy import deployment_cached
from apps.sandbox.market import Market as Maker
from apps.sandbox.runtime.processes import Child
from apps.treasury.services import credit_by_hand
from apps.withdrawals import services
from apps.withdrawals.domain import WithdrawalState, hold_reference
from apps.withdrawals.models import Withdrawal, WithdrawalRule
from config.roles import QUEUES
from tests.bench.classic import QUEUE
from tests.bench.world import settle_down
from tests.support.stack import Stack, wait_until

UNITS = 1_000_000
_LATER = timedelta(days=300)


def run(stack: Stack, *, count: int, runs: int) -> list[dict[str, Any]]:
    """Withdrawals a second from approved to an intent with the signer, and to broadcast; sides interleaved."""
    owner = _prepare(stack, count * UNITS * (runs * 2 + 2))
    baseline = Child(
        name="bench",
        argv=[
            sys.executable, "-m", "celery", "--app", "tests.bench.classic", "--quiet", "worker", "--without-mingle",
            "--queues", QUEUE, "--concurrency", "2", "--loglevel", "ERROR", "--hostname", "bench@%h",
        ],
        log=stack.directory / "logs" / "bench.log",
        environment=stack.environment(),
        directory=Path(settings.BASE_DIR),
    )  # fmt: skip
    baseline.start()
    try:
        for side in (_engine, _per_row):
            _measure(stack, owner, 20, side)
        ours, theirs = [], []
        for _ in range(runs):
            ours.append(_measure(stack, owner, count, _engine))
            theirs.append(_measure(stack, owner, count, _per_row))
    finally:
        baseline.stop()
    names = ("from approved to the signer", "from approved to sent")
    return [
        _row(
            f"withdrawals: {count:,} {name}", count, [one[leg] for one in ours], [one[leg] for one in theirs]
        )
        for leg, name in enumerate(names)
    ]


def _row(name: str, count: int, ours: list[float], theirs: list[float]) -> dict[str, Any]:
    rates = [count / one for one in ours], [count / one for one in theirs]
    ratio = median(rates[0]) / median(rates[1])
    return {
        "name": name,
        "ours": round(median(rates[0]), 1),
        "baseline": round(median(rates[1]), 1),
        "floor": None,
        "unit": "withdrawals/s",
        "ratio": round(ratio, 2),
        "goal": "faster than a task and a transaction each",
        "met": ratio > 1,
        "runs": {
            "ours": [round(one, 1) for one in rates[0]],
            "baseline": [round(one, 1) for one in rates[1]],
        },
    }


def _prepare(stack: Stack, units: int) -> User:
    """A person whose USDC lie in the hot wallet, and terms that let them all leave."""
    usdc = Asset.objects.get(code="USDC")
    wallet = Wallet.objects.get(role="swap")
    assert stack.sandbox.anvil is not None
    maker = Maker(stack.sandbox.anvil.rpc, deployment_cached()[1])
    maker.mint(symbol="USDC", to=wallet.address, units=units)
    stack.sandbox.anvil.balance_set(wallet.address, wei=10**24)
    WithdrawalRule.objects.get_or_create(
        asset=usdc,
        defaults={
            "minimum_units": 1,
            "gas_units": 0,
            "person_daily_units": 10**20,
            "platform_hourly_units": 10**20,
        },
    )
    services.payouts_allow(asset_id=usdc.pk)
    chain.wallet_cap_set(
        wallet_id=wallet.pk, asset_id=usdc.pk, per_transaction_units=10**20, daily_units=10**24
    )
    owner = User.objects.create(email=f"bench-withdrawals-{secrets.token_hex(4)}@example.org")
    credit_by_hand(
        user_id=owner.pk,
        asset_id=usdc.pk,
        amount_units=units,
        reference=f"bench-{owner.pk}",
        note="bench",
        actor="bench",
    )
    return owner


def _approved(owner: User, count: int) -> list[Any]:
    """Approved withdrawals with their holds, to addresses of their own, that no worker looks at yet."""
    usdc = Asset.objects.get(code="USDC")
    network = Network.objects.get()
    available = AccountKey(AccountKind.AVAILABLE, usdc.pk, owner.pk)
    held = AccountKey(AccountKind.HELD, usdc.pk, owner.pk)
    accounts = accounts_open(keys=[available, held])
    ids = uuid7_many(count)
    with transaction.atomic():
        Withdrawal.objects.bulk_create(
            [
                Withdrawal(
                    id=pk,
                    user=owner,
                    asset=usdc,
                    network=network,
                    destination="0x" + secrets.token_hex(20),
                    amount_units=UNITS,
                    fee_units=0,
                    sent_units=UNITS,
                    state=WithdrawalState.APPROVED,
                    run_after=clock.now() + _LATER,
                )
                for pk in ids
            ]
        )
        journals_post(
            drafts=[
                hold(
                    reference=hold_reference(pk),
                    available_id=accounts[available],
                    held_id=accounts[held],
                    units=UNITS,
                )
                for pk in ids
            ]
        )
    return ids


def _measure(stack: Stack, owner: User, count: int, side: Callable[[list[Any]], None]) -> tuple[float, float]:
    """Seconds until all are with the signer, and until all are sent; waits for their end before it answers.

    The rings that the run before left in the queues are answered first, whoever left them: a transaction rings at
    every change of its state, so that a thousand leave thousands.
    """
    broker = redis.Redis.from_url(settings.REDIS_URL)
    wait_until(lambda: not any(broker.llen(name) for name in QUEUES), seconds=300, what="queues empty")
    settle_down(stack)
    ids = _approved(owner, count)
    mine = Withdrawal.objects.filter(pk__any_of=ids)
    started = time.perf_counter()
    side(ids)
    wait_until(lambda: not mine.filter(state="approved").exists(), seconds=300, what="with the signer")
    handed = time.perf_counter() - started
    wait_until(lambda: not mine.filter(state__in=["approved", "sending"]).exists(), seconds=600, what="sent")
    sent = time.perf_counter() - started
    wait_until(lambda: not mine.filter(closed_at__isnull=True).exists(), seconds=600, what="confirmed")
    ends = set(mine.values_list("state", flat=True))
    if ends != {"confirmed"}:
        raise RuntimeError(f"they ended {ends}")
    return handed, sent


def _engine(ids: list[Any]) -> None:
    with transaction.atomic():
        Withdrawal.objects.filter(pk__any_of=ids).update(run_after=clock.now())
        doorbell.ring("withdrawals.send")


def _per_row(ids: list[Any]) -> None:
    with current_app.producer_pool.acquire(block=True) as producer:
        for pk in ids:
            current_app.send_task("bench.withdraw", args=[str(pk)], queue=QUEUE, producer=producer)
