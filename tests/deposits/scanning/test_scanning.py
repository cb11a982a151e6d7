"""The monitor on a real node that behaves."""

import itertools
import json
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.chain import services as chain_services
from apps.chain.models import Block, Network
from apps.core.errors import DomainError
from apps.deposits import scanning
from apps.deposits.domain import DepositKind
from apps.deposits.models import Rescan, Scan
from apps.deposits.rescans import rescan_request
from tests.deposits.scanning.conftest import Monitor
from tests.support import bytecode
from tests.support.bytecode import words


def test_a_token_transfer_is_seen_in_its_block_and_once(monitor: Monitor) -> None:
    address = monitor.address()
    transaction_hash = monitor.pay(address, 2_500_000)
    block = monitor.mine()
    monitor.scan()

    (seen,) = monitor.deposits()
    header = monitor.chain.node.block(block)
    assert (seen.kind, seen.contract, seen.asset_id) == ("token", monitor.usdc.address, monitor.usdc.asset_id)
    assert (seen.transaction_hash, seen.position, seen.amount_units) == (transaction_hash, 0, 2_500_000)
    assert (seen.block_number, seen.block_hash) == (block, header["hash"])
    assert seen.block_time is not None
    assert seen.block_time.timestamp() == int(header["timestamp"], 16)
    assert (seen.state, seen.address.address) == ("seen", address)

    monitor.fill(5)
    monitor.scan(times=5)
    assert [row.pk for row in monitor.deposits()] == [seen.pk]
    assert monitor.read_all()


def test_the_position_is_the_place_within_the_transaction(monitor: Monitor) -> None:
    """Not the block's log index: other transactions and other logs come before."""
    first, second = monitor.address(), monitor.address()
    emitter = monitor.contract(bytecode.EMITTER)
    monitor.pay(monitor.accounts[2])
    monitor.send(emitter, words(monitor.accounts[3], first, monitor.accounts[4], second, first))
    monitor.mine()
    monitor.scan()

    assert [(row.position, row.address.address, row.amount_units) for row in monitor.deposits()] == [
        (1, first, 1_000),
        (3, second, 1_000),
        (4, first, 1_000),
    ]
    # A token that nobody allowed is visible all the same.
    assert {row.asset_id for row in monitor.deposits()} == {None}
    assert {row.contract for row in monitor.deposits()} == {emitter}


def test_native_coin_counts_when_the_transaction_succeeded(monitor: Monitor) -> None:
    address = monitor.address()
    paid = monitor.send(address, value=7)
    monitor.send(address, value=0)
    monitor.mine()
    monitor.scan()

    (seen,) = monitor.deposits()
    assert (seen.kind, seen.transaction_hash, seen.position, seen.amount_units, seen.contract) == (
        DepositKind.NATIVE, paid, 0, 7, "",
    )  # fmt: skip
    assert seen.asset_id == monitor.chain.native.pk


def test_internal_transfers_are_found_by_traces_but_not_what_was_reverted(monitor: Monitor) -> None:
    address, other = monitor.address(), monitor.address()
    forwarder, bearer = monitor.contract(bytecode.FORWARDER), monitor.contract(bytecode.BEARER)
    paid = monitor.send(forwarder, words(address), value=11)
    # The inner call sends and then reverts; the outer one succeeds.
    monitor.send(bearer, words(forwarder, address, 1), value=12)
    deep = monitor.send(bearer, words(forwarder, other, 0), value=13)
    monitor.mine()
    monitor.scan()

    assert monitor.row.traces is True
    found = {row.transaction_hash: row for row in monitor.deposits()}
    assert set(found) == {paid, deep}
    assert {row.kind for row in found.values()} == {"internal"}
    assert (found[paid].position, found[paid].amount_units, found[paid].sender) == (0, 11, forwarder)
    assert (found[deep].position, found[deep].amount_units, found[deep].address.address) == (1, 13, other)


