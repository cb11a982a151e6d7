"""A wallet outside the platform: what people pay from, and what they withdraw to."""

import secrets

from apps.sandbox.market import Market
from apps.sandbox.runtime.contracts import Contracts

# Ether for a wallet's transactions, in wei: more than they cost.
_GAS = 10**17


class OutsideWallet:
    """A fresh address of which the platform knows nothing; the development node signs for it.

    What it owns came on chain, from the market maker. `ETH` stands for the native coin. Amounts are base units.
    """

    def __init__(self, market: Market) -> None:
        self.address = "0x" + secrets.token_hex(20)
        self._market = market
        self._chain = Contracts(market.chain.rpc, sender=self.address)

    def fill(self, *, symbol: str, units: int) -> None:
        """Have the market maker send `units`, and coin for gas."""
        self._market.send_ether(to=self.address, wei=_GAS + (units if symbol == "ETH" else 0))
        if symbol != "ETH":
            self._market.mint(symbol=symbol, to=self.address, units=units)

    def send(self, *, symbol: str, to: str, units: int) -> str:
        """A plain transfer on chain, mined; its transaction's hash. Raises `SandboxError` when it reverts."""
        self._chain.rpc.call("anvil_impersonateAccount", self.address)
        if symbol == "ETH":
            receipt = self._chain.send_value(to, wei=units)
        else:
            token = self._market.deployment.token(symbol).address
            receipt = self._chain.write(token, "transfer(address,uint256)", to, units)
        return str(receipt["transactionHash"])

    def balance(self, *, symbol: str) -> int:
        """What it owns at the head."""
        if symbol == "ETH":
            return int(self._chain.rpc.call("eth_getBalance", self.address, "latest"), 16)
        return self._market.balance(symbol=symbol, of=self.address)
