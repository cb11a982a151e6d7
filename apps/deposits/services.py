"""What the deposits room does for others."""

from apps.deposits.addresses import deposit_address_open
from apps.deposits.by_hand import deposits_recheck, hand_approve, hand_request, hand_withdraw
from apps.deposits.crediting import deposits_ready
from apps.deposits.holdings import holdings_move
from apps.deposits.reorgs import deposits_orphan, reorgs_follow
from apps.deposits.sightings import sightings_record

__all__ = [
    "deposit_address_open",
    "deposits_orphan",
    "deposits_ready",
    "deposits_recheck",
    "hand_approve",
    "hand_request",
    "hand_withdraw",
    "holdings_move",
    "reorgs_follow",
    "sightings_record",
]
