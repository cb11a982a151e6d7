"""Exports: everything of one person, nothing of another, whatever dies meanwhile."""

import io
import json
import random
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from django.db import connection, transaction

from apps.accounts import exports
from apps.accounts.exports import BUILD, DELETE, archive_write, export_request
from apps.accounts.me.models import DataExport, ExportPart
from apps.core import clock, work
from apps.core.errors import Conflict
from apps.mail.models import Message
from tests.chain import test_kills as chain_kills
from tests.core.api.operations import operations
from tests.core.api.support import ApiClient, problem, user_with_key
from tests.deposits.support import USDC, Bank
from tests.withdrawals.support import Desk

EXPORTS = "/api/v1/me/exports"
STEPS = """
import sys
import django
django.setup()
from apps.accounts.exports import BUILD, DELETE
from apps.core import work
work.drain({"build": BUILD, "delete": DELETE}[sys.argv[1]], budget_seconds=0)
"""


def build() -> None:
    work.drain(BUILD, budget_seconds=0)


def files() -> dict[UUID, bytes]:
    """What is kept, by export: their parts together."""
    found: dict[UUID, bytes] = {}
    for export_id, part in ExportPart.objects.order_by("number").values_list("export_id", "content"):
        found[export_id] = found.get(export_id, b"") + bytes(part)
    return found


def read(content: bytes) -> dict[str, list[dict[str, Any]]]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        return {
            name.removesuffix(".ndjson"): [json.loads(line) for line in archive.read(name).splitlines()]
            for name in archive.namelist()
            if name.endswith(".ndjson")
        }


def parts_of(answer: Any) -> Iterator[bytes]:
    return iter(answer.streaming_content)


def body_of(answer: Any) -> bytes:
    return b"".join(parts_of(answer))


