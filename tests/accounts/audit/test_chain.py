"""The audit log is append-only, in one chain whatever happens at the same time, and says when somebody tampered."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from io import StringIO
from typing import Any
from uuid import UUID

import pytest
from django.core.management import call_command
from django.db import DatabaseError, connection, transaction

from apps.accounts.audit import audit_record
from apps.accounts.audit.checking import PART, chain_verify, check_advance, recent_check
from apps.accounts.audit.models import AuditCheck, AuditPending, AuditRecord, AuditSeal
from apps.accounts.audit.sealing import GENESIS, link_digest, records_seal, records_seal_all
from apps.accounts.invariants import audit_chain
from apps.core import partitions
from apps.core.ids import uuid7

pytestmark = pytest.mark.django_db


def write(number: int = 1, action: str = "thing.changed") -> list[UUID]:
    with transaction.atomic():
        return [
            audit_record(
                actor="test",
                action=action,
                target_type="thing",
                target_id=count,
                before={"n": count},
                after={"n": count + 1},
            )
            for count in range(number)
        ]


def sealed(number: int = 5) -> list[UUID]:
    """`number` records in the order of their seals, after whatever a migrate wrote before."""
    records_seal_all()
    ids = sorted(write(number))
    records_seal_all()
    return ids


def run(statement: str, *values: Any) -> int:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return int(cursor.rowcount)


@contextmanager
def past_the_triggers() -> Iterator[None]:
    """As a superuser who switches the triggers off, for the transaction only."""
    run("SET LOCAL session_replication_role = replica")
    yield
    run("SET LOCAL session_replication_role = origin")


def number_of(record_id: UUID) -> int:
    return int(AuditSeal.objects.get(record_id=record_id).number)


def test_a_record_outside_of_a_transaction_is_a_mistake(transactional_db: None) -> None:
    with pytest.raises(RuntimeError, match="transaction of the change"):
        audit_record(actor=None, action="a", target_type="t", target_id=1, before=None, after=None)


def test_the_record_goes_with_the_change_that_it_tells_of() -> None:
    with suppress(ZeroDivisionError), transaction.atomic():
        write(action="thing.undone")
        _ = 1 / 0

    assert not AuditRecord.objects.filter(action="thing.undone").exists()
    assert chain_verify().violations == []


BARE = (
    "INSERT INTO accounts_auditrecord (id, occurred_at, actor_name, via, action, target_type, target_id, request_id)"
    " VALUES (%s, now(), '', '', 'forged', 't', '1', '')"
)
TABLES = ["accounts_auditrecord", "accounts_auditrecord_default", "accounts_auditseal"]


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize(
    "statement", ["UPDATE {} SET {} = {}", "DELETE FROM {}", "TRUNCATE {}", "TRUNCATE {} CASCADE"]
)
def test_not_even_a_superuser_changes_it_by_accident(table: str, statement: str) -> None:
    sealed()
    # A row in the default partition, too.
    far = uuid7(datetime(2040, 1, 1, tzinfo=UTC))
    run(
        BARE,
        far,
    )
    column = "number" if table.endswith("seal") else "action"
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
        run(statement.format(table, column, column))


def test_every_partition_is_guarded_also_one_that_is_made_later() -> None:
    made = partitions.ensure(
        at=datetime(2033, 3, 3, tzinfo=UTC), months_ahead=1, tables=["accounts_auditrecord"]
    )
    assert made == [f"accounts_auditrecord_2033_{month}" for month in ("02", "03", "04")]

    for partition in made:
        with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
            run(f"TRUNCATE {partition}")
    march = uuid7(datetime(2033, 3, 4, tzinfo=UTC))
    run(
        BARE,
        march,
    )
    with connection.cursor() as cursor:
        cursor.execute("SELECT tableoid::regclass::text FROM accounts_auditrecord WHERE id = %s", [march])
        assert cursor.fetchone()[0] == "accounts_auditrecord_2033_03"
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
        run("DELETE FROM accounts_auditrecord_2033_03")
    assert chain_verify().violations == []


@pytest.mark.parametrize("owns", [False, True], ids=["the application's role", "a role that owns the tables"])
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE {} SET {} = {}",
        "DELETE FROM {}",
        "TRUNCATE {}",
    ],
)
@pytest.mark.parametrize("table", TABLES)
def test_no_role_has_the_privilege(owns: bool, statement: str, table: str) -> None:
    sealed()
    run("CREATE ROLE audited_app NOLOGIN")
    # As docs/deploy.md has it: the role that runs the platform may use every table, and owns none.
    run("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO audited_app")
    run("REVOKE UPDATE, DELETE, TRUNCATE ON accounts_auditrecord, accounts_auditseal FROM audited_app")
    for (partition,) in _partitions():
        run(f"REVOKE UPDATE, DELETE, TRUNCATE ON {partition} FROM audited_app")
    if owns:
        run("GRANT CREATE ON SCHEMA public TO audited_app")
        for one in ("accounts_auditrecord", "accounts_auditseal", *(name for (name,) in _partitions())):
            run(f"ALTER TABLE {one} OWNER TO audited_app")
    column = "number" if table.endswith("seal") else "action"
    run("SET LOCAL ROLE audited_app")
    try:
        with pytest.raises(DatabaseError, match=r"permission denied|must be owner"), transaction.atomic():
            run(statement.format(table, column, column))
        # It can still write what it has to: records, and their seals.
        write()
        assert records_seal() == 1
    finally:
        run("RESET ROLE")


def _partitions() -> list[tuple[str]]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT relid::regclass::text FROM pg_partition_tree('accounts_auditrecord') WHERE isleaf ORDER BY 1"
        )
        return list(cursor.fetchall())


def test_the_applications_role_cannot_switch_the_guards_off() -> None:
    run("CREATE ROLE audited_app NOLOGIN")
    run("GRANT SELECT, INSERT ON accounts_auditrecord TO audited_app")
    for statement in (
        "ALTER TABLE accounts_auditrecord DISABLE TRIGGER ALL",
        "DROP TRIGGER accounts_audit_append_only ON accounts_auditrecord",
        "DROP TABLE accounts_auditrecord_default",
        "SET session_replication_role = replica",
    ):
        run("SET LOCAL ROLE audited_app")
        with pytest.raises(DatabaseError, match=r"must be owner|permission denied"), transaction.atomic():
            run(statement)
        run("RESET ROLE")


def test_the_chain_is_what_its_page_says_it_is() -> None:
    """Computed anew here from the documented form alone."""
    import hashlib
    import json

    sealed(2)
    previous = GENESIS
    for seal in AuditSeal.objects.order_by("number"):
        record = AuditRecord.objects.get(pk=seal.record_id)
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT before::text, after::text FROM accounts_auditrecord WHERE id = %s", [record.pk]
            )
            before, after = cursor.fetchone()
        columns = [
            str(record.id), record.occurred_at.astimezone(UTC).isoformat(timespec="microseconds"),
            record.actor_id and str(record.actor_id), record.actor_name, record.via, record.action,
            record.target_type, record.target_id, before, after, record.address, record.request_id,
        ]  # fmt: skip
        text = json.dumps(columns, separators=(",", ":"), ensure_ascii=False)
        inner = hashlib.sha256(text.encode()).digest()
        previous = hashlib.sha256(previous + seal.number.to_bytes(8, "big") + inner).digest()
        assert bytes(seal.digest) == previous


TAMPERED: list[tuple[str, Callable[[list[UUID]], Any], str]] = [
    (
        "a record altered",
        lambda ids: run("UPDATE accounts_auditrecord SET after = '{\"n\": 99}' WHERE id = %s", ids[1]),
        "record {1}, or the seal, was altered",
    ),
    (
        "an address altered",
        lambda ids: run("UPDATE accounts_auditrecord SET address = '192.0.2.1' WHERE id = %s", ids[1]),
        "record {1}, or the seal, was altered",
    ),
    (
        "a record removed",
        lambda ids: run("DELETE FROM accounts_auditrecord WHERE id = %s", ids[1]),
        "record {1} is gone",
    ),
    (
        "a record with its seal removed",
        lambda ids: [
            run("DELETE FROM accounts_auditrecord WHERE id = %s", ids[1]),
            run("DELETE FROM accounts_auditseal WHERE record_id = %s", ids[1]),
        ],
        "seals #1 to #1 are missing",
    ),
    (
        "a record put in beside the chain",
        lambda ids: run(
            "INSERT INTO accounts_auditrecord (id, occurred_at, actor_name, via, action, target_type, target_id,"
            " request_id) VALUES (%s, now(), '', '', 'forged', 't', '1', '')",
            UUID(int=ids[1].int + 1),
        ),
        "is in no seal",
    ),
    (
        "a record altered and its own seal with it",
        lambda ids: _reseal(ids[1]),
        "record {2}, or the seal, was altered",
    ),
    (
        "two records exchanged",
        lambda ids: run(
            "UPDATE accounts_auditrecord AS one SET action = other.action, target_id = other.target_id FROM"
            " accounts_auditrecord AS other WHERE (one.id, other.id) IN ((%s, %s), (%s, %s))",
            ids[1], ids[2], ids[2], ids[1],
        ),
        "record {1}, or the seal, was altered",
    ),
]  # fmt: skip


def _reseal(record_id: UUID) -> None:
    from apps.accounts.audit.sealing import COLUMNS, record_digest

    run("UPDATE accounts_auditrecord SET actor_name = 'somebody else' WHERE id = %s", record_id)
    number = number_of(record_id)
    before = AuditSeal.objects.filter(number=number - 1).first()
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {COLUMNS} FROM accounts_auditrecord AS record WHERE record.id = %s", [record_id]
        )
        row = cursor.fetchone()
    digest = link_digest(bytes(before.digest) if before else GENESIS, number, record_digest(row))
    run("UPDATE accounts_auditseal SET digest = %s WHERE number = %s", digest, number)


@pytest.mark.parametrize(("tamper", "said"), [one[1:] for one in TAMPERED], ids=[one[0] for one in TAMPERED])
def test_tampering_as_superuser_is_found(tamper: Callable[[list[UUID]], Any], said: str) -> None:
    ids = sealed()
    first = number_of(ids[0])
    assert chain_verify().violations == []
    with past_the_triggers():
        tamper(ids)

    violations = chain_verify().violations

    wanted = said.replace("#1", str(first + 1)).format(*ids)
    assert [one for one in violations if wanted in one], violations
    # What is looked at every few minutes sees it too; a forged record beside the chain waits for the night.
    assert bool(recent_check()[0]) is ("no seal" not in said)


def test_a_tail_that_was_cut_off_is_found_by_what_was_noted() -> None:
    ids = sealed()
    out = StringIO()
    call_command("audit", "verify", stdout=out)
    head = out.getvalue().split()[1]
    assert head.partition(":")[0] == str(number_of(ids[-1]))
    with past_the_triggers():
        run("DELETE FROM accounts_auditseal WHERE record_id = ANY(%s)", ids[3:])
        run("DELETE FROM accounts_auditrecord WHERE id = ANY(%s)", ids[3:])
    # Nothing in the database itself knows of it …
    assert chain_verify().violations == []

    # … but a head that was noted elsewhere does,
    out = StringIO()
    with pytest.raises(SystemExit):
        call_command("audit", "verify", "--anchor", head, stdout=out)
    assert "is gone" in out.getvalue()


def test_a_chain_that_was_computed_anew_is_found_by_the_last_check() -> None:
    ids = sealed()
    AuditCheck.objects.all().delete()
    assert check_advance() is not None
    with past_the_triggers():
        for record_id in ids:
            _reseal(record_id)
    walk_violations = chain_verify().violations

    assert walk_violations == [f"seal {number_of(ids[-1])} is not the one that was noted"]


def test_a_guard_that_is_off_is_found() -> None:
    run("ALTER TABLE accounts_auditrecord_default DISABLE TRIGGER accounts_audit_no_truncate")
    assert audit_chain().violations == [
        "accounts_auditrecord_default lacks its trigger accounts_audit_no_truncate"
    ]


def test_a_sealer_that_stands_still_is_found() -> None:
    write()
    run("UPDATE accounts_auditpending SET queued_at = now() - interval '11 minutes'")
    assert "waited for their seal" in audit_chain().violations[0]
    records_seal_all()
    assert list(audit_chain().violations) == []


def test_the_nightly_check_is_made_once_goes_on_where_it_was_and_tells() -> None:
    ids = sealed(PART + 5)
    AuditCheck.objects.all().delete()

    # No time at all: one part at a time, kept in between.
    assert check_advance(seconds=0) is None
    assert check_advance(seconds=0) is None
    first = AuditCheck.objects.get()
    assert (first.finished_at, first.position) == (None, 0)
    assert check_advance(seconds=30) is not None
    done = AuditCheck.objects.get()
    assert (done.position, done.violations) == (number_of(ids[-1]), [])
    assert done.finished_at is not None
    assert check_advance() is None
    assert AuditCheck.objects.count() == 1

    AuditCheck.objects.update(started_at=datetime(2020, 1, 1, tzinfo=UTC))
    with past_the_triggers():
        run("UPDATE accounts_auditrecord SET action = 'x' WHERE id = %s", ids[7])
    check = check_advance()
    assert check is not None
    assert check.violations == [f"seal {number_of(ids[7])}: record {ids[7]}, or the seal, was altered"]
    assert audit_chain().violations[0].startswith("the last check: seal")


def test_values_lose_nothing_and_secrets_are_masked() -> None:
    from decimal import Decimal

    with transaction.atomic():
        record_id = audit_record(
            actor=None,
            action="thing.changed",
            target_type="thing",
            target_id=uuid7(),
            before={"password": "hunter2", "secret_hash": "ab", "url": "https://user:pw@node", "token": "t"},
            after={
                "amount_units": 10**30, "rate": Decimal("1.10"), "on": True, "n": 5, "nul": "a\x00b", "none": None,
                "nested": {"refresh_token": "r", "list": [1, {"api_secret": "s"}]}, "blob": b"bytes",
            },
        )  # fmt: skip
    record = AuditRecord.objects.get(pk=record_id)
    assert set((record.before or {}).values()) == {"[not shown]"}
    assert record.after == {
        "amount_units": "1" + "0" * 30, "rate": "1.10", "on": True, "n": 5, "nul": "a\N{REPLACEMENT CHARACTER}b",
        "none": None, "nested": {"refresh_token": "[not shown]", "list": [1, {"api_secret": "[not shown]"}]},
        "blob": "[not shown]",
    }  # fmt: skip


@pytest.mark.django_db(transaction=True)
def test_many_writers_and_sealers_make_one_chain_without_gaps() -> None:
    writers, each = 6, 40
    done = threading.Event()

    def writing() -> None:
        for number in range(each):
            with suppress(ZeroDivisionError), transaction.atomic():
                write(2, action="thing.raced")
                if number % 4 == 0:  # some roll back
                    _ = 1 / 0
        connection.close()

    def sealing() -> None:
        while not done.is_set():
            records_seal(limit=7)
        connection.close()

    sealers = [threading.Thread(target=sealing) for _ in range(3)]
    threads = [threading.Thread(target=writing) for _ in range(writers)]
    for thread in [*sealers, *threads]:
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    for thread in sealers:
        thread.join()
    records_seal_all()

    written = AuditRecord.objects.filter(action="thing.raced").count()
    assert written == writers * (each - each // 4) * 2
    assert not AuditPending.objects.exists()
    numbers = list(AuditSeal.objects.order_by("number").values_list("number", flat=True))
    assert numbers == list(range(1, AuditRecord.objects.count() + 1))
    assert chain_verify().violations == []


@pytest.mark.django_db(transaction=True)
def test_a_writer_waits_for_nobody() -> None:
    """One who holds a record uncommitted stops neither another writer nor the sealer; its record is sealed later."""
    records_seal_all()
    holding, go_on = threading.Event(), threading.Event()

    def slow() -> None:
        with transaction.atomic():
            write(action="thing.slow")
            holding.set()
            go_on.wait(20)
        connection.close()

    thread = threading.Thread(target=slow)
    thread.start()
    assert holding.wait(20)
    try:
        run("SET lock_timeout = '500ms'")
        (quick,) = write(action="thing.quick")
        assert records_seal() == 1
        assert AuditSeal.objects.filter(record_id=quick).exists()
    finally:
        run("RESET lock_timeout")
        go_on.set()
        thread.join()
    assert records_seal() == 1
    assert chain_verify().violations == []
