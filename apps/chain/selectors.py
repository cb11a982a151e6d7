"""Reads of the chain room's rows."""

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db.models import Prefetch, QuerySet, Sum

from apps.chain import abi
from apps.chain.domain import FINAL, OUTSTANDING, AttemptKind, Move, TransactionState
from apps.chain.models import (
    Network,
    OutboundTransaction,
    Recheck,
    RecheckState,
    RpcEndpoint,
    SignerRule,
    Token,
    TransactionAttempt,
    Wallet,
)
from apps.core.errors import NotFound, Retryable


@dataclass(frozen=True, slots=True)
class AssetPlace:
    """Where an asset lives: its network, and its token unless it is the native coin."""

    network: Network
    token: Token | None


# Addresses of ours that have no row here: whoever owns them says how to recognise some of a set.
_own_addresses: dict[str, Callable[[Collection[str]], set[str]]] = {}


def own_addresses_register(name: str, among: Callable[[Collection[str]], set[str]]) -> None:
    """Let `among` say which of the (lower-case) addresses it is given are ours; called by an AppConfig."""
    _own_addresses[name] = among


def addresses_ours(*, addresses: Collection[str]) -> set[str]:
    """Those of `addresses` (lower case) whose keys are ours: wallets, and what was registered."""
    found = set(Wallet.objects.filter(address__in=addresses).values_list("address", flat=True))
    for among in _own_addresses.values():
        found |= among(addresses)
    return found


def contracts_known(*, addresses: Collection[str]) -> set[str]:
    """Those of `addresses` that are tokens of ours, or contracts that a signer rule names, on any network."""
    found = set(Token.objects.filter(address__in=addresses).values_list("address", flat=True))
    found |= set(SignerRule.objects.filter(to__in=addresses).values_list("to", flat=True))
    found |= set(SignerRule.objects.filter(recipient__in=addresses).values_list("recipient", flat=True))
    return found


def asset_places(*, asset_ids: Collection[UUID]) -> dict[UUID, AssetPlace]:
    """Where each asset lives; assets that live on no network are left out. Two queries."""
    tokens = Token.objects.select_related("network").filter(asset_id__in=asset_ids)
    places = {token.asset_id: AssetPlace(token.network, token) for token in tokens}
    natives = Network.objects.filter(native_asset_id__in=asset_ids)
    return places | {network.native_asset_id: AssetPlace(network, None) for network in natives}


def attempt_hashes(*, transaction_ids: Sequence[UUID]) -> dict[UUID, str]:
    """The hash of each transaction's newest attempt; those without one are left out. One query."""
    rows = TransactionAttempt.objects.filter(transaction_id__in=transaction_ids).order_by("nonce", "number")
    return dict(rows.values_list("transaction_id", "hash"))


def transaction_get(*, transaction_id: UUID) -> OutboundTransaction:
    """A transaction with its wallet and the attempt that was mined; raises `NotFound`."""
    row = OutboundTransaction.objects.select_related("wallet", "attempt").filter(pk=transaction_id).first()
    if row is None:
        raise NotFound
    return row


def transactions_get(*, transaction_ids: Sequence[UUID]) -> dict[UUID, OutboundTransaction]:
    """Several at once, by id; unknown ids are left out."""
    found = OutboundTransaction.objects.select_related("wallet", "attempt").filter(pk__in=transaction_ids)
    return {row.pk: row for row in found}


def transactions_final(
    *, after: tuple[datetime, UUID] | None = None, limit: int = 500
) -> list[OutboundTransaction]:
    """Final transactions that were mined (they cost gas), in order of (finalized_at, id), after a cursor."""
    rows = (
        OutboundTransaction.objects.select_related("wallet", "attempt", "network")
        .filter(state__in=FINAL, gas_used__isnull=False)
        .order_by("finalized_at", "id")
    )
    if after is not None:
        rows = rows.filter(finalized_at__gte=after[0]).exclude(finalized_at=after[0], id__lte=after[1])
    return list(rows[:limit])


def rechecks_open_count(*, network_id: UUID) -> int:
    """How many final transactions are looked for after a fork. One query."""
    return Recheck.objects.filter(network_id=network_id, state=RecheckState.OPEN).count()


def transaction_moves(row: OutboundTransaction) -> list[Move]:
    """What a mined transaction moved, whoever sent and received it; nothing while it is not, or when it reverted.

    Read from Transfer logs and the value sent; without gas, which is `row.gas_cost_units`. Native coin that a
    contract sends on leaves no log and is not seen here: routes through native coin are not used.
    """
    if row.gas_used is None or not row.succeeded:
        return []
    moves = []
    own = row.wallet.address
    cancelled = row.attempt is not None and row.attempt.kind == AttemptKind.CANCEL
    if row.value_units and not cancelled and row.to != own:
        moves.append(Move(None, own, row.to, row.value_units))
    for log in row.logs:
        topics = log["topics"]
        if len(topics) != 3 or topics[0] != abi.topic(abi.TRANSFER_SIGNATURE):
            continue
        units = int(abi.decode(["uint256"], log["data"])[0])
        moves.append(Move(log["address"], abi.topic_address(topics[1]), abi.topic_address(topics[2]), units))
    return moves


