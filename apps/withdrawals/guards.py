"""Where money may go, and whether it may go now. Called again wherever time has passed since the last look."""

import re
from collections.abc import Collection, Sequence
from uuid import UUID

from apps.accounts.models import User
from apps.chain import abi
from apps.chain import selectors as chain_selectors
from apps.chain import services as chain
from apps.chain.models import OutboundTransaction
from apps.core import clock
from apps.core.errors import NotFound
from apps.core.models import Asset
from apps.providers import selectors as providers_selectors
from apps.treasury.models import Activity
from apps.treasury.pauses import paused_read
from apps.withdrawals.domain import Reason, Wait
from apps.withdrawals.errors import DestinationRefused, WithdrawalsClosed
from apps.withdrawals.models import Withdrawal, WithdrawalDestination

_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}", re.ASCII)
# The zero address and the precompiled contracts: what is sent there is nobody's.
_NOBODYS = 1 << 16
# What a liquidity pool answers, and what a token answers. Wallets that are contracts answer neither.
_PROBES = ("token0()", "decimals()", "totalSupply()")


def address_parse(text: str, *, pointer: str = "/destination") -> str:
    """An address in lower case. Raises `DestinationRefused` for another form or a wrong EIP-55 checksum.

    All lower case carries no checksum and is taken; all upper case would be a wrong one.
    """
    if not _ADDRESS.fullmatch(text):
        raise DestinationRefused("invalid_address", "An address is 0x and 40 hex digits.", pointer=pointer)
    if text != text.lower() and text != abi.checksum(text.lower()):
        raise DestinationRefused(
            "bad_checksum", "The address does not match its checksum (EIP-55).", pointer=pointer
        )
    return text.lower()


def address_check(address: str, *, pointer: str = "/destination") -> None:
    """Refuse what is nobody's, ours, or a contract that we know: raises `DestinationRefused`."""
    if int(address, 16) < _NOBODYS:
        raise DestinationRefused("burn_address", "What is sent there is lost.", pointer=pointer)
    if chain_selectors.addresses_ours(addresses=[address]):
        raise DestinationRefused(
            "own_address", "This is an address of the platform, not one of yours outside.", pointer=pointer
        )
    if chain_selectors.contracts_known(addresses=[address]) or providers_selectors.contracts_used(
        addresses=[address]
    ):
        raise DestinationRefused(
            "contract_address", "This is a contract: what is sent there is lost.", pointer=pointer
        )


def destination_check(*, user_id: UUID, address: str) -> None:
    """Refuse an address that is not on the person's list, or has not rested long enough."""
    row = WithdrawalDestination.objects.filter(
        user_id=user_id, address=address, removed_at__isnull=True
    ).first()
    if row is None:
        raise DestinationRefused("unknown_destination", "Add this address to your destinations first.")
    if row.usable_at > clock.now():
        raise DestinationRefused(
            "destination_waiting", f"This destination may be used from {row.usable_at:%Y-%m-%dT%H:%M:%SZ} on."
        )


def person_check(*, user_id: UUID) -> None:
    """Raises `NotFound`, or `WithdrawalsClosed` for a frozen account."""
    row = User.objects.filter(pk=user_id, is_active=True).values_list("frozen_at").first()
    if row is None:
        raise NotFound
    if row[0] is not None:
        raise WithdrawalsClosed("account_frozen", "The account is frozen: ask support.")


def activity_check(*, asset: Asset) -> None:
    """Raises `WithdrawalsClosed` while withdrawals of the asset, or all, are paused."""
    # The reason is an operator's note, not for everybody's eyes.
    if paused_read(activity=Activity.WITHDRAWING).reason_for(asset.pk):
        raise WithdrawalsClosed("withdrawals_paused", f"Withdrawals of {asset.code} are paused.")


def waits(rows: Sequence[Withdrawal]) -> dict[UUID, Wait]:
    """Why each of `rows` must not leave now: paused, or its person frozen. Two queries."""
    paused = paused_read(activity=Activity.WITHDRAWING)
    frozen = set(
        User.objects.filter(pk__any_of={row.user_id for row in rows}, frozen_at__isnull=False).values_list(
            "pk", flat=True
        )
    )
    found = {row.pk: Wait.ACCOUNT_FROZEN for row in rows if row.user_id in frozen}
    found |= {row.pk: Wait.PAUSED for row in rows if paused.reason_for(row.asset_id)}
    return found


def signing_gate(transaction: OutboundTransaction) -> str:
    """The signer's last question about a withdrawal (see `apps.chain.gates`): why it must wait, or nothing."""
    row = Withdrawal.objects.filter(transaction=transaction).first()
    if row is None:
        return "no withdrawal knows of this transaction"
    wait = waits([row]).get(row.pk)
    return wait.label if wait else ""


def contracts_probe(*, network_id: UUID, addresses: Collection[str]) -> dict[str, Reason]:
    """Which of `addresses` behave like a token or a liquidity pool, asked of the contracts themselves.

    Catches the tokens and pools that we do not know by name. Raises `RpcUnavailable`.
    """
    wanted = sorted(set(addresses))
    calls = [chain.Call(to=address, data=abi.call_data(probe, [])) for address in wanted for probe in _PROBES]
    answers = chain.calls_read(network_id=network_id, calls=calls)
    found: dict[str, Reason] = {}
    for position, address in enumerate(wanted):
        start = position * len(_PROBES)
        pool, decimals, supply = (
            isinstance(answer, bytes) and len(answer) == 32
            for answer in answers[start : start + len(_PROBES)]
        )
        if pool:
            found[address] = Reason.DESTINATION_IS_OURS
        elif decimals and supply:
            found[address] = Reason.DESTINATION_IS_TOKEN
    return found
