"""Keys are rotated while everything runs: nothing is lost, nothing is shown, and what is wrong is left and named."""

import io
import json
import os
import subprocess
import sys
import threading
import time
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.conf import settings
from django.core.management import call_command
from django.db import connection, models, transaction
from django.test import override_settings

from apps.chain import services
from apps.chain.failover import url_encrypt
from apps.chain.models import ENDPOINT_URL, Network, RpcEndpoint, Wallet
from apps.core import keys
from apps.core.crypto import encrypt, key_id_of
from apps.core.ids import uuid7
from apps.core.models import Asset

pytestmark = pytest.mark.django_db(transaction=True)

OLD, NEW = {"old": b"o" * 32}, {"new": b"n" * 32}
BOTH = {**NEW, **OLD}
URL = "https://rpc.example.org/"


@pytest.fixture
def network() -> Network:
    native = Asset.objects.create(code="ETH", name="Ether", decimals=18)
    return services.network_create(chain_id=1, name="one", native_asset_id=native.pk)


def endpoints_make(network: Network, count: int) -> None:
    """`count` endpoints under the old key, each with a URL of its own."""
    with override_settings(ENCRYPTION_KEYS=OLD):
        for number in range(count):
            services.endpoint_add(network_id=network.pk, name=f"e{number}", url=f"{URL}{number}")


def urls() -> dict[str, str]:
    return {
        row.name: ENDPOINT_URL.decrypt(bytes(row.url_ciphertext), pk=row.pk).decode()
        for row in RpcEndpoint.objects.all()
    }


def key_ids() -> list[str]:
    return [key_id_of(bytes(row.url_ciphertext)) for row in RpcEndpoint.objects.order_by("name")]


def run(action: str, *arguments: str) -> tuple[int, str]:
    """The command's exit status and everything that it printed."""
    out = io.StringIO()
    try:
        call_command("keys", action, *arguments, stdout=out, stderr=out)
    except SystemExit as ended:
        return int(str(ended.code)), out.getvalue()
    return 0, out.getvalue()


def status() -> tuple[int, dict[str, Any]]:
    code, printed = run("status", "--json")
    return code, {entry["column"]: entry for entry in json.loads(printed)}


def test_every_ciphertext_column_is_declared_and_every_declared_one_exists() -> None:
    stored = {
        f"{model._meta.db_table}.{field.column}"
        for model in apps.get_models()
        for field in model._meta.local_fields
        if isinstance(field, models.BinaryField)
    }
    digests = {"ledger_journal.fingerprint", "accounts_auditseal.digest", "accounts_auditcheck.digest"}

    # In tables of packages, as base64.
    sealed = {"mfa_authenticator.data.secret", "mfa_authenticator.data.seed", "django_session.session_data"}

    # What is not encrypted is a digest, a transaction as everybody may see it, or what other tables say in plain.
    plain = {"chain_transactionattempt.raw", "accounts_exportpart.content"}
    assert {str(column) for column in keys.columns()} == stored - digests - plain | sealed
    assert {column.keyring for column in keys.columns()} <= {"ENCRYPTION_KEYS", "SIGNER_KEYS"}


def test_rotation_step_by_step_as_the_runbook_has_it(network: Network) -> None:
    # given rows under the old key
    endpoints_make(network, 5)
    with override_settings(ENCRYPTION_KEYS=BOTH):
        before = urls()
        # when the new key comes first, the old rows are still read and status says what is left to do
        assert status()[1]["chain_rpcendpoint.url_ciphertext"]["rows"] == {"old": 5}
        code, printed = run("rotate", "--batch", "2")
        # then all of them are under the new key, with the same content, and a second run has nothing to do
        assert (code, "5 rows moved to new" in printed) == (0, True)
        assert (urls(), key_ids()) == (before, ["new"] * 5)
        assert "0 rows moved to new" in run("rotate")[1]
    # and the old key can go
    with override_settings(ENCRYPTION_KEYS=NEW):
        code, found = status()
        assert (code, found["chain_rpcendpoint.url_ciphertext"]["rows"]) == (0, {"new": 5})
        assert urls() == before


