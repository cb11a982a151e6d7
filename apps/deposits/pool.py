"""All deposit addresses together, as the treasury sees them: one custody account, many addresses."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django.db import connection

from apps.chain.models import Network
from apps.deposits.domain import UNCREDITED
from apps.deposits.holdings import holdings_move
from apps.deposits.models import Deposit, Holding, Scan
from apps.deposits.sweep_planning import sweeps_demand
from apps.treasury import pools
from apps.treasury.domain import DEPOSITS_REF
from apps.treasury.pools import PoolBooks

# Addresses to read per asset: with booked units, with arrivals that are not credited, or being collected from,
# since a top-up or a transfer may be in a block and not in the books; or collected from after the block.
_ADDRESSES = """
SELECT asset_id, array_agg(DISTINCT address.address) FROM (
    SELECT holding.asset_id, holding.address_id FROM deposits_holding AS holding
    WHERE holding.units > 0 AND holding.asset_id = ANY(%(assets)s)
    UNION SELECT deposit.asset_id, deposit.address_id FROM deposits_deposit AS deposit
    WHERE deposit.network_id = %(network)s AND deposit.state = ANY(%(states)s) AND deposit.asset_id = ANY(%(assets)s)
    UNION SELECT asset.id, sweep.address_id FROM deposits_sweep AS sweep
    CROSS JOIN LATERAL (VALUES (sweep.asset_id), (%(native)s)) AS asset (id)
    WHERE sweep.network_id = %(network)s AND sweep.state IN ('planned', 'funding', 'sweeping')
    UNION SELECT asset.id, sweep.address_id FROM chain_outboundtransaction AS sent
    JOIN deposits_sweep AS sweep ON sent.id IN (sweep.transaction_id, sweep.funding_id)
    CROSS JOIN LATERAL (VALUES (sweep.asset_id), (%(native)s)) AS asset (id)
    WHERE sent.network_id = %(network)s AND sent.block_number > %(block)s
) AS wanted JOIN deposits_depositaddress AS address ON address.id = wanted.address_id
GROUP BY asset_id
"""

# What a block up to then shows at our addresses and nobody's balance has (measured where it was, else as announced),
# less what somebody's balance has of later blocks.
_UNBOOKED = """
SELECT asset_id, sum(units) FROM (
    SELECT asset_id, coalesce(measured_units, amount_units) AS units FROM deposits_deposit
    WHERE network_id = %(network)s AND state = ANY(%(states)s) AND asset_id = ANY(%(assets)s)
    AND block_number <= %(block)s
    UNION ALL SELECT asset_id, -credited_units FROM deposits_deposit
    WHERE network_id = %(network)s AND state = 'credited' AND asset_id = ANY(%(assets)s) AND block_number > %(block)s
) AS unbooked GROUP BY asset_id
"""

# Tokens that keep a part on the way and announce the whole: while one is on its way nobody knows what will arrive.
_UNPROVED = """
SELECT rule.asset_id FROM deposits_depositrule AS rule WHERE rule.credit_measured AND rule.asset_id = ANY(%(assets)s)
AND (EXISTS (SELECT 1 FROM deposits_sweep AS sweep WHERE sweep.asset_id = rule.asset_id AND sweep.state = 'sweeping')
    OR EXISTS (SELECT 1 FROM deposits_deposit AS deposit WHERE deposit.asset_id = rule.asset_id
        AND deposit.network_id = %(network)s AND deposit.state = ANY(%(states)s) AND deposit.measured_units IS NULL))
"""


class DepositsPool:
    """See `apps.treasury.pools.Pool`."""

    ref = DEPOSITS_REF
    role = "deposit"

    def recorded_to(self, *, network: Network) -> int | None:
        """Up to where the monitor has read; None while a network has neither a monitor nor anything deposited."""
        next_block = Scan.objects.filter(network=network).values_list("next_block", flat=True).first()
        if next_block is not None:
            return next_block - 1
        deposited = (
            Deposit.objects.filter(network=network).exists()
            or Holding.objects.filter(units__gt=0, asset_id__in=_assets(network)).exists()
        )
        return -1 if deposited else None

    def books(self, *, network: Network, block_number: int) -> PoolBooks:
        """Three statements. An address takes about 100 bytes of memory per asset that it holds."""
        parameters: dict[str, Any] = {
            "network": network.pk,
            "native": network.native_asset_id,
            "assets": _assets(network),
            "states": sorted(UNCREDITED),
            "block": block_number,
        }
        with connection.cursor() as cursor:
            cursor.execute(_ADDRESSES, parameters)
            addresses = {row[0]: row[1] for row in cursor.fetchall()}
            cursor.execute(_UNBOOKED, parameters)
            unbooked = {row[0]: int(row[1]) for row in cursor.fetchall()}
            cursor.execute(_UNPROVED, parameters)
            reason = "a token that takes a fee on transfer is on its way"
            unproved = {row[0]: reason for row in cursor.fetchall()}
        return PoolBooks(addresses, unbooked, unproved)

    def gas_pay(self, *, asset_id: UUID, units: Mapping[str, int]) -> set[str]:
        """Lower the native holdings; what an address cannot pay by the books stays unbooked and is told.

        Negative units, of gas that a fork made cheaper, raise them.
        """
        rows = list(
            Holding.objects.select_for_update(of=("self",))
            .filter(asset_id=asset_id, address__address__in=list(units))
            .order_by("address_id")
            .values_list("address__address", "address_id", "units")
        )
        paying = {
            (address_id, asset_id): -units[address]
            for address, address_id, held in rows
            if units[address] and units[address] <= held
        }
        holdings_move(paying)
        able = {address for address, _, held in rows if units[address] <= held}
        return {address for address, burned in units.items() if burned and address not in able}

    def demand(self, *, asset_id: UUID, units: int) -> int:
        return sweeps_demand(asset_id=asset_id, units=units)


def _assets(network: Network) -> list[UUID]:
    tokens = network.tokens.values_list("asset_id", flat=True)
    return [network.native_asset_id, *tokens]


pools.register(DepositsPool())
