"""What the signer refuses, and that a key is nowhere to be read."""

import io
import logging
import secrets
import traceback
from datetime import date

import pytest
from django.core.management import CommandError, call_command
from eth_account import Account
from eth_keys.backends.coincurve import CoinCurveECCBackend

from apps.chain import abi, services, signer
from apps.chain.domain import AttemptKind, Fees
from apps.chain.errors import NetworkHalted, SignerRefused
from apps.chain.models import Network, OutboundTransaction, Token, Wallet, WalletSpend
from apps.core import clock
from apps.core.errors import DomainError
from apps.core.models import Asset

pytestmark = pytest.mark.django_db

GWEI = 10**9
TOKEN, ROUTER, OTHER = ("0x" + digit * 40 for digit in "abc")
SWAP_V2 = "swapExactTokensForTokens(uint256,uint256,address[],address,uint256)"
SWAP_V3 = "exactInput((bytes,address,uint256,uint256,uint256))"
FEES = Fees(10 * GWEI, GWEI)


@pytest.fixture
def usdc() -> Asset:
    return Asset.objects.create(code="USDC", name="USD Coin", decimals=6)


@pytest.fixture
def network(usdc: Asset) -> Network:
    native = Asset.objects.create(code="ETH", name="Ether", decimals=18)
    network = services.network_create(
        chain_id=31_337, name="n", native_asset_id=native.pk, max_fee_cap_units=100 * GWEI
    )
    Token.objects.create(network=network, asset=usdc, address=TOKEN, decimals=6)
    return network


@pytest.fixture
def wallet(usdc: Asset) -> Wallet:
    wallet = services.wallet_create(role="swap")
    services.wallet_cap_set(
        wallet_id=wallet.pk, asset_id=usdc.pk, per_transaction_units=1_000, daily_units=1_500
    )
    return wallet


def intent(network: Network, wallet: Wallet, **changes: object) -> OutboundTransaction:
    content = {"to": TOKEN, "data": "0x", "value_units": 0, "gas_limit": 100_000, **changes}
    return OutboundTransaction(network=network, wallet=wallet, reference="r", purpose="test", **content)


def sign(network: Network, wallet: Wallet, **changes: object) -> signer.Signed:
    return signer.sign(
        transaction=intent(network, wallet, **changes),
        wallet=wallet,
        network=network,
        kind=AttemptKind.ORIGINAL,
        nonce=7,
        fees=FEES,
        max_fee_cap_units=network.max_fee_cap_units,
    )


def transfer(units: int, to: str = OTHER) -> str:
    return abi.call_data("transfer(address,uint256)", [to, units])


def swap(units: int, recipient: str, path: tuple[str, ...] = (TOKEN, OTHER)) -> str:
    return abi.call_data(SWAP_V2, [units, 1, list(path), recipient, 2**40])


def allow_transfer(network: Network) -> None:
    services.signer_rule_allow(
        network_id=network.pk, to=TOKEN, signature="transfer(address,uint256)", amount_path="1"
    )


def allow_swap(network: Network) -> None:
    services.signer_rule_allow(
        network_id=network.pk,
        to=ROUTER,
        signature=SWAP_V2,
        amount_path="0",
        token_path="2.0",
        recipient_path="3",
    )


