"""Up to where a network is final: what deposits are credited by."""

from apps.chain import services
from apps.chain.models import Network
from tests.chain.conftest import Chain
from tests.support.rpc_proxy import RpcProxy


def _final(chain: Chain) -> int | None:
    chain.network.refresh_from_db()
    return chain.network.final_block


def _blocks(chain: Chain, count: int) -> None:
    """Blocks with something in them: an empty block that is mined again has the same hash as before."""
    account = chain.node.rpc.call("eth_accounts")[0]
    for _ in range(count):
        chain.node.rpc.call(
            "eth_sendTransaction", {"from": account, "to": chain.recipient, "value": "0x1", "gas": "0x5208"}
        )
        chain.node.mine()


def test_the_final_block_follows_the_tip_at_the_networks_depth(chain: Chain) -> None:
    chain.node.mine(blocks=10)
    chain.watch()

    chain.network.refresh_from_db()
    assert chain.network.watched_block is not None
    assert chain.network.final_block == chain.network.watched_block - 2

    before = chain.network.final_block
    chain.node.mine(blocks=4)
    chain.watch()
    assert before is not None
    assert _final(chain) == before + 4


def test_with_the_finalized_tag_the_lower_of_tag_and_depth_counts(chain: Chain) -> None:
    chain.node.mine(blocks=200)
    Network.objects.update(finality="finalized", final_block=None)
    chain.watch()

    tag = int(chain.node.rpc.call("eth_getBlockByNumber", "finalized", False)["number"], 16)
    chain.network.refresh_from_db()
    assert chain.network.watched_block is not None
    assert chain.network.final_block == min(tag, chain.network.watched_block - 2)
    assert tag < chain.network.watched_block - 2


def test_a_block_that_another_endpoint_shows_differently_is_not_final(chain: Chain) -> None:
    before = _final(chain)
    with RpcProxy(chain.node.url) as other:
        services.endpoint_add(network_id=chain.network.pk, name="other", url=other.url)
        other.fault("hash", times=1_000)
        chain.node.mine(blocks=5)
        chain.watch()

    assert _final(chain) == before


def test_a_shallow_reorg_takes_nothing_final_back(chain: Chain) -> None:
    _blocks(chain, 10)
    chain.watch()
    before = _final(chain)

    chain.node.reorg(depth=2)
    chain.watch(times=3)

    assert chain.network.halted_at is None
    assert _final(chain) == before


def test_a_reorg_below_the_final_block_lowers_it(chain: Chain) -> None:
    _blocks(chain, 10)
    chain.watch()
    before = _final(chain)
    assert before is not None

    chain.node.reorg(depth=6)
    chain.watch(times=1)
    lowered = _final(chain)
    chain.watch(times=3)

    assert lowered is not None
    assert lowered <= before - 4
    assert _final(chain) == before
    assert chain.network.halted_at is None


def test_a_reorg_beyond_the_limit_halts_the_network(chain: Chain) -> None:
    Network.objects.update(reorg_limit=5)
    _blocks(chain, 10)
    chain.watch()

    chain.node.reorg(depth=6)
    chain.watch(times=2)

    chain.network.refresh_from_db()
    assert chain.network.halted_at is not None
    assert "takes back 6 blocks" in chain.network.halted_reason


def test_headers_that_a_reader_still_needs_are_kept(chain: Chain) -> None:
    from apps.chain import watching
    from apps.chain.models import Block

    chain.node.mine(blocks=50)
    chain.watch()
    oldest = Block.objects.order_by("number").values_list("number", flat=True)[0]
    Network.objects.update(keep_from_block=oldest)
    chain.node.mine(blocks=watching.KEEP_BLOCKS + 150)
    chain.watch(times=6)

    assert Block.objects.filter(number=oldest).exists()
    Network.objects.update(keep_from_block=None)
    chain.node.mine(blocks=200)
    chain.watch(times=2)
    assert not Block.objects.filter(number=oldest).exists()


def test_a_resumed_network_forgets_its_headers_and_takes_them_anew(chain: Chain) -> None:
    """Marked as orphaned they would say that the chain took back what nobody has looked at yet."""
    from apps.chain.models import Block

    _blocks(chain, 40)
    chain.watch()
    held = list(Block.objects.order_by("number").values_list("number", "hash"))
    Network.objects.update(keep_from_block=held[-1][0])
    services.network_halt(network_id=chain.network.pk, reason="drill")
    chain.node.reorg(depth=3)

    services.network_resume(network_id=chain.network.pk, actor="test")

    assert not Block.objects.exists()
    chain.watch(2)
    anew = dict(Block.objects.values_list("number", "hash"))
    assert min(anew) == held[0][0]
    assert [number for number, block_hash in held if anew[number] != block_hash] == [
        number for number, _ in held[-3:]
    ]
    assert not Block.objects.filter(orphaned_at__isnull=False).exists()
