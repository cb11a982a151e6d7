"""What the scanner saw becomes rows. Called inside the scanner's transaction, together with its cursor's move."""

import logging
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.db import connection, transaction

from apps.core import bulk, clock, doorbell
from apps.core.failpoints import reach
from apps.core.ids import uuid7_many
from apps.deposits import notices
from apps.deposits.domain import Sighting
from apps.deposits.models import Deposit
from apps.deposits.reorgs import deposits_take_back
from apps.events.services import events_publish

logger = logging.getLogger(__name__)

CHECK_BELL = "deposits.check"

# Not a deposit: what comes from a wallet of ours or in a transaction of ours, to a stranger, of nothing, and what
# stands in a block that the headers contradict.
_SHOWN = """
WITH shown AS (
    SELECT shown.*, address.id AS address_id, address.user_id FROM unnest(
        %(ids)s::uuid[], %(addresses)s::text[], %(kinds)s::text[], %(contracts)s::text[], %(hashes)s::text[],
        %(positions)s::int[], %(senders)s::text[], %(amounts)s::numeric[], %(numbers)s::bigint[],
        %(blocks)s::text[], %(times)s::timestamptz[]
    ) AS shown (id, address, kind, contract, hash, position, sender, amount, number, block, time)
    JOIN deposits_depositaddress AS address ON address.address = shown.address
    WHERE shown.amount > 0
        AND NOT EXISTS (SELECT 1 FROM chain_wallet AS ours WHERE ours.address = shown.sender)
        AND NOT EXISTS (SELECT 1 FROM chain_transactionattempt AS ours WHERE ours.hash = shown.hash)
        AND NOT EXISTS (
            SELECT 1 FROM chain_block AS block WHERE block.network_id = %(network)s
                AND ((block.hash = shown.block AND block.orphaned_at IS NOT NULL)
                    OR (block.number = shown.number AND block.orphaned_at IS NULL AND block.hash <> shown.block))
        )
)
"""

# Known under another block although the headers say this one: the old one is gone, whoever noticed first.
_MOVED = (
    _SHOWN
    + """
SELECT known.id FROM shown JOIN deposits_deposit AS known ON known.network_id = %(network)s
    AND known.transaction_hash = shown.hash AND known.kind = shown.kind AND known.position = shown.position
JOIN chain_block AS block ON block.network_id = %(network)s AND block.hash = shown.block
WHERE (known.block_hash <> shown.block OR known.gone_at IS NOT NULL)
    AND known.state NOT IN ('orphaned', 'reversed', 'frozen')
"""
)

# Credited, and collected since: it cannot be taken back and seen anew. On the chain again with the same amount for the
# same address, it stays what it is, in its new block.
_RETURNED = (
    _SHOWN
    + """
SELECT DISTINCT ON (known.id) known.id, shown.number, shown.block, shown.time
FROM shown JOIN deposits_deposit AS known ON known.network_id = %(network)s
    AND known.transaction_hash = shown.hash AND known.kind = shown.kind AND known.position = shown.position
JOIN chain_block AS block ON block.network_id = %(network)s AND block.hash = shown.block
LEFT JOIN deposits_holding AS held ON held.address_id = known.address_id AND held.asset_id = known.asset_id
WHERE known.state = 'credited' AND known.address_id = shown.address_id AND known.contract = shown.contract
    AND known.amount_units = shown.amount AND (known.gone_at IS NOT NULL
        OR (known.block_hash <> shown.block AND coalesce(held.units, 0) < known.credited_units))
ORDER BY known.id
"""
)

