"""The classic design of the main job, as good as it gets: one Celery task per plan, and everything in it.

Per plan: a Redis lock, one quote, one swap, signed and sent, its receipt awaited through the same node, then one
serializable transaction that books the buy, retried when PostgreSQL could not serialize it. Quotes, encoding,
schedules, fees and the ledger's posting are the platform's own; nonces come from one atomic counter in Redis, so that
swaps of several processes are under way at once; what never changes is read once per process; connections are kept.
The swap comes before the transaction, so that a retry of the transaction does not buy twice. The receipt is enough:
no depth is waited for. A crash between swap and booking loses the buy; that is the design, not this benchmark.
"""

import os
import random
import time
from datetime import timedelta
from functools import cache
from typing import Any

import orjson
import redis
from django.conf import settings
from django.db import OperationalError, connection, transaction
from eth_account import Account

from apps.chain import abi, client, market
from apps.chain.domain import Receipt
from apps.chain.models import Network
from apps.core import clock
from apps.core.ids import uuid7
from apps.events.services import EventDraft, events_publish
from apps.fees.services import fees_for
from apps.ledger.domain import AccountKey, AccountKind, JournalDraft, Posting
from apps.ledger.services import accounts_open, journals_post
from apps.plans import missed
from apps.plans.models import Plan, Slot
from apps.plans.rules import rule_of
from apps.providers import selectors
from apps.providers import services as providers
from apps.providers.domain import Fill, Quote, min_out
from apps.providers.fills import fill_from_logs

NONCE_KEY = "bench:nonce"
LOCK_SECONDS = 120
POLL_SECONDS = 0.02
# PostgreSQL: serialization failure, deadlock.
AGAIN = frozenset({"40001", "40P01"})


@cache
def broker() -> Any:
    return redis.Redis.from_url(settings.REDIS_URL)


@cache
def endpoint() -> client.Endpoint:
    return client.Endpoint(os.environ["BENCH_RPC_URL"], name="bench")


@cache
def network() -> Network:
    return Network.objects.get()


@cache
def account() -> Any:
    return Account.from_key(os.environ["BENCH_WALLET_KEY"])


@cache
def market_spec(market_id: Any) -> selectors.MarketSpec:
    return selectors.market_spec_get(market_id=market_id)


def buy(plan_id: str) -> None:
    """Buy for a due plan; one that is locked or not due is left alone."""
    lock = broker().lock(f"bench:plan:{plan_id}", timeout=LOCK_SECONDS, blocking=False)
    if not lock.acquire():
        return
    try:
        plan = Plan.objects.select_related("owner").get(pk=plan_id)
        if plan.state == "active" and plan.run_after <= clock.now():
            _buy(plan)
    finally:
        lock.release()


def _buy(plan: Plan) -> None:
    spec = market_spec(plan.market_id)
    (fee,) = fees_for(asset_id=spec.sold_asset_id, tier=plan.owner.fee_tier, amounts=[plan.amount_units])
    quote = providers.quotes_best(market_id=plan.market_id, amount_in_units=plan.amount_units - fee)
    cap = min(plan.max_slippage_bps, spec.guard_bps)
    if quote.deviation_bps > cap:
        raise RuntimeError("the price guard refuses")
    floor = max(1, min_out(quote.reference.ratio, quote.amount_in_units, cap))
    call = providers.swap_build(
        quote=quote,
        min_out_units=floor,
        recipient=account().address.lower(),
        deadline=int((clock.now() + timedelta(minutes=20)).timestamp()),
    )
    shown = send(to=call.to, data=call.data, gas_limit=call.gas_limit)
    fill = fill_from_logs(
        sold_token=spec.sold_token,
        bought_token=spec.bought_token,
        holder=account().address.lower(),
        logs=shown.logs,
    )
    for attempt in range(100):
        try:
            _book(plan.pk, fee, quote, fill, shown.transaction_hash)
        except OperationalError as error:
            if getattr(error.__cause__, "sqlstate", "") not in AGAIN:
                raise
            time.sleep(random.uniform(0.001, 0.005) * min(attempt + 1, 10))
        else:
            return
    raise RuntimeError("could not serialize")


