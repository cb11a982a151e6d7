"""What withdrawals do for others: the API, operators, and those who set the platform up."""

from uuid import UUID

from django.db import transaction

from apps.chain import selectors as chain_selectors
from apps.chain import services as chain
from apps.chain.models import SignerRule
from apps.chain.signer import ANYBODY
from apps.core.errors import DomainError
from apps.withdrawals.approving import withdrawal_approve, withdrawal_reject
from apps.withdrawals.destinations import destination_add, destination_remove
from apps.withdrawals.requesting import (
    withdrawal_cancel,
    withdrawal_confirm,
    withdrawal_quote,
    withdrawal_request,
)
from apps.withdrawals.sending import HOT_WALLET_ROLE, TRANSFER


def payouts_allow(*, asset_id: UUID) -> SignerRule:
    """Let the signer pay an asset out to anybody from the hot wallet, within the wallet's caps.

    One line of the allow-list: the token's `transfer`, whoever receives, or plain transfers of native coin. The caps
    (`chain.wallet_cap_set`) are what bounds it, and are the operator's to set. Idempotent. Raises `DomainError` for
    an asset that lives on no network.
    """
    place = chain_selectors.asset_places(asset_ids=[asset_id]).get(asset_id)
    if place is None:
        raise DomainError("asset_without_network", "The asset lives on no network.", pointer="/asset")
    with transaction.atomic():
        if place.token is None:
            return chain.signer_rule_allow(
                network_id=place.network.pk, to=ANYBODY, wallet_role=HOT_WALLET_ROLE
            )
        return chain.signer_rule_allow(
            network_id=place.network.pk,
            to=place.token.address,
            signature=TRANSFER,
            amount_path="1",
            wallet_role=HOT_WALLET_ROLE,
        )


__all__ = [
    "destination_add",
    "destination_remove",
    "payouts_allow",
    "withdrawal_approve",
    "withdrawal_cancel",
    "withdrawal_confirm",
    "withdrawal_quote",
    "withdrawal_reject",
    "withdrawal_request",
]