def test_it_signs_an_eip_1559_transaction_that_recovers_to_the_wallet(
    network: Network, wallet: Wallet
) -> None:
    allow_transfer(network)
    signed = sign(network, wallet, data=transfer(1_000))
    assert signed.raw[0] == 2
    assert Account.recover_transaction(signed.raw).lower() == wallet.address
    assert signed.hash == "0x" + abi.keccak_bytes(signed.raw).hex()
    assert signed.raw.hex() not in repr(signed)
    assert isinstance(Account.from_key(secrets.token_bytes(32))._key_obj.backend, CoinCurveECCBackend)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"to": OTHER}, "not on the allow-list"),
        ({"data": "0x"}, "not on the allow-list"),
        ({"data": abi.call_data("approve(address,uint256)", [OTHER, 1])}, "not on the allow-list"),
        ({"data": "0xa9059c"}, "shorter than a selector"),
        ({"data": transfer(1_001)}, "cap per transaction"),
        ({"data": transfer(5) + "00"}, "does not decode"),
        ({"data": transfer(5)[:-2]}, "does not decode"),
        ({"data": transfer(5), "value_units": 1}, "no cap for this asset"),
        ({"data": transfer(5), "gas_limit": 10**9}, "gas limit"),
        ({"data": transfer(5), "gas_limit": 0}, "gas limit"),
    ],
)
def test_it_refuses_what_no_rule_allows(
    network: Network, wallet: Wallet, changes: dict[str, object], reason: str
) -> None:
    allow_transfer(network)
    with pytest.raises(SignerRefused, match=reason):
        sign(network, wallet, **changes)
    assert WalletSpend.objects.filter(units__gt=0).count() == 0


def test_the_daily_cap_counts_what_was_signed_and_starts_afresh_the_next_day(
    network: Network, wallet: Wallet, usdc: Asset
) -> None:
    allow_transfer(network)
    sign(network, wallet, data=transfer(1_000))
    sign(network, wallet, data=transfer(500))
    with pytest.raises(SignerRefused, match="cap per day"):
        sign(network, wallet, data=transfer(1))
    WalletSpend.objects.update(day=date(2020, 1, 1))
    sign(network, wallet, data=transfer(1_000))
    assert WalletSpend.objects.get(day=clock.now().date()).units == 1_000


def test_a_replacement_does_not_count_twice(network: Network, wallet: Wallet) -> None:
    allow_transfer(network)
    sign(network, wallet, data=transfer(1_000))
    signer.sign(
        transaction=intent(network, wallet, data=transfer(1_000)), wallet=wallet, network=network,
        kind=AttemptKind.REPLACEMENT, nonce=7, fees=FEES, max_fee_cap_units=100 * GWEI,
    )  # fmt: skip
    assert WalletSpend.objects.get().units == 1_000


def test_a_swap_must_pay_out_to_the_wallet_and_spend_a_known_token(network: Network, wallet: Wallet) -> None:
    allow_swap(network)
    assert sign(network, wallet, to=ROUTER, data=swap(900, wallet.address)).raw[0] == 2
    with pytest.raises(SignerRefused, match="recipient"):
        sign(network, wallet, to=ROUTER, data=swap(1, OTHER))
    with pytest.raises(SignerRefused, match="token"):
        sign(network, wallet, to=ROUTER, data=swap(1, wallet.address, (OTHER, TOKEN)))
    with pytest.raises(SignerRefused, match="cap per transaction"):
        sign(network, wallet, to=ROUTER, data=swap(1_001, wallet.address))


def test_a_v3_path_names_the_token_that_is_spent(network: Network, wallet: Wallet) -> None:
    services.signer_rule_allow(
        network_id=network.pk,
        to=ROUTER,
        signature=SWAP_V3,
        amount_path="0.3",
        token_path="0.0",
        recipient_path="0.1",
    )

    def data(token: str, units: int) -> str:
        path = bytes.fromhex(token[2:]) + (3000).to_bytes(3) + bytes.fromhex(OTHER[2:])
        return abi.call_data(SWAP_V3, [(path, wallet.address, 2**40, units, 1)])

    sign(network, wallet, to=ROUTER, data=data(TOKEN, 10))
    with pytest.raises(SignerRefused, match="token"):
        sign(network, wallet, to=ROUTER, data=data(OTHER, 10))


def test_an_approval_is_bound_to_its_spender_and_not_counted_for_the_day(
    network: Network, wallet: Wallet
) -> None:
    services.signer_rule_allow(
        network_id=network.pk, to=TOKEN, signature="approve(address,uint256)", amount_path="1", recipient_path="0",
        recipient=ROUTER, counts_daily=False,
    )  # fmt: skip
    approve = abi.call_data("approve(address,uint256)", [ROUTER, 1_000])
    sign(network, wallet, data=approve)
    assert WalletSpend.objects.count() == 0
    with pytest.raises(SignerRefused, match="recipient"):
        sign(network, wallet, data=abi.call_data("approve(address,uint256)", [OTHER, 1]))
    with pytest.raises(SignerRefused, match="cap per transaction"):
        sign(network, wallet, data=abi.call_data("approve(address,uint256)", [ROUTER, 2**256 - 1]))


