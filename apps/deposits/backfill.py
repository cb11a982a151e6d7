"""Deposits that waited for their token, or for deposits of their asset, to be allowed: looked at again when they are.

Every transfer to an address of ours is recorded when its block is read, whatever its token. So allowing a token needs
no block read again: what came before is there, and was refused for that reason alone.
"""

from django.db import connection

from apps.deposits.by_hand import deposits_recheck
from apps.deposits.domain import UnsupportedReason

_CHUNK = 1_000

# Allowed in the same sense as the check has it, whoever allowed it and however.
_ALLOWED = """
SELECT deposit.id FROM deposits_deposit AS deposit
JOIN chain_network AS network ON network.id = deposit.network_id
LEFT JOIN chain_token AS token ON deposit.kind = 'token' AND token.network_id = deposit.network_id
    AND token.address = deposit.contract AND token.enabled
JOIN deposits_depositrule AS rule ON rule.enabled
    AND rule.asset_id = CASE WHEN deposit.kind = 'token' THEN token.asset_id ELSE network.native_asset_id END
WHERE deposit.state = 'unsupported' AND deposit.reason = ANY(%s) AND deposit.hand_requested_by = ''
ORDER BY deposit.created_at, deposit.id LIMIT %s
"""


def deposits_backfill() -> int:
    """Look again at up to a thousand deposits that nothing keeps out any more; returns how many.

    Asked for every few seconds, so that it does not matter who allowed what, and whether they lived to say so.
    """
    reasons = [UnsupportedReason.TOKEN_NOT_ALLOWED.value, UnsupportedReason.DEPOSITS_DISABLED.value]
    with connection.cursor() as cursor:
        cursor.execute(_ALLOWED, [reasons, _CHUNK])
        ids = [row[0] for row in cursor.fetchall()]
    return deposits_recheck(deposit_ids=ids) if ids else 0
