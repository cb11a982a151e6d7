"""From approved to sending: what can leave now becomes outbound transactions, many in a few statements.

Asked of the chain first, without a lock: what the hot wallet has, whether each transfer would succeed, and its gas.
Then in one transaction, with the kill switches looked at again: the intent (`withdrawal:<id>`) and the new state. The
chain's engine takes it from there, and asks `guards.signing_gate` a last time before it signs.
"""

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from django.db.models import Sum

from apps.chain import abi
from apps.chain import selectors as chain_selectors
from apps.chain import services as chain
from apps.chain.domain import OUTSTANDING
from apps.chain.models import Network, Wallet
from apps.chain.selectors import AssetPlace
from apps.core.errors import Retryable
from apps.core.failpoints import reach
from apps.core.work import Claim
from apps.treasury.pools import units_demand
from apps.treasury.spending import units_free
from apps.withdrawals import guards
from apps.withdrawals.domain import PURPOSE, Reason, Wait, WithdrawalState, transaction_reference
from apps.withdrawals.models import Withdrawal, WithdrawalRule
from apps.withdrawals.moves import SETTLE, withdrawals_move, withdrawals_wait

S = WithdrawalState
HOT_WALLET_ROLE = "swap"
TRANSFER = "transfer(address,uint256)"
# A node's estimate is what the transfer burns now; a slot that is emptied until then makes it dearer.
_GAS_MARGIN_NUMERATOR, _GAS_MARGIN_DENOMINATOR = 5, 4
_WAIT_SECONDS = {Wait.AWAITING_COLLECTION: 3.0}
_WAIT_SECONDS_ELSE = 15.0


@dataclass
class _Outlook:
    """What the look at the chain says of each row (by id): to wait, to fail, or to send with so much gas."""

    wallet: Wallet
    places: dict[UUID, AssetPlace]
    waits: dict[UUID, Wait] = field(default_factory=dict)
    failures: dict[UUID, tuple[Reason, str]] = field(default_factory=dict)
    gas_limits: dict[UUID, int] = field(default_factory=dict)


def withdrawals_send(claim: Claim[Withdrawal]) -> None:
    """The step of `withdrawals.send`, for a whole chunk."""
    rows = Withdrawal.objects.select_related("network").filter(pk__any_of=claim.ids, state=S.APPROVED)
    by_network: dict[Network, list[Withdrawal]] = defaultdict(list)
    for row in rows.order_by("created_at", "pk"):
        by_network[row.network].append(row)
    failure: Retryable | None = None
    for network, members in by_network.items():
        try:
            outlook = _look(network, members)
        except Retryable as error:
            # One network's silence holds back no other's; its rows are what the failure is recorded on.
            failure = error
            continue
        reach("withdrawals.send.before_lock")
        _commit(claim, [row.pk for row in members], outlook)
        reach("withdrawals.send.after_commit")
    if not by_network:
        with claim.locked() as held:
            claim.step([row.pk for row in held])
    if failure is not None:
        raise failure


def _look(network: Network, rows: Sequence[Withdrawal]) -> _Outlook:
    asset_ids = {row.asset_id for row in rows}
    rules = {rule.asset_id: rule for rule in WithdrawalRule.objects.filter(asset_id__in=asset_ids)}
    outlook = _Outlook(
        wallet=chain_selectors.wallet_get(role=HOT_WALLET_ROLE),
        places=chain_selectors.asset_places(asset_ids=asset_ids),
    )
    outlook.waits = guards.waits(rows)
    if network.halted_at is not None:
        outlook.waits |= dict.fromkeys((row.pk for row in rows), Wait.NETWORK_HALTED)
    # Terms that are gone hold the money back until somebody sets new ones.
    outlook.waits |= {row.pk: Wait.PAUSED for row in rows if row.asset_id not in rules}
    able = [row for row in rows if row.pk not in outlook.waits]
    if not able:
        return outlook
    reach("withdrawals.send.before_rpc")
    purse = _Purse.read(network, outlook, asset_ids)
    fitting = []
    for row in able:
        if purse.take(row):
            fitting.append(row)
        else:
            outlook.waits[row.pk] = Wait.AWAITING_COLLECTION
    _simulate(network, outlook, fitting, rules)
    max_fee_units = chain.max_fee_read(network_id=network.pk) if outlook.gas_limits else 0
    for row in fitting:
        gas_limit = outlook.gas_limits.get(row.pk)
        if gas_limit is not None and not purse.take_gas(gas_limit * max_fee_units):
            del outlook.gas_limits[row.pk]
            outlook.waits[row.pk] = Wait.AWAITING_GAS
    reach("withdrawals.send.after_rpc")
    return outlook