def test_it_refuses_on_a_halted_network_for_a_disabled_wallet_and_over_the_fee_cap(
    network: Network, wallet: Wallet
) -> None:
    allow_transfer(network)
    network.max_fee_cap_units = FEES.max_fee_units - 1
    with pytest.raises(SignerRefused, match="fees"):
        sign(network, wallet, data=transfer(1))
    network.max_fee_cap_units = 100 * GWEI
    wallet.enabled = False
    with pytest.raises(SignerRefused, match="disabled"):
        sign(network, wallet, data=transfer(1))
    wallet.enabled = True
    network.halted_at = clock.now()
    with pytest.raises(NetworkHalted):
        sign(network, wallet, data=transfer(1))


def test_a_key_copied_to_another_wallet_does_not_sign(network: Network, wallet: Wallet) -> None:
    allow_transfer(network)
    other = services.wallet_create(role="swap")
    wallet.key_ciphertext = other.key_ciphertext
    with pytest.raises(SignerRefused, match="cannot be used here"):
        sign(network, wallet, data=transfer(1))


def refusal_with_locals(network: Network, wallet: Wallet, *, units: int) -> str:
    """The refusal's traceback with every local variable of our code, as an error reporter would keep it."""
    with pytest.raises(SignerRefused) as caught:
        sign(network, wallet, data=transfer(units))
    told = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    told.stack = traceback.StackSummary.from_list(
        [frame for frame in told.stack if "/apps/chain/" in frame.filename]
    )
    return "".join(told.format())


def test_the_key_is_in_no_error_log_repr_or_column(
    network: Network, wallet: Wallet, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    canary = secrets.token_bytes(32)
    shown: list[str] = []
    canaried = services.wallet_import(key=canary, role="swap", name="canary")
    allow_transfer(network)
    shown += [
        repr(canaried),
        str(canaried),
        str(vars(canaried)),
        refusal_with_locals(network, canaried, units=1),
    ]
    services.wallet_cap_set(
        wallet_id=canaried.pk, asset_id=Token.objects.get().asset_id, per_transaction_units=5, daily_units=5
    )
    canaried.address = OTHER
    shown.append(refusal_with_locals(network, canaried, units=0))
    assert "does not belong to the wallet" in shown[-1]
    assert "signer.py" in shown[-1]
    for bad in (b"\0" * 32, canary + b"x", canary[:31]):
        with pytest.raises(DomainError) as caught:
            services.wallet_import(key=bad, role="swap")
        shown += [str(caught.value), repr(caught.value)]
    everything = "\n".join([*shown, caplog.text])
    for form in (canary.hex(), str(canary), str(int.from_bytes(canary))):
        assert form not in everything
    stored = bytes(Wallet.objects.get(pk=canaried.pk).key_ciphertext or b"")
    assert canary not in stored


def test_the_command_reads_a_key_from_standard_input_only(monkeypatch: pytest.MonkeyPatch) -> None:
    key = secrets.token_bytes(32)
    monkeypatch.setattr("sys.stdin", io.StringIO("0x" + key.hex() + "\n"))
    out = io.StringIO()
    call_command("chain", "wallet", "import", "--role", "treasury", stdout=out)
    wallet = Wallet.objects.get()
    assert wallet.address == Account.from_key(key).address.lower()
    assert wallet.role == "treasury"
    assert key.hex() not in out.getvalue()
    monkeypatch.setattr("sys.stdin", io.StringIO("canary-not-hex\n"))
    with pytest.raises(CommandError) as caught:
        call_command("chain", "wallet", "import")
    assert "canary" not in str(caught.value)
