"""What the signer must allow so that deposits can be collected. Run again after a token or a wallet was added."""

from uuid import UUID

from apps.chain import services as chain
from apps.chain.models import Token
from apps.chain.selectors import wallet_get
from apps.deposits.sweeping import TRANSFER

# In a signer rule for plain transfers: to whomever. The signer itself holds gas wallets to wallets of ours.
_ANYBODY = "0x" + "0" * 40


def collecting_allow(*, network_id: UUID) -> None:
    """Deposit wallets may transfer each enabled token, and native coin, to the collecting wallet and nowhere else.

    The gas wallet may send native coin to our own wallets, which the signer checks; its caps (`wallet_cap_set`)
    are the operator's to set. Raises `Retryable` while no collecting wallet is there.
    """
    collector = wallet_get(role="swap")
    for address in Token.objects.filter(network_id=network_id, enabled=True).values_list(
        "address", flat=True
    ):
        chain.signer_rule_allow(
            network_id=network_id,
            to=address,
            signature=TRANSFER,
            amount_path="1",
            recipient_path="0",
            recipient=collector.address,
            wallet_role="deposit",
        )
    chain.signer_rule_allow(network_id=network_id, to=collector.address, wallet_role="deposit")
    chain.signer_rule_allow(network_id=network_id, to=_ANYBODY, wallet_role="gas")
