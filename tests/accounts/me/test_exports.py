"""Exports: everything of one person, nothing of another, whatever dies meanwhile."""

import io
import json
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from django.db import connection

from apps.accounts import exports
from apps.accounts.exports import BUILD, DELETE, archive_write, export_request
from apps.accounts.me.models import DataExport
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
from django.conf import settings
settings.MEDIA_ROOT = sys.argv[1].split("=", 1)[1]
from apps.accounts.exports import BUILD, DELETE
from apps.core import work
work.drain({"build": BUILD, "delete": DELETE}[sys.argv[1].split("=", 1)[0]], budget_seconds=0)
"""


def build() -> None:
    work.drain(BUILD, budget_seconds=0)


def files(media: Path) -> list[str]:
    return [str(one.relative_to(media)) for one in media.rglob("*") if one.is_file()]


def read(content: bytes) -> dict[str, list[dict[str, Any]]]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        return {
            name.removesuffix(".ndjson"): [json.loads(line) for line in archive.read(name).splitlines()]
            for name in archive.namelist()
            if name.endswith(".ndjson")
        }


def body_of(answer: Any) -> bytes:
    return b"".join(answer.streaming_content)


@pytest.mark.django_db(transaction=True)
def test_ask_wait_download(media: Path, caplog: pytest.LogCaptureFixture) -> None:
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
    assert [Path(name).suffix for name in files(media)] == [".zip"]
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
def test_the_file_is_deleted_when_it_expires(media: Path, time_travel: Callable[..., int]) -> None:
    _, client = user_with_key()
    place = client.post(EXPORTS)["Location"]
    build()
    url = client.get(place).json()["download_url"]
    work.drain(DELETE, budget_seconds=0)
    assert len(files(media)) == 1

    time_travel(seconds=7 * 24 * 3_600 + 1)
    problem(ApiClient().get(url), 404, "not_found")
    work.drain(DELETE, budget_seconds=0)

    assert list(media.rglob("*.zip")) == []
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
def test_memory_stays_the_same_whatever_the_size(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    user, _ = user_with_key()

    def peak(rows: int) -> int:
        def many(_: UUID) -> Iterator[dict[str, Any]]:
            return ({"number": number, "text": "x" * 200} for number in range(rows))

        monkeypatch.setitem(exports._sections, "statement", many)
        with (tmp_path / "made.zip").open("wb") as place:
            tracemalloc.start()
            assert archive_write(place, user_id=user.pk)["statement"] == rows
            most = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        return most

    peak(1_000)
    assert peak(40_000) < peak(4_000) * 1.5


@pytest.mark.django_db(transaction=True)
def test_a_taken_over_builder_leaves_no_file(media: Path) -> None:
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
    assert files(media) == [row.file_name]


@pytest.mark.django_db(transaction=True)
def test_one_that_is_given_up_leaves_no_file(
    media: Path, monkeypatch: pytest.MonkeyPatch, time_travel: Callable[..., int]
) -> None:
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
    assert files(media) == []
    # What was given up does not stand in the way of another one.
    assert client.post(EXPORTS).status_code == 202
    assert user.exports.count() == 2


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "place",
    [
        "build accounts.export.named",
        "build accounts.export.written",
        "build accounts.export.saved",
        "build accounts.export.ready",
        "delete accounts.export.deleted",
    ],
)
def test_killed_anywhere_there_is_one_whole_file_and_then_none(
    place: str, media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chain_kills, "STEPS", STEPS)
    user, _ = user_with_key("ann@example.org")
    row = export_request(user_id=user.pk)
    step, failpoint = place.split()
    if step == "delete":
        build()
        DataExport.objects.update(run_after=clock.now(), expires_at=clock.now())

    assert chain_kills.run(f"{step}={media}", tmp_path, failpoint) == -9
    with connection.cursor() as cursor:
        cursor.execute("UPDATE accounts_dataexport SET leased_until = clock_timestamp() - interval '1 s'")
    work.drain(BUILD if step == "build" else DELETE, budget_seconds=0)

    row.refresh_from_db()
    if step == "build":
        assert row.state == "ready"
        assert files(media) == [row.file_name]
        assert Message.objects.filter(template="export_ready").count() == 1
        assert read((media / row.file_name).read_bytes())["account"][0]["email"] == "ann@example.org"
    else:
        assert (row.state, files(media)) == ("deleted", [])


@pytest.mark.django_db
def test_an_export_of_nobody_is_refused() -> None:
    user, _ = user_with_key()
    export_request(user_id=user.pk)
    with pytest.raises(Conflict):
        export_request(user_id=user.pk)
