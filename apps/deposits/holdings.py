"""What the books say lies at each address: moved in the transaction of the journal that it follows."""

from collections.abc import Mapping
from uuid import UUID

from django.db import connection

from apps.core.ids import uuid7_many

# In key order, so that two writers of the same holdings wait in one direction.
_MOVE = """
INSERT INTO deposits_holding AS held (id, address_id, asset_id, units)
SELECT * FROM unnest(%s::uuid[], %s::uuid[], %s::uuid[], %s::numeric[])
ON CONFLICT (asset_id, address_id) DO UPDATE SET units = held.units + EXCLUDED.units
"""


def holdings_move(changes: Mapping[tuple[UUID, UUID], int]) -> None:
    """Add signed base units to the holdings of (address id, asset id). One statement.

    Raises `IntegrityError` for more than there is: below zero the books would be wrong.
    """
    keys = sorted(key for key, units in changes.items() if units > 0)
    less = sorted(key for key, units in changes.items() if units < 0)
    with connection.cursor() as cursor:
        if keys:
            units = [changes[key] for key in keys]
            cursor.execute(
                _MOVE, [uuid7_many(len(keys)), [key[0] for key in keys], [key[1] for key in keys], units]
            )
        if less:
            # The CHECK is tried on the row to be inserted before the conflict is found: no upsert below zero.
            cursor.execute(
                "UPDATE deposits_holding AS held SET units = held.units + less.units"
                " FROM unnest(%s::uuid[], %s::uuid[], %s::numeric[]) AS less (address_id, asset_id, units)"
                " WHERE held.address_id = less.address_id AND held.asset_id = less.asset_id",
                [[key[0] for key in less], [key[1] for key in less], [changes[key] for key in less]],
            )
            if cursor.rowcount != len(less):
                raise RuntimeError("a holding that is to become less does not exist")
