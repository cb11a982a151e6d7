"""What the wallet that swaps and pays out may still promise: nothing is sent that is not there."""

from uuid import UUID

from django.db import connection

from apps.chain import selectors
from apps.chain.models import Network, Token, Wallet
from apps.ledger.domain import AccountKind
from apps.ledger.models import Account


def units_free(*, network_id: UUID, wallet_id: UUID, asset_id: UUID) -> int:
    """Units booked at a wallet, less those that transactions under way will take; three queries.

    Inside a transaction the wallet's row is locked, so that of two callers who send on what they read the second
    sees what the first promised. Lock it before slots, plans and ledger accounts. May be negative.
    """
    wallets = Wallet.objects.filter(pk=wallet_id)
    if connection.in_atomic_block:
        wallets = wallets.select_for_update(no_key=True)
    address = wallets.values_list("address", flat=True).get()
    booked = (
        Account.objects.filter(kind=AccountKind.CUSTODY, asset_id=asset_id, ref=address)
        .values_list("balance_units", flat=True)
        .first()
    )
    token = Token.objects.filter(network_id=network_id, asset_id=asset_id).values_list("address", flat=True)
    if token or Network.objects.filter(pk=network_id, native_asset_id=asset_id).exists():
        promised = selectors.units_promised(network_id=network_id, wallet_id=wallet_id)
        return -int(booked or 0) - promised.get(token[0] if token else "", 0)
    return 0