def test_a_row_whose_key_is_gone_is_told_by_status_and_by_rotate(network: Network) -> None:
    endpoints_make(network, 1)
    with override_settings(ENCRYPTION_KEYS=NEW):
        before = bytes(RpcEndpoint.objects.get().url_ciphertext)
        code, found = status()
        assert (code, found["chain_rpcendpoint.url_ciphertext"]["unknown"]) == (1, ["old"])
        code, printed = run("rotate")
        assert code == 1
        assert f"{RpcEndpoint.objects.get().pk}: its key is not available" in printed
    assert bytes(RpcEndpoint.objects.get().url_ciphertext) == before


def test_a_ciphertext_in_the_wrong_place_stays_as_it_is_and_is_named(network: Network) -> None:
    # given three rows, the middle one with its neighbour's ciphertext, and one that is no ciphertext
    endpoints_make(network, 4)
    first, moved, third, junk = RpcEndpoint.objects.order_by("id")
    RpcEndpoint.objects.filter(pk=moved.pk).update(url_ciphertext=first.url_ciphertext)
    RpcEndpoint.objects.filter(pk=junk.pk).update(url_ciphertext=b"\x01")
    with override_settings(ENCRYPTION_KEYS=BOTH):
        # when keys are rotated, one row at a time
        code, printed = run("rotate", "--batch", "1")
        # then the sound ones moved, the others are untouched and named
        assert (code, "2 rows moved to new" in printed) == (1, True)
        assert f"chain_rpcendpoint.url_ciphertext.{moved.pk}: wrong key, wrong place, or altered" in printed
        assert f"chain_rpcendpoint.url_ciphertext.{junk.pk}: not a ciphertext" in printed
        kept = {row.pk: bytes(row.url_ciphertext) for row in RpcEndpoint.objects.all()}
        assert (kept[moved.pk], kept[junk.pk]) == (bytes(first.url_ciphertext), b"\x01")
        assert {key_id_of(kept[first.pk]), key_id_of(kept[third.pk])} == {"new"}
        code, found = status()
        assert (code, found["chain_rpcendpoint.url_ciphertext"]["rows"]) == (1, {"": 1, "new": 2, "old": 1})


def test_wallets_are_rotated_where_the_signers_keys_are_and_only_there() -> None:
    with override_settings(SIGNER_KEYS=OLD):
        wallet = services.wallet_create(role="swap", name="swaps")
    with override_settings(SIGNER_KEYS={}):
        code, printed = run("rotate")
        assert (
            code,
            "chain_wallet.key_ciphertext: skipped, SIGNER_KEYS is not in this process" in printed,
        ) == (
            0,
            True,
        )
        code, found = status()
        entry = found["chain_wallet.key_ciphertext"]
        assert (code, entry["present"], entry["rows"], entry["unknown"]) == (0, False, {"old": 1}, [])
    assert bytes(Wallet.objects.get().key_ciphertext or b"") == bytes(wallet.key_ciphertext or b"")
    with override_settings(SIGNER_KEYS=BOTH):
        assert "chain_wallet.key_ciphertext: 1 rows moved to new" in run("rotate")[1]
    assert key_id_of(bytes(Wallet.objects.get().key_ciphertext or b"")) == "new"


def test_neither_key_nor_content_is_printed_or_logged(
    network: Network, caplog: pytest.LogCaptureFixture
) -> None:
    endpoints_make(network, 2)
    with override_settings(ENCRYPTION_KEYS=BOTH):
        told = "".join(run(action)[1] for action in ("status", "rotate", "status")) + caplog.text
    for secret in ("oooo", "nnnn", "6f6f6f", "6e6e6e", "b29vb29v", "bm5ubm5u", "rpc.example.org"):
        assert secret not in told


# Killed


