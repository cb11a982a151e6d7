"""A node that drops, delays, refuses, lies: nothing is doubled, nothing is concluded from a lie."""

import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from apps.chain import abi, failover, sending, services
from apps.chain.client import Endpoint, SendOutcome
from apps.chain.domain import Call, CallReverted
from apps.chain.errors import EndpointFailure, RpcUnavailable
from apps.chain.models import Block, Network, RpcEndpoint, Token
from apps.sandbox.market import Market
from apps.sandbox.runtime.deployment import Deployment
from tests.chain.conftest import Chain
from tests.chain.test_lifecycle import assert_invariants
from tests.support.rpc_proxy import RpcProxy

SEND = "eth_sendRawTransaction"


@contextmanager
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Answers are waited for as long as a second. Only while one is withheld: a busy machine's take longer."""
    with monkeypatch.context() as patch:
        patch.setattr(Endpoint.__init__, "__kwdefaults__", {"read_timeout_seconds": 1.0})
        failover._connections.__dict__.clear()
        yield
    failover._connections.__dict__.clear()


def confirm(chain: Chain) -> None:
    chain.node.mine(blocks=3)
    chain.watch(2)


@pytest.mark.parametrize("kind", ["drop_answer", "delay", "garbage"])
def test_an_answer_lost_after_the_node_took_it_is_in_doubt_not_failed(
    chain: Chain, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    row = chain.request()
    chain.sign()
    chain.proxy.fault(kind, method=SEND, times=1, seconds=3)
    with impatient(monkeypatch):
        chain.send()
    assert chain.read(row).state == "sent"
    confirm(chain)
    assert chain.read(row).state == "confirmed"
    assert len(chain.attempts(row)) == 1
    assert chain.balance(chain.recipient) == 1_000
    assert_invariants()


def test_a_request_lost_before_the_node_got_it_is_rebroadcast_with_the_same_bytes(chain: Chain) -> None:
    chain.proxy.fault("drop_request", method=SEND, times=1)
    row = chain.sent()
    assert row.state == "sent"
    assert chain.proxy.forwarded.count(SEND) == 0
    chain.node.mine()
    chain.watch()
    assert chain.proxy.forwarded.count(SEND) == 1
    confirm(chain)
    assert chain.read(row).state == "confirmed"
    assert len(chain.attempts(row)) == 1


def test_a_refused_connection_and_a_busy_node_leave_it_signed(chain: Chain) -> None:
    row = chain.request()
    chain.sign()
    chain.proxy.stop()
    chain.send()
    assert chain.read(row).state == "signed"
    chain.proxy.start()
    chain.proxy.fault("status", status=429, method=SEND, times=1)
    chain.send()
    assert chain.read(row).state == "signed"
    chain.send()
    assert chain.read(row).state == "sent"
    assert len(chain.attempts(row)) == 1


def test_a_repeated_broadcast_is_success_and_nonce_too_low_is_settled_by_receipts(chain: Chain) -> None:
    row = chain.request()
    chain.sign()
    raw = bytes(chain.attempts(row)[0].raw)
    assert sending.broadcast(network_id=chain.network.pk, raw=raw).outcome == SendOutcome.ACCEPTED
    assert sending.broadcast(network_id=chain.network.pk, raw=raw).outcome == SendOutcome.KNOWN
    chain.node.mine()
    assert sending.broadcast(network_id=chain.network.pk, raw=raw).outcome == SendOutcome.NONCE_TOO_LOW
    chain.send()
    assert chain.read(row).state == "sent"
    confirm(chain)
    assert chain.read(row).state == "confirmed"
    assert chain.balance(chain.recipient) == 1_000


def test_null_receipts_and_blocks_are_unknown_not_absent(chain: Chain) -> None:
    row = chain.sent()
    chain.node.mine(blocks=3)
    for method in ("eth_getTransactionReceipt", "eth_getTransactionByHash"):
        chain.proxy.fault("null", method=method)
    chain.watch(3)
    assert chain.read(row).state == "sent"
    assert [made.nonce for made in chain.attempts(row)] == [0]
    chain.proxy.clear()
    chain.proxy.fault("null", method="eth_getBlockByNumber")
    chain.watch(2)
    assert chain.read(row).state == "sent"
    chain.proxy.clear()
    chain.watch()
    assert chain.read(row).state == "confirmed"
    assert chain.balance(chain.recipient) == 1_000
    assert_invariants()


@pytest.mark.parametrize("offset", [500, -2, -30])
def test_a_head_that_lies_confirms_nothing_and_reorgs_nothing(chain: Chain, offset: int) -> None:
    row = chain.sent()
    chain.node.mine()
    chain.watch()
    assert chain.read(row).state == "mined"
    chain.proxy.fault("head", method="eth_getBlockByNumber", offset=offset)
    chain.proxy.fault("head", method="eth_blockNumber", offset=offset)
    chain.watch(3)
    assert chain.read(row).state == "mined"
    assert Network.objects.get().watched_block == chain.node.block_number()
    assert Block.objects.filter(orphaned_at__isnull=False).count() == 0
    chain.proxy.clear()
    confirm(chain)
    assert chain.read(row).state == "confirmed"


def test_endpoints_that_show_different_hashes_confirm_nothing_and_reorg_nothing(chain: Chain) -> None:
    with RpcProxy(chain.node.url) as honest:
        services.endpoint_add(network_id=chain.network.pk, name="honest", url=honest.url, priority=20)
        row = chain.sent()
        chain.node.mine()
        chain.watch()
        assert chain.read(row).state == "mined"
        chain.proxy.fault("hash", method="eth_getBlockByNumber", offset=chain.node.block_number())
        chain.watch(2)
        assert chain.read(row).state == "mined"
        assert Block.objects.filter(orphaned_at__isnull=False).count() == 0
        chain.proxy.clear()
        honest.fault("hash", method="eth_getBlockByNumber", offset=chain.node.block_number())
        confirm(chain)
        assert chain.read(row).state == "mined"
        honest.clear()
        chain.watch()
        assert chain.read(row).state == "confirmed"


def test_another_endpoint_answers_when_the_first_fails_and_the_breaker_spares_it(chain: Chain) -> None:
    with RpcProxy(chain.node.url) as second:
        services.endpoint_add(network_id=chain.network.pk, name="second", url=second.url, priority=20)
        chain.proxy.fault("status", status=500)
        for _ in range(5):
            assert services.block_number_read(network_id=chain.network.pk) == chain.node.block_number()
        broken = RpcEndpoint.objects.get(name="main")
        assert broken.failures == failover.THRESHOLD
        assert broken.open_until is not None
        asked = len(chain.proxy.asked)
        services.block_number_read(network_id=chain.network.pk)
        assert len(chain.proxy.asked) == asked
        chain.proxy.clear()
        RpcEndpoint.objects.filter(name="main").update(open_until=None)
        services.block_number_read(network_id=chain.network.pk)
        healed = RpcEndpoint.objects.get(name="main")
        assert (healed.failures, healed.open_until) == (0, None)


def test_an_endpoint_of_another_chain_is_refused(chain: Chain) -> None:
    Network.objects.update(chain_id=1)
    RpcEndpoint.objects.update(chain_checked_at=None)
    with pytest.raises(RpcUnavailable):
        services.block_number_read(network_id=chain.network.pk)
    assert "wrong chain" in RpcEndpoint.objects.get().last_error
    assert set(chain.proxy.asked[-1:]) == {"eth_chainId"}


def test_an_endpoint_that_lags_is_passed_over(chain: Chain) -> None:
    with RpcProxy(chain.node.url) as second:
        services.endpoint_add(network_id=chain.network.pk, name="second", url=second.url, priority=20)
        chain.node.mine(blocks=10)
        chain.proxy.fault("head", method="eth_getBlockByNumber", offset=-9)
        chain.watch()
        asked = len(chain.proxy.asked)
        services.block_number_read(network_id=chain.network.pk)
        assert len(chain.proxy.asked) == asked
        assert second.asked[-1] == "eth_blockNumber"


def test_a_revert_of_a_read_is_a_result_with_its_reason(chain: Chain, deployment) -> None:  # type: ignore[no-untyped-def]
    token = deployment.token("USDC").address
    good, bad = services.calls_read(
        network_id=chain.network.pk,
        calls=[
            Call(token, abi.call_data("decimals()", [])),
            Call(token, abi.call_data("transfer(address,uint256)", [chain.recipient, 10**30])),
        ],
    )
    assert good == (6).to_bytes(32)
    assert isinstance(bad, CallReverted)
    assert bad.reason != "no reason given"


def test_an_estimate_is_of_the_head_whatever_waits_in_the_mempool(
    chain: Chain, market: Market, deployment: Deployment
) -> None:
    sender, token = chain.node.rpc.call("eth_accounts")[0], deployment.token("USDC").address
    market.mint(symbol="USDC", to=sender, units=1_000)
    chain.node.mine()

    def transfer(units: int) -> str:
        return abi.call_data("transfer(address,uint256)", [chain.recipient, units])

    (held,) = services.calls_read(
        network_id=chain.network.pk, calls=[Call(token, abi.call_data("balanceOf(address)", [sender]))]
    )
    assert isinstance(held, bytes)
    chain.node.rpc.call(
        "eth_sendTransaction", {"from": sender, "to": token, "data": transfer(int.from_bytes(held))}
    )
    call = Call(token, transfer(1), sender=sender)

    (waiting,) = services.gas_estimates_read(network_id=chain.network.pk, calls=[call])
    chain.node.mine()
    (mined,) = services.gas_estimates_read(network_id=chain.network.pk, calls=[call])

    assert isinstance(waiting, int)
    assert waiting > 21_000
    assert isinstance(mined, CallReverted)


def test_the_url_is_encrypted_and_in_no_error_or_log(
    chain: Chain,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.DEBUG)
    canary = "canary-key-1234"
    row = services.endpoint_add(
        network_id=chain.network.pk, name="main", url=f"{chain.proxy.url}/v2/{canary}?k={canary}"
    )
    services.block_number_read(network_id=chain.network.pk)
    shown = []
    for kind, options in (
        ("status", {"status": 401}),
        ("drop_answer", {}),
        ("garbage", {}),
        ("delay", {"seconds": 2}),
    ):
        chain.proxy.fault(kind, times=1, **options)
        RpcEndpoint.objects.update(failures=0, open_until=None)
        with impatient(monkeypatch), pytest.raises(RpcUnavailable) as caught:
            services.block_number_read(network_id=chain.network.pk)
        shown += traceback.format_exception(caught.value)
    with pytest.raises(EndpointFailure) as refused:
        Endpoint(f"http://127.0.0.1:9/{canary}", name="closed").request("eth_chainId", [])
    assert refused.value.__context__ is None
    assert refused.value.in_doubt is False
    row.refresh_from_db()
    shown += [repr(row), str(vars(row)), caplog.text, *capfd.readouterr()]
    assert canary not in "\n".join(shown)
    assert canary.encode() not in bytes(row.url_ciphertext)


def test_without_one_endpoint_for_both_a_lied_head_ends_the_read_and_with_it_the_next_one_answers(
    chain: Chain, token: Token
) -> None:
    call = Call(to=token.address, data="0x18160ddd")  # totalSupply()
    with RpcProxy(chain.node.url) as honest:
        services.endpoint_add(network_id=chain.network.pk, name="honest", url=honest.url, priority=20)
        chain.proxy.fault("head", method="eth_getBlockByNumber", offset=500)
        with pytest.raises(RpcUnavailable):
            services.calls_read(
                network_id=chain.network.pk, calls=[call], block=chain.node.block_number() + 500
            )

        seen = services.calls_at_head_read(network_id=chain.network.pk, calls=[call])

        assert seen.header.number == chain.node.block_number()
        assert seen.priority_fee_units == int(chain.node.rpc.call("eth_maxPriorityFeePerGas"), 16) > 0
        assert [len(answer) for answer in seen.answers if isinstance(answer, bytes)] == [32]
        assert "claims to have" in RpcEndpoint.objects.get(name="main").last_error


def test_a_call_that_the_node_refuses_rests_no_endpoint(chain: Chain, token: Token) -> None:
    chain.proxy.fault("error", method="eth_call", message="execution timeout")
    with pytest.raises(RpcUnavailable, match="execution timeout"):
        services.calls_at_head_read(
            network_id=chain.network.pk, calls=[Call(to=token.address, data="0x18160ddd")]
        )
    assert RpcEndpoint.objects.get().failures == 0
