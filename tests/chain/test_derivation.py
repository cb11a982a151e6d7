"""Deposit addresses from an extended public key, and their keys from the private one."""

import hashlib
import io
from typing import Any

import pytest
from bip32 import BIP32
from django.core.management import call_command

from apps.chain import derivation, services
from apps.chain.errors import DerivationError, SignerRefused
from apps.chain.models import Wallet
from apps.chain.signer import address_of, movements
from apps.core.errors import Conflict, DomainError
from tests.chain.conftest import Chain

# Known everywhere: the development mnemonic and its first accounts (Hardhat, Foundry).
MNEMONIC = "test test test test test test test test test test test junk"
FIRST = [
    "0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266",
    "0x70997970c51812dc3a010c7d01b50e0d17dc79c8",
    "0x3c44cdddb6a900fa2b585dd299e03d12fa4293bc",
]


def _account() -> BIP32:
    seed = hashlib.pbkdf2_hmac("sha512", MNEMONIC.encode(), b"mnemonic", 2048)
    return BIP32.from_seed(seed)


def test_the_public_key_alone_gives_the_addresses_that_the_whole_world_knows() -> None:
    xpub = _account().get_xpub_from_path("m/44h/60h/0h")

    assert [derivation.address_at(xpub=xpub, index=index) for index in range(3)] == FIRST


def test_the_private_key_belongs_to_the_address_of_its_index() -> None:
    xprv = _account().get_xpriv_from_path("m/44h/60h/0h")

    assert [address_of(derivation.key_at(xprv=xprv, index=index)) for index in range(3)] == FIRST


@pytest.mark.parametrize("index", [-1, 1 << 31])
def test_an_index_out_of_range_is_refused(index: int) -> None:
    xpub = _account().get_xpub_from_path("m/44h/60h/0h")

    with pytest.raises(DerivationError):
        derivation.address_at(xpub=xpub, index=index)


def test_a_bad_key_is_refused_without_being_repeated() -> None:
    with pytest.raises(DerivationError) as public:
        derivation.address_at(xpub="xpub-rubbish", index=0)
    with pytest.raises(DerivationError) as private:
        derivation.key_at(xprv="xprv-rubbish", index=0)

    for raised in (public, private):
        assert "rubbish" not in repr(raised.value)
        assert raised.value.__context__ is None or "rubbish" not in repr(raised.value.__context__)


def test_the_command_makes_a_pair_that_fits() -> None:
    said = io.StringIO()
    call_command("chain", "make-deposit-key", stdout=said)

    lines = dict(line.split("=", 1) for line in said.getvalue().splitlines() if "=" in line)
    key = derivation.key_at(xprv=lines["SIGNER_DEPOSIT_XPRV"], index=7)
    assert address_of(key) == derivation.address_at(xpub=lines["DEPOSIT_XPUB"], index=7)


@pytest.fixture
def deposit(chain: Chain, settings: Any) -> Wallet:
    """The wallet of address 5, with money, and the line of the allow-list that its sweeps need."""
    wallet = services.deposit_wallet_open(
        address=derivation.address_at(xpub=settings.DEPOSIT_XPUB, index=5), index=5
    )
    chain.node.balance_set(wallet.address, wei=10**18)
    services.signer_rule_allow(network_id=chain.network.pk, to=chain.wallet.address, wallet_role="deposit")
    return wallet


def test_a_deposit_wallet_sends_to_our_wallet_without_caps(chain: Chain, deposit: Wallet) -> None:
    before = chain.balance(chain.wallet.address)

    row = chain.sent(wallet_id=deposit.pk, to=chain.wallet.address, value_units=9 * 10**17)
    chain.node.mine()

    assert row.state == "sent"
    assert chain.balance(chain.wallet.address) == before + 9 * 10**17


def test_a_deposit_wallet_never_sends_to_a_stranger_whatever_the_allow_list_says(
    chain: Chain, deposit: Wallet
) -> None:
    services.signer_rule_allow(network_id=chain.network.pk, to=chain.recipient, wallet_role="deposit")

    row = chain.request(wallet_id=deposit.pk, to=chain.recipient, value_units=1)
    chain.sign()

    assert (chain.read(row).state, chain.read(row).reason) == (
        "failed",
        "a deposit wallet sends to our own wallets only",
    )


def test_a_row_that_only_claims_to_be_our_wallet_is_a_stranger(chain: Chain, deposit: Wallet) -> None:
    # given: whoever can write to the database, without SIGNER_KEYS
    Wallet.objects.create(address=chain.recipient, role="swap", key_ciphertext=b"\x01\x01kmade up")
    services.signer_rule_allow(network_id=chain.network.pk, to=chain.recipient, wallet_role="deposit")

    row = chain.request(wallet_id=deposit.pk, to=chain.recipient, value_units=1)
    chain.sign()

    assert chain.read(row).state == "failed"


def test_a_rule_for_every_role_is_not_one_for_deposit_wallets(chain: Chain, deposit: Wallet) -> None:
    row = chain.request(wallet_id=deposit.pk, to=chain.recipient, value_units=1)
    chain.sign()

    assert "not on the allow-list" in chain.read(row).reason


def test_without_the_private_key_nothing_is_signed(chain: Chain, deposit: Wallet, settings: Any) -> None:
    settings.SIGNER_DEPOSIT_XPRV = ""

    row = chain.request(wallet_id=deposit.pk, to=chain.wallet.address, value_units=1)
    chain.sign()

    assert "cannot be derived" in chain.read(row).reason


def test_opening_the_same_deposit_wallet_again_returns_it(db: None) -> None:
    address = "0x" + "a" * 40
    first = services.deposit_wallet_open(address=address, index=1)

    assert services.deposit_wallet_open(address=address, index=1) == first
    with pytest.raises(Conflict):
        services.deposit_wallet_open(address=address, index=2)
    with pytest.raises(DomainError):
        services.wallet_create(role="deposit")


def test_plain_transfers_to_anybody_need_a_rule_for_anybody(chain: Chain) -> None:
    stranger = "0x" + "b" * 40
    refused = chain.request(to=stranger)
    chain.sign()
    services.signer_rule_allow(network_id=chain.network.pk, to="0x" + "0" * 40, wallet_role="swap")
    allowed = chain.request(to=stranger)
    chain.sign()

    assert chain.read(refused).state == "failed"
    assert chain.read(allowed).state == "signed"
    # The wildcard is for plain transfers: call data still needs its contract named.
    allowed.data = "0xa9059cbb" + "00" * 64
    with pytest.raises(SignerRefused):
        movements(transaction=allowed, wallet=chain.wallet, network=chain.network)