# One statement for new ones, for those that come back after a reorg, and for those that were refused until now.
# A debt stays with the person who has it: should the same place of a transaction pay another address, look.
_RECORD = (
    _SHOWN
    + """
INSERT INTO deposits_deposit AS known (
    id, network_id, address_id, user_id, asset_id, contract, kind, transaction_hash, position, sender, amount_units,
    state, reason, block_number, block_hash, block_time, sighting, run_after, created_at,
    hand_requested_by, hand_note, hand_approved_by)
SELECT DISTINCT ON (shown.hash, shown.kind, shown.position)
    shown.id, network.id, shown.address_id, shown.user_id,
    CASE WHEN shown.kind = 'token' THEN token.asset_id ELSE network.native_asset_id END,
    shown.contract, shown.kind, shown.hash, shown.position, shown.sender, shown.amount,
    'seen', '', shown.number, shown.block, shown.time, 1, %(now)s, %(now)s, '', '', ''
FROM shown JOIN chain_network AS network ON network.id = %(network)s
LEFT JOIN chain_token AS token ON token.network_id = network.id AND token.address = shown.contract
ON CONFLICT (network_id, transaction_hash, kind, position) DO UPDATE SET
    address_id = EXCLUDED.address_id, user_id = EXCLUDED.user_id, asset_id = EXCLUDED.asset_id,
    contract = EXCLUDED.contract, sender = EXCLUDED.sender, amount_units = EXCLUDED.amount_units,
    measured_units = NULL, checked_block = NULL, state = 'seen', reason = '',
    block_number = EXCLUDED.block_number, block_hash = EXCLUDED.block_hash, block_time = EXCLUDED.block_time,
    sighting = known.sighting + CASE WHEN known.state = 'unsupported' THEN 0 ELSE 1 END,
    hand_requested_by = '', hand_requested_at = NULL, hand_units = NULL, hand_note = '', hand_approved_by = '',
    run_after = %(now)s, attempts = 0, lease_token = NULL, leased_until = NULL, buried_at = NULL,
    last_error = '', updated_at = now()
WHERE (known.state IN ('orphaned', 'reversed', 'frozen')
        AND (known.user_id = EXCLUDED.user_id OR known.owed_units + known.written_off_units = 0))
    OR (known.state = 'unsupported' AND known.reason IN ('token_not_allowed', 'deposits_disabled')
        AND EXISTS (SELECT 1 FROM deposits_depositrule AS rule WHERE rule.asset_id = EXCLUDED.asset_id AND rule.enabled)
        AND (known.contract = '' OR EXISTS (
            SELECT 1 FROM chain_token AS token WHERE token.asset_id = EXCLUDED.asset_id AND token.enabled)))
RETURNING known.id, known.xmax = 0
"""
)


def sightings_record(network_id: UUID, sightings: Sequence[Sighting]) -> int:
    """Write down what blocks moved to our addresses; returns how many deposits had not been known.

    Idempotent: the same sighting again changes nothing. A deposit that a reorg took away becomes `seen` again, in
    its new block and with `sighting` one higher; one that waited for its token or asset to be allowed is looked at
    again. Sightings in blocks that `chain_block` contradicts are left out: they are seen again, or never were. A
    fixed number of statements. Amounts are base units.
    """
    if not sightings:
        return 0
    columns: dict[str, Any] = {
        "network": network_id,
        "now": clock.now(),
        "ids": uuid7_many(len(sightings)),
        "addresses": [one.address for one in sightings],
        "kinds": [str(one.kind) for one in sightings],
        "contracts": [one.contract for one in sightings],
        "hashes": [one.transaction_hash for one in sightings],
        "positions": [one.position for one in sightings],
        "senders": [one.sender for one in sightings],
        "amounts": [one.amount_units for one in sightings],
        "numbers": [one.block_number for one in sightings],
        "blocks": [one.block_hash for one in sightings],
        "times": [one.block_time for one in sightings],
    }
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(_MOVED, columns)
            moved = {row[0] for row in cursor.fetchall()}
        if moved:
            deposits_take_back(ids=moved - _return(columns))
        with connection.cursor() as cursor:
            cursor.execute(_RECORD, columns)
            seen = cursor.fetchall()
        if not seen:
            return 0
        rows = Deposit.objects.filter(pk__any_of=[row[0] for row in seen]).order_by("block_number", "pk")
        events_publish(notices.drafts("seen", rows, notices.Names.read()))
        doorbell.ring(CHECK_BELL)
        reach("deposits.record.before_commit")
    return sum(row[1] for row in seen)


def _return(columns: dict[str, Any]) -> set[UUID]:
    """Put what was collected into the block that shows it now; nothing is booked, since nothing was taken back."""
    with connection.cursor() as cursor:
        cursor.execute(_RETURNED, columns)
        found = {row[0]: row[1:] for row in cursor.fetchall()}
    if not found:
        return set()
    # Whoever takes one back at the same time holds its row: then it is no longer credited, and seen anew.
    bulk.update(
        "deposits_deposit",
        list(found),
        {
            "block_number": ("int8", [place[0] for place in found.values()]),
            "block_hash": ("text", [place[1] for place in found.values()]),
            "block_time": ("timestamptz", [place[2] for place in found.values()]),
        },
        constants={"gone_at": None},
        also="updated_at = now()",
        where="t.state = 'credited'",
    )
    for pk, (number, *_) in found.items():
        logger.warning("collected deposit found again", extra={"deposit": str(pk), "block": number})
    return set(found)