def transaction_effects(row: OutboundTransaction) -> list[tuple[str | None, int]]:
    """What a mined transaction moved for its wallet: (token address, or None for native; delta in base units).

    Only net changes that are not zero; native first, then tokens by address. See `transaction_moves`.
    """
    deltas: dict[str | None, int] = defaultdict(int)
    own = row.wallet.address
    for move in transaction_moves(row):
        deltas[move.token] += (move.receiver == own) * move.units - (move.sender == own) * move.units
    return sorted(
        ((token, units) for token, units in deltas.items() if units), key=lambda pair: pair[0] or ""
    )


def units_promised(*, network_id: UUID, wallet_id: UUID) -> dict[str, int]:
    """Token address (`""`: native coin) to the units that transactions under way may still take from a wallet.

    Under way is whatever is neither booked nor final without effect. Amounts are read from the call data by the
    signer's rules; approvals promise nothing.
    """
    rules = defaultdict(list)
    for rule in SignerRule.objects.filter(network_id=network_id, counts_daily=True).exclude(amount_path=""):
        rules[rule.to, rule.selector].append(rule)
    promised: dict[str, int] = defaultdict(int)
    rows = OutboundTransaction.objects.filter(
        network_id=network_id, wallet_id=wallet_id, booked_at__isnull=True
    ).exclude(state__in=[TransactionState.REVERTED, TransactionState.CANCELLED, TransactionState.FAILED])
    for to, data, value_units in rows.values_list("to", "data", "value_units"):
        promised[""] += value_units
        for rule in rules.get((to, data[:10]), ()):
            try:
                arguments = abi.arguments(rule.signature, data)
                units = abi.pick(arguments, rule.amount_path)
                token = abi.pick(arguments, rule.token_path) if rule.token_path else to
            except (ValueError, IndexError, TypeError):
                continue
            promised["0x" + token[:20].hex() if isinstance(token, bytes) else str(token)] += int(units)
            break
    return dict(promised)


def attempt_newest(row: OutboundTransaction) -> TransactionAttempt:
    """The attempt that stands for a transaction now; raises `NotFound` before its first signature."""
    if row.nonce is not None:
        made = TransactionAttempt.objects.filter(transaction=row, nonce=row.nonce).order_by("-number").first()
        if made is not None:
            return made
    raise NotFound("The transaction has no attempt.")


def networks_list() -> QuerySet[Network]:
    """Networks with their native asset and enabled tokens, by name: what the API shows."""
    tokens = Token.objects.filter(enabled=True).select_related("asset").order_by("asset__code")
    return (
        Network.objects.select_related("native_asset")
        .prefetch_related(Prefetch("tokens", queryset=tokens))
        .order_by("name")
    )


def endpoints_list() -> QuerySet[RpcEndpoint]:
    """Enabled endpoints with their networks, in the order in which they are asked."""
    return (
        RpcEndpoint.objects.filter(enabled=True)
        .select_related("network")
        .order_by("network__name", "priority", "id")
    )


def transactions_open_count(*, wallet_id: UUID) -> int:
    """How many transactions of a wallet are not final."""
    return (
        OutboundTransaction.objects.filter(wallet_id=wallet_id)
        .exclude(state__in=[str(state) for state in TransactionState if state in FINAL])
        .count()
    )


def gas_outstanding(*, wallet_id: UUID, network_id: UUID) -> int:
    """Units of gas that a wallet's transactions may still burn: what was asked for and is not mined. One query."""
    rows = OutboundTransaction.objects.filter(
        wallet_id=wallet_id, network_id=network_id, state__in=sorted(OUTSTANDING)
    )
    return int(rows.aggregate(units=Sum("gas_limit"))["units"] or 0)


def wallet_get(*, role: str) -> Wallet:
    """The wallet that acts in a role: the oldest enabled one. Raises `Retryable` while none is set up."""
    row = Wallet.objects.filter(role=role, enabled=True).order_by("created_at", "id").first()
    if row is None:
        raise Retryable(f"no enabled wallet has the role {role}")
    return row


def transaction_hash(row: OutboundTransaction) -> str:
    """The hash under which the transaction was mined; empty while it is not."""
    return row.attempt.hash if row.attempt is not None else ""