def rotate_in_a_process(tmp_path: Path, failpoint: str = "") -> subprocess.CompletedProcess[str]:
    url = "postgresql://{USER}:{PASSWORD}@{HOST}:{PORT}/{NAME}".format(**connection.settings_dict)
    environment = {
        **os.environ,
        "DATABASE_URL": url,
        "SANDBOX_DIR": str(tmp_path),
        "DJANGO_SETTINGS_MODULE": "config.settings.test",
        "ENCRYPTION_KEYS": ",".join(f"{name}:{b64encode(key).decode()}" for name, key in BOTH.items()),
        "FAILPOINTS": failpoint,
    }
    return subprocess.run(
        [sys.executable, "manage.py", "keys", "rotate", "--batch", "2"],
        cwd=settings.BASE_DIR, env=environment, timeout=60, check=False, capture_output=True, text=True,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "moved"),
    [
        ("core.keys.rotate.before_update", 2),
        ("core.keys.rotate.before_commit", 2),
        ("core.keys.rotate.after_commit", 4),
    ],
)
def test_killed_in_the_second_batch_and_run_again(
    network: Network, tmp_path: Path, place: str, moved: int
) -> None:
    endpoints_make(network, 5)
    with override_settings(ENCRYPTION_KEYS=BOTH):
        before = urls()
        # when it is killed in its second batch, whole batches are under one key or the other
        assert rotate_in_a_process(tmp_path, f"{place}=kill@2").returncode == -9
        assert sorted(key_ids()) == ["new"] * moved + ["old"] * (5 - moved)
        assert urls() == before
        # then running it again does the rest
        again = rotate_in_a_process(tmp_path)
        assert (again.returncode, f"{5 - moved} rows moved to new" in again.stdout) == (0, True)
        assert (urls(), key_ids()) == (before, ["new"] * 5)


# Beside a writer


def beside_a_writer(network: Network, rotate: Callable[[threading.Event], None]) -> str:
    """An endpoint's URL after `rotate` ran in a thread while a transaction of ours gave it another one."""
    endpoints_make(network, 1)
    looked = threading.Event()

    def work() -> None:
        try:
            rotate(looked)
        finally:
            connection.close()

    thread = threading.Thread(target=work)
    with transaction.atomic():
        # Still under the old key: written by a process that has not been given the new one yet.
        with override_settings(ENCRYPTION_KEYS=OLD):
            services.endpoint_add(network_id=network.pk, name="e0", url=URL + "changed")
        thread.start()
        looked.wait(timeout=10)
        wait_for_a_waiter()
    thread.join()
    return urls()["e0"]


def wait_for_a_waiter() -> None:
    """Until some session waits for a lock."""
    deadline = time.monotonic() + 10
    with connection.cursor() as cursor:
        while time.monotonic() < deadline:
            cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
            if cursor.fetchone()[0]:
                return
            time.sleep(0.01)
    raise AssertionError("nobody waits")


def test_a_url_changed_meanwhile_is_never_put_back(network: Network) -> None:
    with override_settings(ENCRYPTION_KEYS=BOTH):
        # First without lock and comparison: what was read before the change is written over it.
        def unguarded(looked: threading.Event) -> None:
            row = RpcEndpoint.objects.get()
            url = ENDPOINT_URL.decrypt(bytes(row.url_ciphertext), pk=row.pk).decode()
            looked.set()
            RpcEndpoint.objects.filter(pk=row.pk).update(url_ciphertext=url_encrypt(url, endpoint_id=row.pk))

        assert beside_a_writer(network, unguarded) == URL + "0"

        # Then the real one: it waits for the writer and moves what the writer wrote.
        def guarded(looked: threading.Event) -> None:
            looked.set()
            assert [done.moved for done in keys.keys_rotate() if done.moved] == [1]

        RpcEndpoint.objects.all().delete()
        assert beside_a_writer(network, guarded) == URL + "changed"
        assert key_ids() == ["new"]


def test_a_thousand_rows_in_bounded_batches(
    network: Network, django_assert_num_queries: Callable[..., Any]
) -> None:
    made = []
    for number in range(1_000):
        pk = uuid7()
        text = encrypt(f"{URL}{number}".encode(), keys=OLD, place=ENDPOINT_URL.place(pk))
        made.append(RpcEndpoint(id=pk, network=network, name=f"e{number}", url_ciphertext=text))
    RpcEndpoint.objects.bulk_create(made)
    with override_settings(ENCRYPTION_KEYS=BOTH, SIGNER_KEYS={}):
        # A batch: begin, read, write, commit. And once more without a write, to find that nothing is left; the same
        # once for each of the five other columns.
        with django_assert_num_queries(10 * 4 + 3 + 5 * 3):
            assert [done.moved for done in keys.keys_rotate(batch=100)] == [1_000, 0, 0, 0, 0, 0]
        assert urls() == {f"e{number}": f"{URL}{number}" for number in range(1_000)}
