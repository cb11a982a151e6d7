"""Which addresses are collected: those where it pays, and those whose units somebody waits for."""

import logging
from datetime import timedelta
from uuid import UUID

from django.conf import settings
from django.db import connection
from django.db.models import Sum

from apps.chain import services as chain
from apps.chain.models import Network, Token
from apps.core import clock, doorbell
from apps.core.errors import Retryable
from apps.core.ids import uuid7
from apps.deposits.domain import SweepState
from apps.deposits.models import Holding, Sweep
from apps.providers.selectors import native_ratios

logger = logging.getLogger(__name__)

SWEEP = "deposits.sweep"
# What a transfer may burn at most, and what one burns usually; tokens with a fee or a hook need more than 65,000.
TOKEN_GAS_LIMIT = 150_000
TOKEN_GAS = 60_000
NATIVE_GAS = 21_000
# Open at a time per network: each costs the watcher some reads per block.
OPEN_MAX = 50
# A price this old still tells whether collecting pays; an older one tells nothing.
PRICE_MAX_AGE = timedelta(hours=6)
OPEN_STATES = (SweepState.PLANNED, SweepState.FUNDING, SweepState.SWEEPING)
# After a failure an address rests: a minute, then twice as long each time in a row, to a day.
REST_SECONDS, REST_CAP_SECONDS = 60, 86_400

# The largest first. An address that failed since its last success rests by how often that was.
_CANDIDATES = """
SELECT holding.address_id, holding.units FROM deposits_holding AS holding
WHERE holding.asset_id = %(asset)s AND holding.units >= %(least)s AND holding.units > 0
AND NOT EXISTS (
    SELECT 1 FROM deposits_sweep AS open WHERE open.address_id = holding.address_id
    AND open.asset_id = holding.asset_id AND open.state IN ('planned', 'funding', 'sweeping')
)
AND NOT EXISTS (
    SELECT 1 FROM (
        SELECT count(*) AS times, max(tried.done_at) AS latest FROM deposits_sweep AS tried
        WHERE tried.address_id = holding.address_id AND tried.asset_id = holding.asset_id AND tried.state = 'failed'
        AND tried.done_at > coalesce((
            SELECT max(done.done_at) FROM deposits_sweep AS done WHERE done.address_id = holding.address_id
            AND done.asset_id = holding.asset_id AND done.state = 'done'), '-infinity')
    ) AS failed
    WHERE failed.latest > %(now)s - make_interval(secs =>
        least(%(rest)s * power(2, least(failed.times, 20) - 1), %(cap)s))
)
ORDER BY holding.units DESC, holding.id LIMIT %(limit)s
"""


def sweeps_plan() -> int:
    """Open a sweep for every address where collecting pays, within the limits; returns how many. Called by beat.

    It pays when the value is at least `SWEEP_FACTOR` times what top-up and transfer burn, by reference prices.
    An asset without a price is collected on demand only. A few statements per asset, whatever the number of
    addresses; two at once open nothing twice.
    """
    opened = 0
    for network in Network.objects.filter(halted_at__isnull=True).order_by("name"):
        try:
            price = chain.fees_read(network_id=network.pk).max_fee_units
        except Retryable as error:
            # No answer, or gas above the cap: nothing is collected now that nobody waits for.
            logger.info("no sweeps planned", extra={"network": network.name, "error": str(error)})
            continue
        ratios = native_ratios(network_id=network.pk, since=clock.now() - PRICE_MAX_AGE)
        room = OPEN_MAX - Sweep.objects.filter(network=network, state__in=OPEN_STATES).count()
        tokens: dict[UUID, UUID | None] = dict(
            Token.objects.filter(network=network, enabled=True).values_list("asset_id", "pk")
        )
        tokens[network.native_asset_id] = None
        for asset_id, token_id in tokens.items():
            ratio = ratios.get(asset_id)
            if ratio is None and token_id is not None:
                continue
            gas = NATIVE_GAS if token_id is None else TOKEN_GAS + NATIVE_GAS
            burned = gas * max(price, 1)
            least = settings.SWEEP_FACTOR * (burned if ratio is None else ratio.ceil(burned))
            made = _open(network.pk, asset_id, token_id, least=least, room=room)
            room -= made
            opened += made
    if opened:
        doorbell.ring(SWEEP)
    return opened