@dataclass
class _Purse:
    """What of each asset may still be promised, as far as can be seen without a lock: on chain, and in the books.

    Units that the books do not know of yet (a sweep that is not booked) could be sent but not be booked. The books'
    side is asked again, under the wallet's lock, when the intents are written.
    """

    units: dict[UUID, int]
    native_asset_id: UUID
    native_units: int

    @classmethod
    def read(cls, network: Network, outlook: _Outlook, asset_ids: set[UUID]) -> "_Purse":
        """What is under way is read before the balances: mined in between, it counts twice, never not at all."""
        wallet, native_id = outlook.wallet, network.native_asset_id
        under_way = Withdrawal.objects.filter(
            network=network, state__in=[S.SENDING, S.SENT], transaction__state__in=sorted(OUTSTANDING)
        )
        unmined = dict(
            under_way.values("asset_id").annotate(units=Sum("sent_units")).values_list("asset_id", "units")
        )
        gas_outstanding = chain_selectors.gas_outstanding(wallet_id=wallet.pk, network_id=network.pk)
        free = _free(network.pk, wallet, asset_ids)
        balances = _balances_read(network, wallet, outlook.places)
        native = balances[native_id] - int(unmined.get(native_id, 0))
        if gas_outstanding:
            native -= gas_outstanding * chain.max_fee_read(network_id=network.pk)
        return cls(
            units={
                asset_id: min(balances[asset_id] - int(unmined.get(asset_id, 0)), free[asset_id])
                for asset_id in asset_ids
            },
            native_asset_id=native_id,
            native_units=native,
        )

    def take(self, row: Withdrawal) -> bool:
        if self.units[row.asset_id] < row.sent_units:
            return False
        self.units[row.asset_id] -= row.sent_units
        if row.asset_id == self.native_asset_id:
            self.native_units -= row.sent_units
        return True

    def take_gas(self, wei: int) -> bool:
        if self.native_units < wei:
            return False
        self.native_units -= wei
        return True


def _free(network_id: UUID, wallet: Wallet, asset_ids: Collection[UUID]) -> dict[UUID, int]:
    """What the books let the hot wallet promise; inside a transaction, under the wallet's lock."""
    return {
        asset_id: units_free(network_id=network_id, wallet_id=wallet.pk, asset_id=asset_id)
        for asset_id in sorted(asset_ids)
    }


def _balances_read(network: Network, wallet: Wallet, places: dict[UUID, AssetPlace]) -> dict[UUID, int]:
    """Units at the hot wallet at the head, native coin always included."""
    tokens = [(asset_id, place.token) for asset_id, place in places.items() if place.token is not None]
    data = abi.call_data("balanceOf(address)", [wallet.address])
    answers = chain.calls_read(
        network_id=network.pk, calls=[chain.Call(to=token.address, data=data) for _, token in tokens]
    )
    found: dict[UUID, int] = {}
    for (asset_id, token), answer in zip(tokens, answers, strict=True):
        if not isinstance(answer, bytes) or len(answer) != 32:
            raise Retryable(f"token {token.address} does not tell its balance", after_seconds=15)
        found[asset_id] = int.from_bytes(answer)
    found[network.native_asset_id] = chain.native_balance_read(network_id=network.pk, address=wallet.address)
    return found