def send(*, to: str, data: str, gas_limit: int) -> Receipt:
    """Sign with the next nonce, send, and wait for the receipt; raises when it reverted."""
    fees = market.fees_market(network())
    signed = account().sign_transaction(
        {
            "type": 2,
            "chainId": network().chain_id,
            "nonce": int(broker().incr(NONCE_KEY)) - 1,
            "to": abi.checksum(to),
            "value": 0,
            "data": data,
            "gas": gas_limit,
            "maxFeePerGas": fees.max_fee_units,
            "maxPriorityFeePerGas": fees.priority_fee_units,
        }
    )
    sent = endpoint().request("eth_sendRawTransaction", ["0x" + bytes(signed.raw_transaction).hex()])
    while (shown := client.receipt(endpoint().request("eth_getTransactionReceipt", [sent]))) is None:
        time.sleep(POLL_SECONDS)
    if not shown.status:
        raise RuntimeError("the transaction reverted")
    return shown


def _book(plan_id: Any, fee: int, quote: Quote, fill: Fill, transaction_hash: str) -> None:
    """Slot, journal with its entries and balances, event and the plan's next run, in one serializable transaction."""
    now = clock.now()
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
        plan = Plan.objects.select_for_update().get(pk=plan_id)
        rule = rule_of(plan)
        due = missed.due(
            rule,
            next_number=plan.next_number,
            next_run_at=plan.run_after,
            now=now,
            grace=timedelta(seconds=plan.grace_seconds),
        )
        ((number, scheduled_at),) = due.runs
        spec = market_spec(plan.market_id)
        slot = Slot(
            id=uuid7(now),
            plan_id=plan.pk,
            number=number,
            owner_id=plan.owner_id,
            market_id=plan.market_id,
            scheduled_at=scheduled_at,
            state="settled",
            reason="filled",
            amount_units=plan.amount_units,
            fee_units=fee,
            swap_units=quote.amount_in_units,
            received_units=fill.amount_out_units,
            max_slippage_bps=plan.max_slippage_bps,
            decision=orjson.loads(orjson.dumps(quote.to_json())),
            closed_at=now,
        )
        slot.save(force_insert=True)
        sold, bought = spec.sold_asset_id, spec.bought_asset_id
        ref = account().address.lower()
        keys = [
            AccountKey(AccountKind.AVAILABLE, sold, plan.owner_id),
            AccountKey(AccountKind.FEES, sold),
            AccountKey(AccountKind.CUSTODY, sold, ref=ref),
            AccountKey(AccountKind.AVAILABLE, bought, plan.owner_id),
            AccountKey(AccountKind.CUSTODY, bought, ref=ref),
        ]
        accounts = accounts_open(keys=keys)
        amounts = [
            -plan.amount_units,
            fee,
            fill.amount_in_units,
            fill.amount_out_units,
            -fill.amount_out_units,
        ]
        journals_post(
            drafts=[
                JournalDraft(
                    "purchase",
                    f"slot:{slot.pk}:settle",
                    [Posting(accounts[key], units) for key, units in zip(keys, amounts, strict=True)],
                )
            ]
        )
        payload = {
            "plan_id": str(plan.pk),
            "slot_id": str(slot.pk),
            "received_units": str(fill.amount_out_units),
            "transaction_hash": transaction_hash,
        }
        events_publish([EventDraft("execution.settled", "person", plan.owner_id, payload, "slot", slot.pk)])
        plan.next_number, plan.run_after = due.next_number, due.next_run_at or plan.run_after
        plan.committed_units += plan.amount_units
        plan.save(update_fields=["next_number", "run_after", "committed_units"])