def sweeps_demand(*, asset_id: UUID, units: int) -> int:
    """Somebody waits for `units` of an asset: open sweeps, largest first, until enough is on its way.

    Counts what open sweeps bring already. Returns how many units are coming; fewer when no more lie at deposit
    addresses, or too many sweeps are open. In the caller's transaction; rings `deposits.sweep`.
    """
    place = _place_of(asset_id)
    if place is None:
        return 0
    network_id, token_id = place
    open_ones = Sweep.objects.filter(network_id=network_id, state__in=OPEN_STATES)
    coming = int(open_ones.filter(asset_id=asset_id).aggregate(units=Sum("units"))["units"] or 0)
    if coming < units:
        room = OPEN_MAX - open_ones.count()
        coming += _open_units(network_id, asset_id, token_id, wanted=units - coming, room=room)
    # Also when nothing is new: what is open is looked at now, not at its next turn.
    doorbell.ring(SWEEP)
    return coming


def sweep_again(*, sweep_id: UUID) -> bool:
    """Plan a failed sweep's address anew at once, whatever it is worth; False when nothing is to be collected.

    For operators: a failure's rest does not count, one open sweep per address and asset does.
    """
    row = Sweep.objects.filter(pk=sweep_id, state=SweepState.FAILED).first()
    if row is None:
        return False
    units = (
        Holding.objects.filter(address_id=row.address_id, asset_id=row.asset_id, units__gt=0)
        .values_list("units", flat=True)
        .first()
    )
    if (
        units is None
        or Sweep.objects.filter(
            address_id=row.address_id, asset_id=row.asset_id, state__in=OPEN_STATES
        ).exists()
    ):
        return False
    _write(row.network_id, row.asset_id, row.token_id, [(row.address_id, units)])
    doorbell.ring(SWEEP)
    return True


def _place_of(asset_id: UUID) -> tuple[UUID, UUID | None] | None:
    token = Token.objects.filter(asset_id=asset_id).values_list("network_id", "pk").first()
    if token is not None:
        return token
    network_id = Network.objects.filter(native_asset_id=asset_id).values_list("pk", flat=True).first()
    return None if network_id is None else (network_id, None)


def _candidates(asset_id: UUID, *, least: int, room: int) -> list[tuple[UUID, int]]:
    if room <= 0:
        return []
    with connection.cursor() as cursor:
        cursor.execute(
            _CANDIDATES,
            {
                "asset": asset_id,
                "least": least,
                "now": clock.now(),
                "rest": REST_SECONDS,
                "cap": REST_CAP_SECONDS,
                "limit": room,
            },
        )
        return [(row[0], int(row[1])) for row in cursor.fetchall()]


def _open(network_id: UUID, asset_id: UUID, token_id: UUID | None, *, least: int, room: int) -> int:
    return _write(network_id, asset_id, token_id, _candidates(asset_id, least=least, room=room))


def _open_units(network_id: UUID, asset_id: UUID, token_id: UUID | None, *, wanted: int, room: int) -> int:
    chosen: list[tuple[UUID, int]] = []
    for address_id, units in _candidates(asset_id, least=1, room=room):
        if sum(one for _, one in chosen) >= wanted:
            break
        chosen.append((address_id, units))
    _write(network_id, asset_id, token_id, chosen)
    return sum(units for _, units in chosen)


def _write(network_id: UUID, asset_id: UUID, token_id: UUID | None, chosen: list[tuple[UUID, int]]) -> int:
    now = clock.now()
    Sweep.objects.bulk_create(
        [
            Sweep(
                id=uuid7(now),
                network_id=network_id,
                asset_id=asset_id,
                token_id=token_id,
                address_id=address_id,
                units=units,
                run_after=now,
            )
            for address_id, units in chosen
        ],
        # Somebody else opened it meanwhile: one per address and asset is open, by constraint.
        ignore_conflicts=True,
    )
    return len(chosen)