def test_both_ways_of_tracing_number_internal_transfers_alike(monitor: Monitor) -> None:
    address = monitor.address()
    forwarder, bearer = monitor.contract(bytecode.FORWARDER), monitor.contract(bytecode.BEARER)
    monitor.send(bearer, words(forwarder, address, 0), value=13)
    monitor.mine()
    monitor.scan()
    before = [(row.transaction_hash, row.kind, row.position) for row in monitor.deposits()]

    from apps.chain import tracing

    tracing._tracing.update(dict.fromkeys(tracing._tracing, "debug_traceBlockByHash"))
    monitor.fill(4)
    monitor.scan()
    assert monitor.read_all()
    assert "debug_traceBlockByHash" in monitor.chain.proxy.asked
    assert [(row.transaction_hash, row.kind, row.position) for row in monitor.deposits()] == before


def test_a_node_without_traces_is_found_out_once(monitor: Monitor) -> None:
    from apps.chain import tracing

    tracing._tracing.clear()
    Scan.objects.update(traces=None)
    monitor.chain.proxy.fault("traces_none")
    monitor.fill(2)
    monitor.scan()
    assert monitor.row.traces is False
    asked = [method for method in monitor.chain.proxy.asked if "trace" in method]
    monitor.fill(4)
    monitor.scan()
    assert [method for method in monitor.chain.proxy.asked if "trace" in method] == asked
    assert monitor.read_all()


def test_nothing_of_zero_of_other_standards_or_from_our_own_wallets(monitor: Monitor) -> None:
    address = monitor.address()
    monitor.pay(address, 0)
    monitor.send(monitor.contract(bytecode.EMITTER_721), words(address))
    monitor.mine()
    wallet = monitor.chain.wallet.address
    node = monitor.chain.node.rpc
    node.call("anvil_impersonateAccount", wallet)
    monitor.send(address, value=5, sender=wallet)
    monitor.mine()
    node.call("anvil_stopImpersonatingAccount", wallet)
    monitor.scan()

    assert monitor.read_all()
    assert monitor.deposits() == []


def test_matching_is_one_query_whatever_the_number_of_transfers(monitor: Monitor) -> None:
    addresses = [monitor.address() for _ in range(20)]
    emitter = monitor.contract(bytecode.EMITTER)

    def queries(count: int) -> list[str]:
        monitor.send(emitter, words(*addresses[:count]))
        monitor.mine()
        monitor.watch()
        with CaptureQueriesContext(
            connection,
        ) as context:
            monitor.step()
        return [query["sql"] for query in context.captured_queries]

    few, many = queries(1), queries(20)
    assert len(monitor.deposits()) == 21
    assert sum("FROM deposits_depositaddress WHERE" in sql for sql in many) <= 3
    assert len(many) == len(few)


def test_catching_up_goes_oldest_first_in_bounded_steps_and_says_how_it_gets_on(
    monitor: Monitor, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scanning, "BEHIND", 30)
    caplog.set_level("INFO", logger=scanning.logger.name)
    address = monitor.address()
    Scan.objects.update(window=20)
    for _ in range(3):
        monitor.pay(address)
        monitor.mine(40)
    monitor.watch()

    blocks = []
    for _ in range(12):
        monitor.step()
        blocks.append(monitor.row.next_block)
        if monitor.read_all():
            break
    steps = [later - earlier for earlier, later in itertools.pairwise(blocks) if later and earlier]
    assert blocks == sorted(blocks, key=lambda number: number or 0)
    assert monitor.read_all()
    assert len(steps) >= 2
    assert len(monitor.deposits()) == 3
    said: list[Any] = [row for row in caplog.records if row.msg == "monitor catching up"]
    assert len(said) >= 2
    assert [one.block + one.left for one in said] == [monitor.network.watched_block] * len(said)
    assert [one.left for one in said] == sorted({one.left for one in said}, reverse=True)
    # At the head there is nothing to say.
    assert said[-1].left > 30


