"""Networks, their endpoints and tokens: what operators set up."""

import logging
from uuid import UUID

from django.db import transaction as database
from django.db.models import F

from apps.chain import abi, failover
from apps.chain.domain import Call, CallReverted, TransactionState
from apps.chain.models import Block, Network, NetworkWatch, OutboundTransaction, RpcEndpoint, Token
from apps.chain.services.reads import calls_read
from apps.chain.services.rechecks import rechecks_open
from apps.chain.transitions import Moves, watch_poke
from apps.chain.watching import foreign_forget, transaction_unmine
from apps.chain.watching import network_halt as _halt
from apps.core import clock
from apps.core.errors import Conflict, DomainError
from apps.core.ids import uuid7
from apps.core.models import Asset
from apps.events.services import EventDraft, events_publish

logger = logging.getLogger(__name__)

GWEI = 10**9


def network_create(
    *,
    chain_id: int,
    name: str,
    native_asset_id: UUID,
    confirmations: int = 3,
    block_time_seconds: int = 12,
    max_fee_cap_units: int = 500 * GWEI,
    priority_fee_cap_units: int = 5 * GWEI,
    gas_limit_cap: int = 5_000_000,
    stuck_after_blocks: int = 5,
    explorer_url: str = "",
) -> Network:
    """Add a network and its watch. Fee caps are in wei per unit of gas. Asking again returns the existing one."""
    with database.atomic():
        network, created = Network.objects.get_or_create(
            chain_id=chain_id,
            defaults={
                "name": name,
                "native_asset_id": native_asset_id,
                "confirmations": confirmations,
                "block_time_seconds": block_time_seconds,
                "max_fee_cap_units": max_fee_cap_units,
                "priority_fee_cap_units": priority_fee_cap_units,
                "gas_limit_cap": gas_limit_cap,
                "stuck_after_blocks": stuck_after_blocks,
                "explorer_url": explorer_url,
            },
        )
        if created:
            NetworkWatch.objects.create(network=network)
        watch_poke(network.pk)
    return network


def endpoint_add(*, network_id: UUID, name: str, url: str, priority: int = 10) -> RpcEndpoint:
    """Add an endpoint, or give the one of that name another URL; its health starts afresh."""
    if not url.startswith(("http://", "https://")):
        raise DomainError("invalid_url", "An endpoint's URL starts with http:// or https://.", pointer="/url")
    with database.atomic():
        known = RpcEndpoint.objects.filter(network_id=network_id, name=name).first()
        row = known or RpcEndpoint(id=uuid7(), network_id=network_id, name=name)
        row.url_ciphertext = failover.url_encrypt(url, endpoint_id=row.id)
        row.priority, row.failures, row.open_until, row.chain_checked_at = priority, 0, None, None
        row.last_block, row.last_error = None, ""
        row.save(force_insert=known is None)
        watch_poke(network_id)
    return row


def token_register(*, network_id: UUID, asset_code: str, name: str, address: str) -> Token:
    """Put a token on the allow-list: reads its decimals on chain, once, and makes its asset.

    Raises `DomainError` when the contract does not answer `decimals()` or the asset exists with others.
    """
    address = address.lower()
    known = Token.objects.filter(network_id=network_id, address=address).first()
    if known is not None:
        return known
    answer = calls_read(network_id=network_id, calls=[Call(address, abi.call_data("decimals()", []))])[0]
    if isinstance(answer, CallReverted) or len(answer) != 32:
        raise DomainError("not_a_token", "The contract does not answer decimals().", pointer="/address")
    decimals = int.from_bytes(answer)
    if decimals > 36:
        raise DomainError("decimals_out_of_range", "More than 36 decimals are refused.", pointer="/address")
    with database.atomic():
        asset, _ = Asset.objects.get_or_create(code=asset_code, defaults={"name": name, "decimals": decimals})
        if asset.decimals != decimals:
            raise Conflict(
                "decimals_differ", f"{asset_code} has {asset.decimals} decimals, the contract {decimals}."
            )
        return Token.objects.create(network_id=network_id, asset=asset, address=address, decimals=decimals)


def network_halt(*, network_id: UUID, reason: str) -> None:
    """Stop signing, sending and concluding on a network (an operator's decision)."""
    with database.atomic():
        _halt(network=Network.objects.get(pk=network_id), reason=reason)


def network_resume(*, network_id: UUID, actor: str) -> list[OutboundTransaction]:
    """Go on after a halt with the chain as the endpoints show it now; the held headers are let go.

    Open mined transactions go through their receipts again. Final ones of the blocks that were let go (returned) are
    looked for: each has a `Recheck`, written in the same transaction. Asking again does nothing.
    """
    with database.atomic():
        network = Network.objects.select_for_update(no_key=True).get(pk=network_id)
        if network.halted_at is None:
            return []
        held = Block.objects.filter(network=network, orphaned_at__isnull=True)
        lowest = held.order_by("number").values_list("number", flat=True).first()
        doubtful = rechecks_open(network_id=network.pk, from_block=lowest or 0)
        kept = network.keep_from_block
        # Forgotten, not orphaned: what nobody has shown again yet says nothing about what stands in it.
        held.delete()
        moves = Moves()
        rows = OutboundTransaction.objects.filter(
            network=network, state__in=[TransactionState.MINED, TransactionState.SUPERSEDED]
        )
        for row in rows.select_for_update().order_by("pk"):
            if row.state == TransactionState.MINED:
                transaction_unmine(row, moves)
            elif (row.foreign_block or 0) >= (lowest or 0):
                foreign_forget(row, moves)
        moves.publish()
        Network.objects.filter(pk=network.pk).update(
            halted_at=None,
            halted_reason="",
            watched_block=None,
            watched_hash="",
            final_block=None,
            # A reader of blocks compares all that was held with what is shown now. NULL (nobody reads) stays NULL.
            keep_from_block=kept if kept is None or lowest is None else min(kept, lowest),
        )
        NetworkWatch.objects.filter(network=network).update(
            buried_at=None, attempts=0, run_after=clock.now(), pokes=F("pokes") + 1
        )
        facts = {"actor": actor, "halted_for": network.halted_reason, "looked_for": len(doubtful)}
        events_publish([EventDraft("network.resumed", "network", network.pk, facts)])
        watch_poke(network.pk)
    logger.warning("network resumed", extra={"network": network.name, **facts})
    return doubtful
