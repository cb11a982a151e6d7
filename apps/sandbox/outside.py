"""A wallet outside the platform: what people pay from, and what they withdraw to."""

import secrets
from dataclasses import dataclass

from apps.accounts.selectors import user_by_email
from apps.chain.abi import checksum
from apps.deposits.services import deposit_address_open
from apps.sandbox.faucet import market_of, wish_parse
from apps.sandbox.market import Market
from apps.sandbox.runtime.contracts import Contracts
from apps.sandbox.runtime.status import SandboxStatus

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


@dataclass(frozen=True)
class Paid:
    """What was sent on chain, from where to where; addresses with their checksums."""

    sender: str
    receiver: str
    transaction_hash: str


def person_deposit(*, status: SandboxStatus, email: str, asset_code: str, amount: str) -> Paid:
    """Send `amount` (decimal) from a fresh outside wallet to the person's deposit address, which is opened if need be.

    Credits nothing: the monitor has to see it. Each call is another deposit. Raises `NotFound`, `DomainError`
    (unknown asset, bad amount), `SandboxError` (no chain, the transfer reverted), `DepositsUnavailable`.
    """
    market = market_of(status)
    person = user_by_email(email=email)
    asset, units = wish_parse(market, asset_code=asset_code, amount=amount)
    address = str(deposit_address_open(user_id=person.pk).address)
    wallet = OutsideWallet(market)
    wallet.fill(symbol=asset.code, units=units)
    transaction_hash = wallet.send(symbol=asset.code, to=address, units=units)
    return Paid(checksum(wallet.address), checksum(address), transaction_hash)