def test_a_network_that_catches_up_takes_turns_with_the_others(monitor: Monitor) -> None:
    """One claim is one bounded step, and whoever has had a step goes behind whoever waits."""
    from apps.core import work
    from apps.core.models import Asset
    from apps.deposits.kinds import SCAN
    from apps.deposits.scanning import scans_ensure

    other = chain_services.network_create(
        chain_id=5, name="other", native_asset_id=Asset.objects.create(code="X", name="X", decimals=18).pk
    )
    scans_ensure()
    Scan.objects.update(window=16)
    monitor.mine(100)
    monitor.watch()
    monitor.due()
    turns = []
    for _ in range(3):
        claim = work.claim_due(SCAN)
        turns.append(Scan.objects.get(pk=claim.ids[0]).network_id)
        work._work_on(claim)
    assert set(turns[:2]) == {other.pk, monitor.network.pk}


def test_headers_are_kept_until_they_were_read(monitor: Monitor) -> None:
    monitor.fill(2)
    monitor.watch()
    monitor.step()
    network = monitor.network
    row = monitor.row
    assert network.keep_from_block is not None
    assert row.next_block is not None
    assert network.keep_from_block <= row.next_block


# Rescans


def test_a_rescan_finds_what_an_imported_address_had_before(monitor: Monitor) -> None:
    from apps.accounts.services import user_create
    from apps.deposits.models import DepositAddress

    imported = "0x" + "9e" * 20
    monitor.pay(imported, 5)
    block = monitor.mine()
    monitor.fill(8)
    monitor.scan()
    assert monitor.deposits() == []

    DepositAddress.objects.create(user=user_create(email="i@example.org"), index=900, address=imported)
    row = rescan_request(network_id=monitor.network.pk, from_block=0, reason="address imported")
    assert rescan_request(network_id=monitor.network.pk, from_block=0, reason="again").pk == row.pk
    monitor.rescan(times=8)
    (seen,) = monitor.deposits()
    assert (seen.block_number, seen.amount_units) == (block, 5)

    # What is not final yet is read when it is.
    row.refresh_from_db()
    assert (row.state, row.found) == ("open", 1)
    monitor.fill(3)
    monitor.scan()
    monitor.rescan()
    row.refresh_from_db()
    assert row.state == "done"


def test_a_rescan_reads_blocks_whose_headers_are_gone(monitor: Monitor) -> None:
    address = monitor.address()
    monitor.pay(address, 5)
    block = monitor.mine()
    monitor.fill(8)
    monitor.scan()
    monitor.deposits()[0].delete()
    Block.objects.filter(number__lt=block + 3).delete()

    rescan_request(network_id=monitor.network.pk, from_block=block - 2, to_block=block + 4, reason="test")
    monitor.rescan(times=4)
    assert Rescan.objects.get().state == "done"
    assert [row.block_number for row in monitor.deposits()] == [block]


def test_rescan_and_status_on_the_command_line(monitor: Monitor, capsys: pytest.CaptureFixture[str]) -> None:
    address = monitor.address()
    monitor.pay(address)
    block = monitor.mine()
    monitor.fill(4)
    monitor.scan()

    call_command("deposits", "rescan", "--network", "anvil", "--from", "0", "--to", str(block))
    assert "are read again" in capsys.readouterr().out
    monitor.rescan(times=8)
    assert Rescan.objects.get().state == "done"
    assert len(monitor.deposits()) == 1

    call_command("deposits", "status", "--json")
    (one,) = json.loads(capsys.readouterr().out)
    assert (one["network"], one["state"], one["lag_blocks"]) == ("anvil", "running", 0)
    assert one["head_block"] == one["scanned_block"] == monitor.network.watched_block
    call_command("deposits", "status")
    assert "anvil: running" in capsys.readouterr().out

    for wrong in (["--from", "-1"], ["--from", "5", "--to", "4"], ["--from", "0", "--to", "999999"]):
        with pytest.raises(CommandError):
            call_command("deposits", "rescan", "--network", "anvil", *wrong)
    with pytest.raises(CommandError):
        call_command("deposits", "rescan", "--network", "nowhere", "--from", "0")


def test_a_rescan_of_a_network_that_was_never_watched_is_refused(monitor: Monitor) -> None:
    Network.objects.update(watched_block=None)
    with pytest.raises(DomainError, match="not known yet"):
        rescan_request(network_id=monitor.network.pk, from_block=0, reason="test")
