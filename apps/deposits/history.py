"""What came to an address before it was opened: found by itself, and credited to nobody by itself.

Nobody is told of an address before it is opened. It has a history all the same when its extended key was in use
elsewhere, or when a restored backup has set the sequence of places back. What came then is in blocks that were read
without knowing the address, so each new address is looked up on every network, once, and the blocks of one that holds
more than we know of are read again. Whose money that is, no block says: two operators do.
"""

import logging
from collections import defaultdict
from collections.abc import Collection
from uuid import UUID

from django.db.models import QuerySet

from apps.chain.models import Network, OutboundTransaction, Token
from apps.chain.services import BalanceAsk, balances_read, first_block_holding, nonce_read
from apps.core import clock, doorbell
from apps.core.errors import Terminal
from apps.core.failpoints import reach
from apps.core.work import Claim
from apps.deposits.domain import GONE
from apps.deposits.models import Deposit, DepositAddress, Rescan, Scan

logger = logging.getLogger(__name__)

RESCAN_BELL = "deposits.rescan"
# Between two looks at an address about which no node says anything yet.
_UNKNOWN_SECONDS = 5.0


def history_ask(opened: DepositAddress) -> None:
    """Have a new address looked up on each network that is watched. Call in the transaction that opens it.

    `to_block` is what was final then: heights above it may be built anew, with what the person sends.
    """
    watched = Network.objects.filter(final_block__isnull=False)
    Rescan.objects.bulk_create(
        Rescan(
            network=network,
            address=opened,
            state="asked",
            from_block=0,
            next_block=0,
            to_block=network.final_block or 0,
            reason="Did anything come before it was opened?",
        )
        for network in watched
    )
    doorbell.ring(RESCAN_BELL)


def history_look(claim: Claim[Rescan], rescan: Rescan) -> None:
    """Let the request go when nothing came before; else have the blocks read, from the first that brought something.

    Raises `Terminal` when somebody else has sent from the address: what came to it need not be there any more.
    """
    address = rescan.address
    scan = Scan.objects.filter(network_id=rescan.network_id, next_block__gt=rescan.to_block).first()
    # One range after the other: the blocks that one has read may be all that the next one asks for.
    busy = Rescan.objects.filter(
        network_id=rescan.network_id, state="open", address__isnull=False, buried_at__isnull=True
    )
    found = None if address is None or scan is None or busy.exists() else _surplus(rescan, address, scan)
    if found is None or address is None:
        with claim.locked():
            claim.wait(claim.ids, seconds=_UNKNOWN_SECONDS)
        return
    firsts = [
        first_block_holding(
            network_id=rescan.network_id, token=token, address=address.address, last=rescan.to_block
        )
        for token in found
    ]
    first = min((number for number in firsts if number is not None), default=None)
    with claim.locked() as rows:
        if not rows:
            return
        reach("deposits.history.before_commit")
        if first is None and not _known_before(rescan).exists():
            rows[0].delete()
            return
        if first is None:
            # Another range had it. The row stays: it says of which arrivals they were nobody's.
            rescan.state, rescan.done_at = "done", clock.now()
        else:
            rescan.state, rescan.from_block, rescan.next_block = "open", first, first
        rescan.reason = f"{address} had something before it was opened"
        rescan.save(update_fields=["state", "from_block", "next_block", "done_at", "reason"])
        claim.wait(claim.ids, seconds=0)
    logger.error(
        "an address had something before it was opened",
        extra={"address": address.address, "network": rescan.network.name, "from": first},
    )


def _surplus(rescan: Rescan, address: DepositAddress, scan: Scan) -> list[str] | None:
    """The tokens ("" is the native coin) of which more lies there than we saw come; None while that is unknown."""
    at = address.address
    tokens = [
        "",
        *Token.objects.filter(network_id=rescan.network_id, enabled=True).values_list("address", flat=True),
    ]
    balances = balances_read(
        network_id=rescan.network_id, asks=[BalanceAsk(token, at, scan.block_hash) for token in tokens]
    )
    nonce = nonce_read(network_id=rescan.network_id, address=at, block_hash=scan.block_hash)
    if nonce is None or None in balances:
        return None
    ours = OutboundTransaction.objects.filter(
        network_id=rescan.network_id, wallet__address=at, nonce__isnull=False
    )
    if nonce > ours.count():
        raise Terminal(
            f"somebody else has sent from {at}: see whose it is, and what came before it was opened"
        )
    known: dict[str, int] = defaultdict(int)
    seen = Deposit.objects.filter(
        network_id=rescan.network_id, address=address, block_number__lt=scan.next_block
    )
    for token, units in seen.exclude(state__in=GONE).values_list("contract", "amount_units"):
        known[token] += units
    return [
        token
        for token, balance in zip(tokens, balances, strict=True)
        if isinstance(balance, int) and balance > known[token]
    ]


def _known_before(rescan: Rescan) -> QuerySet[Deposit]:
    return Deposit.objects.filter(
        network_id=rescan.network_id, address_id=rescan.address_id, block_number__lte=rescan.to_block
    )


def blocks_before(*, network_id: UUID, addresses: Collection[UUID]) -> dict[UUID, int]:
    """Of addresses with a history: the last block whose arrivals came before the address was anybody's."""
    rows = Rescan.objects.filter(network_id=network_id, address_id__in=addresses)
    return dict(rows.values_list("address_id", "to_block"))