def _simulate(
    network: Network, outlook: _Outlook, rows: Sequence[Withdrawal], rules: dict[UUID, WithdrawalRule]
) -> None:
    """Try each transfer at the head and estimate its gas: what would revert or answers `false` fails here."""
    calls = [_call(row, outlook.places[row.asset_id], outlook.wallet) for row in rows]
    answers = chain.calls_read(network_id=network.pk, calls=calls)
    for row, answer in zip(rows, answers, strict=True):
        if isinstance(answer, chain.CallReverted):
            outlook.failures[row.pk] = (Reason.TRANSFER_REFUSED, answer.reason)
        # Nothing returned is fine (USDT); anything but `true` is a refusal.
        elif outlook.places[row.asset_id].token is not None and answer and int.from_bytes(answer) != 1:
            outlook.failures[row.pk] = (Reason.TRANSFER_REFUSED, "the token answers that it did not transfer")
    tried = [(row, call) for row, call in zip(rows, calls, strict=True) if row.pk not in outlook.failures]
    estimates = chain.gas_estimates_read(network_id=network.pk, calls=[call for _, call in tried])
    for (row, _), estimate in zip(tried, estimates, strict=True):
        if isinstance(estimate, chain.CallReverted):
            outlook.failures[row.pk] = (Reason.TRANSFER_REFUSED, estimate.reason)
            continue
        cap = min(rules[row.asset_id].gas_limit_cap, network.gas_limit_cap)
        if estimate > cap:
            outlook.failures[row.pk] = (Reason.TOO_MUCH_GAS, f"{estimate} units of gas, at most {cap}")
            continue
        outlook.gas_limits[row.pk] = min(cap, estimate * _GAS_MARGIN_NUMERATOR // _GAS_MARGIN_DENOMINATOR)


def _call(row: Withdrawal, place: AssetPlace, wallet: Wallet) -> chain.Call:
    if place.token is None:
        return chain.Call(to=row.destination, data="0x", value_units=row.sent_units, sender=wallet.address)
    data = abi.call_data(TRANSFER, [row.destination, row.sent_units])
    return chain.Call(to=place.token.address, data=data, sender=wallet.address)


def _commit(claim: Claim[Withdrawal], ids: list[UUID], outlook: _Outlook) -> None:
    """Act on the outlook, as far as it still holds: rows that moved on are left alone.

    Locks: withdrawals, the wallet that spends, ledger accounts (decision 6).
    """
    with claim.locked(ids) as held:
        rows = [row for row in held if row.state == S.APPROVED]
        # The kill switches and freezes once more, now that the rows are ours.
        waits = {**outlook.waits, **guards.waits(rows)}
        able = [row for row in rows if row.pk in outlook.gas_limits and row.pk not in waits]
        free = _free(able[0].network_id, outlook.wallet, {row.asset_id for row in able}) if able else {}
        going, failing = [], []
        by_wait: dict[Wait, list[Withdrawal]] = defaultdict(list)
        for row in sorted(rows, key=lambda row: (row.created_at, row.pk)):
            if row.pk in waits:
                by_wait[waits[row.pk]].append(row)
            elif row.pk in outlook.failures:
                failing.append(row)
            elif free[row.asset_id] < row.sent_units:
                # Somebody else spent from the wallet since we looked.
                by_wait[Wait.AWAITING_COLLECTION].append(row)
            else:
                free[row.asset_id] -= row.sent_units
                going.append(row)
        _send(going, outlook)
        for reason in {outlook.failures[row.pk][0] for row in failing}:
            of_reason = [row for row in failing if outlook.failures[row.pk][0] == reason]
            details = {row.pk: outlook.failures[row.pk][1] for row in of_reason}
            withdrawals_move(of_reason, S.FAILED, reason=reason, details=details)
        for wait, waiting in by_wait.items():
            withdrawals_wait(waiting, wait)
            claim.wait([row.pk for row in waiting], seconds=_WAIT_SECONDS.get(wait, _WAIT_SECONDS_ELSE))
        _collect(by_wait[Wait.AWAITING_COLLECTION], outlook.wallet)
        claim.step([row.pk for row in held if row.state != S.APPROVED])
        reach("withdrawals.send.before_commit")


def _collect(rows: Sequence[Withdrawal], wallet: Wallet) -> None:
    """Have what is missing in the hot wallet brought from deposit addresses, in the caller's transaction."""
    missing: dict[UUID, int] = defaultdict(int)
    for row in rows:
        missing[row.asset_id] += row.sent_units
    free = _free(rows[0].network_id, wallet, missing) if rows else {}
    for asset_id, units in sorted(missing.items()):
        units_demand(asset_id=asset_id, units=max(1, units - max(0, free[asset_id])))


def _send(rows: Sequence[Withdrawal], outlook: _Outlook) -> None:
    """The intents and the new state, in the caller's transaction."""
    if not rows:
        return
    calls = {row.pk: _call(row, outlook.places[row.asset_id], outlook.wallet) for row in rows}
    made = chain.transactions_request(
        intents=[
            chain.Intent(
                network_id=row.network_id,
                wallet_id=outlook.wallet.pk,
                to=calls[row.pk].to,
                data=calls[row.pk].data,
                value_units=calls[row.pk].value_units,
                gas_limit=outlook.gas_limits[row.pk],
                purpose=PURPOSE,
                reference=transaction_reference(row.pk),
                notify=SETTLE,
            )
            for row in rows
        ]
    )
    transactions = [made[transaction_reference(row.pk)] for row in rows]
    reach("withdrawals.send.requested")
    for row, transaction in zip(rows, transactions, strict=True):
        row.transaction_id = transaction.pk
    withdrawals_move(
        rows,
        S.SENDING,
        columns={"transaction_id": ("uuid", [transaction.pk for transaction in transactions])},
    )