@pytest.mark.django_db(transaction=True)
def test_ask_wait_download(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "PART_BYTES", 1_000)
    user, client = user_with_key("ann@example.org")
    asked = client.post(EXPORTS)
    assert asked.status_code == 202
    place = asked["Location"]
    assert (asked.json()["state"], asked.json()["download_url"]) == ("queued", None)
    assert client.get(place).json() == asked.json()

    build()

    ready = client.get(place)
    assert ready["Cache-Control"] == "no-store"
    body = ready.json()
    assert body["state"] == "ready"
    answer = ApiClient().get(body["download_url"])
    content = body_of(answer)
    assert (answer["Content-Type"], len(content)) == ("application/zip", body["size_bytes"])
    assert answer["Content-Length"] == str(len(content))
    assert sha256(content).hexdigest() == body["sha256"]
    assert ExportPart.objects.count() == -(-len(content) // 1_000) > 1
    assert answer["Cache-Control"] == "private, no-store"
    assert answer["Content-Disposition"] == f'attachment; filename="export-{body["id"]}.zip"'
    # The link lets in whoever has it: it is in no log.
    line = f"GET {body['download_url'].partition('?')[0]}"
    assert [one for one in caplog.messages if line in one]
    assert body["download_url"].partition("signature=")[2] not in caplog.text
    found = read(content)
    assert found["account"][0]["email"] == "ann@example.org"
    assert {name: len(rows) for name, rows in found.items()} == body["rows"]
    assert set(found) == {
        "account", "api_keys", "balances", "deposit_addresses", "deposits", "events", "exports", "plans",
        "sessions", "sign_in", "slots", "statement", "waitlist", "withdrawal_destinations", "withdrawals",
    }  # fmt: skip
    (download,) = (one for one in operations() if one.name == "exports_download")
    shown = download.document["responses"]["200"]["content"]["application/zip"]["examples"]
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert [one["value"] for one in shown.values()] == ["\n".join(archive.namelist())]
    assert client.key.split("_")[2] not in content.decode("latin-1")
    assert client.get(EXPORTS).json()["data"][0]["id"] == body["id"]
    assert files() == {UUID(body["id"]): content}
    assert user.exports.count() == 1
    told = Message.objects.get()
    assert (told.to, told.template, told.essential) == ("ann@example.org", "export_ready", True)


@pytest.mark.django_db(transaction=True)
def test_a_link_opens_its_own_file_only_and_for_ten_minutes(
    time_travel: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, ann = user_with_key("ann@example.org")
    _, bea = user_with_key("bea@example.org")
    places = [client.post(EXPORTS)["Location"] for client in (ann, bea)]
    build()
    build()
    mine, theirs = ann.get(places[0]).json(), bea.get(places[1]).json()
    problem(ann.get(places[1]), 404, "not_found")
    signature = mine["download_url"].partition("signature=")[2]
    anybody = ApiClient()
    for path in (
        f"{places[1]}/file?signature={signature}",
        f"{places[0]}/file?signature={signature}x",
        f"{places[0]}/file?signature=x",
    ):
        problem(anybody.get(path), 404, "not_found")
    problem(anybody.get(f"{places[0]}/file"), 400, "validation_failed", errors=[("signature", "required")])
    assert theirs["state"] == "ready"
    # Signatures run on machine time, as sessions do.
    monkeypatch.setattr(exports, "LINK_SECONDS", -1)
    problem(anybody.get(mine["download_url"]), 404, "not_found")


@pytest.mark.django_db(transaction=True)
def test_the_file_is_deleted_when_it_expires(time_travel: Callable[..., int]) -> None:
    _, client = user_with_key()
    place = client.post(EXPORTS)["Location"]
    build()
    url = client.get(place).json()["download_url"]
    work.drain(DELETE, budget_seconds=0)
    assert len(files()) == 1

    time_travel(seconds=7 * 24 * 3_600 + 1)
    problem(ApiClient().get(url), 404, "not_found")
    work.drain(DELETE, budget_seconds=0)

    assert files() == {}
    body = client.get(place).json()
    assert (body["state"], body["download_url"]) == ("deleted", None)


@pytest.mark.django_db
def test_one_at_a_time_and_five_a_day() -> None:
    user, client = user_with_key()
    assert client.post(EXPORTS).status_code == 202
    problem(client.post(EXPORTS), 409, "export_under_way")
    for _ in range(4):
        DataExport.objects.update(state="deleted")
        export_request(user_id=user.pk)
    DataExport.objects.update(state="deleted")
    problem(client.post(EXPORTS), 409, "too_many_exports")
    assert DataExport.objects.count() == 5


@pytest.mark.django_db
def test_exports_need_their_scope() -> None:
    _, planner = user_with_key(scopes=["plans:read", "account:write"])
    problem(planner.post(EXPORTS), 403, "insufficient_scope")
    problem(planner.get(EXPORTS), 403, "insufficient_scope")
    assert not DataExport.objects.exists()


def test_all_of_ones_own_and_nothing_of_another(shared: Bank) -> None:
    ann, ben = shared.person(), shared.person()
    for person, units in ((ann, 25 * USDC), (ben, 7 * USDC)):
        shared.credited(person, units)
    place = io.BytesIO()

    counts = archive_write(place, user_id=ann.pk)

    found = read(place.getvalue())
    assert (counts["deposits"], counts["statement"], counts["deposit_addresses"]) == (1, 1, 1)
    assert found["statement"][0] | {"id": "", "journal_id": "", "reference": "", "posted_at": ""} == {
        "id": "", "posted_at": "", "asset": "USDC", "account": "available", "journal_id": "", "kind": "deposit",
        "reference": "", "amount": "25", "balance_after": "25",
    }  # fmt: skip
    assert found["balances"] == [{"asset": "USDC", "account": "available", "balance": "25"}]
    assert found["deposits"][0]["amount"] == "25"
    whole = json.dumps(found)
    assert str(ben.pk) not in whole
    assert ben.email not in whole


def test_plans_slots_and_withdrawals_are_in_it(desk: Desk) -> None:
    person = desk.person()
    desk.fund(person, "USDC", 500 * 10**6)
    row = desk.request(person, "USDC", 100 * 10**6)
    place = io.BytesIO()

    archive_write(place, user_id=person.pk)

    found = read(place.getvalue())
    assert [(one["id"], one["amount"], one["state"]) for one in found["withdrawals"]] == [
        (str(row.pk), "100", "requested")
    ]
    assert [one["address"] for one in found["withdrawal_destinations"]] == [row.destination]
    assert {one["topic"] for one in found["events"]} >= {"withdrawal.requested"}


@pytest.mark.django_db(transaction=True)
def test_memory_stays_the_same_whatever_the_size(monkeypatch: pytest.MonkeyPatch) -> None:
    user, client = user_with_key()
    monkeypatch.setattr(exports, "PART_BYTES", 32 * 1_024)
    dice = random.Random(1)

    def peak(rows: int) -> int:
        """Of making, keeping and handing out."""

        def many(_: UUID) -> Iterator[dict[str, Any]]:
            return ({"number": number, "text": dice.randbytes(100).hex()} for number in range(rows))

        monkeypatch.setitem(exports._sections, "statement", many)
        row = export_request(user_id=user.pk)
        tracemalloc.start()
        build()
        answer = ApiClient().get(client.get(f"{EXPORTS}/{row.pk}").json()["download_url"])
        size = sum(len(part) for part in parts_of(answer))
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        row.refresh_from_db()
        assert (row.rows["statement"], row.size_bytes) == (rows, size)
        return most

    peak(1_000)
    assert peak(40_000) < peak(4_000) * 1.5


@pytest.mark.django_db(transaction=True)
def test_a_taken_over_builder_leaves_no_file() -> None:
    user, _ = user_with_key()
    row = export_request(user_id=user.pk)
    slow = work.claim_due(BUILD)
    DataExport.objects.update(leased_until=clock.now())
    with connection.cursor() as cursor:
        cursor.execute("UPDATE accounts_dataexport SET leased_until = clock_timestamp() - interval '1 s'")
    build()
    exports.export_build(slow)
    row.refresh_from_db()
    assert row.state == "ready"
    assert sha256(files()[row.pk]).hexdigest() == row.sha256


@pytest.mark.django_db(transaction=True)
def test_a_file_that_is_deleted_while_it_is_read_is_cut_off_and_never_shorter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(exports, "PART_BYTES", 1_000)
    user, client = user_with_key()
    place = client.post(EXPORTS)["Location"]
    build()
    answer = ApiClient().get(client.get(place).json()["download_url"])
    parts = parts_of(answer)
    next(parts)
    with transaction.atomic():
        exports.exports_end(user_id=user.pk)
    with pytest.raises(ExportPart.DoesNotExist):
        next(parts)


@pytest.mark.django_db(transaction=True)
def test_one_that_is_given_up_leaves_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    user, client = user_with_key()

    def broken(_: UUID) -> Iterator[dict[str, Any]]:
        yield {"a": 1}
        raise RuntimeError("broken on purpose")

    monkeypatch.setitem(exports._sections, "statement", broken)
    place = client.post(EXPORTS)["Location"]
    for _ in range(BUILD.max_attempts):
        DataExport.objects.update(run_after=clock.now())
        build()
    assert client.get(place).json()["failed"] is True
    assert files() == {}
    # What was given up does not stand in the way of another one.
    assert client.post(EXPORTS).status_code == 202
    assert user.exports.count() == 2


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "place",
    [
        "build accounts.export.written",
        "build accounts.export.kept",
        "build accounts.export.ready",
        "delete work.accounts.export_delete.before_commit",
        "delete work.accounts.export_delete.after_commit",
    ],
)
def test_killed_anywhere_there_is_one_whole_file_and_then_none(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chain_kills, "STEPS", STEPS)
    user, _ = user_with_key("ann@example.org")
    row = export_request(user_id=user.pk)
    step, failpoint = place.split()
    if step == "delete":
        build()
        DataExport.objects.update(run_after=clock.now(), expires_at=clock.now())

    assert chain_kills.run(step, tmp_path, failpoint) == -9
    with connection.cursor() as cursor:
        cursor.execute("UPDATE accounts_dataexport SET leased_until = clock_timestamp() - interval '1 s'")
    work.drain(BUILD if step == "build" else DELETE, budget_seconds=0)

    row.refresh_from_db()
    if step == "build":
        assert row.state == "ready"
        assert list(files()) == [row.pk]
        assert Message.objects.filter(template="export_ready").count() == 1
        assert read(files()[row.pk])["account"][0]["email"] == "ann@example.org"
    else:
        assert (row.state, files()) == ("deleted", {})


@pytest.mark.django_db
def test_an_export_of_nobody_is_refused() -> None:
    user, _ = user_with_key()
    export_request(user_id=user.pk)
    with pytest.raises(Conflict):
        export_request(user_id=user.pk)
