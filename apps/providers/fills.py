"""What a swap really moved, read from the token transfers of its receipt.

Not from the router's or the pool's events: those say what the venue believes. The `Transfer` events of both
tokens say what arrived, and read the same for every venue. Source: EIP-20.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from apps.chain import abi
from apps.providers.domain import Fill
from apps.providers.errors import FillMissing

_TRANSFER = abi.topic("Transfer(address,address,uint256)")


def transfers_net(*, token: str, holder: str, logs: Sequence[Mapping[str, Any]]) -> int:
    """What `holder` gained of `token` over the logs, in base units; negative when it lost."""
    net = 0
    for log in logs:
        topics = [str(topic).lower() for topic in log["topics"]]
        if str(log["address"]).lower() != token or len(topics) != 3 or topics[0] != _TRANSFER:
            continue
        amount = int(str(log["data"]), 16)
        if topics[2][-40:] == holder[2:]:
            net += amount
        if topics[1][-40:] == holder[2:]:
            net -= amount
    return net


def fill_from_logs(
    *, sold_token: str, bought_token: str, holder: str, logs: Sequence[Mapping[str, Any]]
) -> Fill:
    """Spent and received of `holder`, which pays and receives; raises `FillMissing` when a side is absent."""
    spent = -transfers_net(token=sold_token, holder=holder, logs=logs)
    received = transfers_net(token=bought_token, holder=holder, logs=logs)
    if spent <= 0 or received <= 0:
        raise FillMissing(f"the receipt shows {spent} spent and {received} received")
    return Fill(amount_in_units=spent, amount_out_units=received)
