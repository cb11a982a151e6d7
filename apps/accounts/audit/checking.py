"""Does the chain hold? Bounded parts, so that a log of any length is walked within a task's time."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import monotonic

from django.db import connection
from django.db.models.functions import Now

from apps.accounts.audit.models import AuditCheck, AuditSeal
from apps.accounts.audit.sealing import COLUMNS, GENESIS, link_digest, record_digest

PART = 2_000
VIOLATIONS_MAX = 100
# UTC, by the database's clock.
NIGHT_HOUR = 3
PENDING_MINUTES = 10
_LOCK = "accounts.audit_check"
_TABLES = ("accounts_auditrecord", "accounts_auditseal")


@dataclass
class Walk:
    """How far a walk came: the number and digest of the last seal it saw, and what was wrong."""

    position: int = 0
    digest: bytes = GENESIS
    violations: list[str] = field(default_factory=list)


def chain_walk(walk: Walk, *, upto: int | None = None, limit: int = PART) -> bool:
    """Go on by up to `limit` seals; False when there is none left.

    Each seal is computed from the stored one before, so that one altered record is one violation, not all after it.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT seal.number, seal.record_id, seal.digest, {COLUMNS} FROM accounts_auditseal AS seal"
            " LEFT JOIN accounts_auditrecord AS record ON record.id = seal.record_id"
            " WHERE seal.number > %s AND seal.number <= coalesce(%s, seal.number) ORDER BY seal.number LIMIT %s",
            [walk.position, upto, limit],
        )
        rows = cursor.fetchall()
    for number, record_id, stored, *record in rows:
        if number != walk.position + 1:
            walk.violations.append(f"seals {walk.position + 1} to {number - 1} are missing")
        elif record[0] is None:
            walk.violations.append(f"seal {number}: record {record_id} is gone")
        elif link_digest(walk.digest, number, record_digest(record)) != bytes(stored):
            walk.violations.append(f"seal {number}: record {record_id}, or the seal, was altered")
        walk.position, walk.digest = number, bytes(stored)
    return bool(rows)


def strays() -> list[str]:
    """Records outside of the chain that do not wait for it either: put there past the trigger."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT record.id FROM accounts_auditrecord AS record"
            " WHERE NOT EXISTS (SELECT 1 FROM accounts_auditseal AS seal WHERE seal.record_id = record.id)"
            " AND NOT EXISTS (SELECT 1 FROM accounts_auditpending AS waiting WHERE waiting.record_id = record.id)"
            " LIMIT %s",
            [VIOLATIONS_MAX],
        )
        return [f"record {row[0]} is in no seal" for row in cursor.fetchall()]


def anchors_check(anchors: dict[int, bytes]) -> list[str]:
    """Compare seals with what was noted of them elsewhere: numbers to digests."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT number, digest FROM accounts_auditseal WHERE number = ANY(%s::bigint[])", [list(anchors)]
        )
        stored = {number: bytes(digest) for number, digest in cursor.fetchall()}
    return [
        f"seal {number} is gone" if number not in stored else f"seal {number} is not the one that was noted"
        for number, digest in sorted(anchors.items())
        if stored.get(number) != digest
    ]


def guards_check() -> list[str]:
    """Each table of the log, partitions included, refuses UPDATE, DELETE and TRUNCATE."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT relid::text, guard FROM unnest(%s::text[]) AS root, pg_partition_tree(root::regclass),"
            " unnest(ARRAY['accounts_audit_append_only', 'accounts_audit_no_truncate']) AS guard"
            " WHERE NOT EXISTS (SELECT 1 FROM pg_trigger WHERE tgrelid = relid AND tgname = guard"
            " AND tgenabled IN ('O', 'A')) ORDER BY 1, 2",
            [list(_TABLES)],
        )
        return [f"{table} lacks its trigger {guard}" for table, guard in cursor.fetchall()]


def late_check() -> list[str]:
    """Records wait for their seal for seconds; after minutes the sealer stands still."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM accounts_auditpending WHERE queued_at < now() - make_interval(mins => %s)",
            [PENDING_MINUTES],
        )
        count = cursor.fetchone()[0]
    return [f"{count} records have waited for their seal for over {PENDING_MINUTES} minutes"] if count else []


def heads_noted(limit: int) -> dict[int, bytes]:
    """Where the latest checks ended."""
    done = AuditCheck.objects.filter(finished_at__isnull=False, position__gt=0).order_by("-started_at")
    return {number: bytes(digest) for number, digest in done.values_list("position", "digest")[:limit]}


def chain_verify(*, anchors: dict[int, bytes] | None = None) -> Walk:
    """The whole chain at once, for the command line."""
    walk = Walk()
    while chain_walk(walk):
        pass
    walk.violations += strays() + guards_check() + late_check()
    walk.violations += anchors_check({**heads_noted(100), **(anchors or {})})
    return walk


def check_advance(*, seconds: float = 45.0) -> AuditCheck | None:
    """The nightly check: go on with the one under way for up to `seconds`, or begin one when it is time.

    Returns the check that was finished, else None. Killed anywhere, it goes on from the last part that was saved.
    """
    until = monotonic() + seconds
    # A session's lock and no transaction around the walk: readers of the event log wait for the oldest writer.
    with _alone() as alone:
        check = _check_open() if alone else None
        if check is None:
            return None
        walk = Walk(check.position, bytes(check.digest), list(check.violations))
        more = True
        while more and monotonic() < until:
            more = chain_walk(walk)
        if not more:
            walk.violations += strays() + guards_check() + anchors_check(heads_noted(30))
        check.position, check.digest = walk.position, walk.digest
        check.violations = [one[:300] for one in walk.violations[:VIOLATIONS_MAX]]
        check.finished_at = None if more else Now()
        check.save(update_fields=["position", "digest", "violations", "finished_at"])
        if more:
            return None
        check.refresh_from_db()
    return check


@contextmanager
def _alone() -> Iterator[bool]:
    """Whether this session is the one that checks, for as long as the block runs."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(hashtext(%s))", [_LOCK])
        alone = bool(cursor.fetchone()[0])
    try:
        yield alone
    finally:
        if alone:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(hashtext(%s))", [_LOCK])


def _check_open() -> AuditCheck | None:
    """The check under way; a new one when none began since the night; None when none is due."""
    newest = AuditCheck.objects.order_by("-started_at").first()
    if newest is not None and newest.finished_at is None:
        return newest
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT NOT EXISTS (SELECT 1 FROM accounts_auditcheck WHERE started_at AT TIME ZONE 'UTC' >="
            " date_trunc('day', now() AT TIME ZONE 'UTC' - make_interval(hours => %s)) + make_interval(hours => %s))",
            [NIGHT_HOUR, NIGHT_HOUR],
        )
        due = cursor.fetchone()[0]
    if not due:
        return None
    check = AuditCheck.objects.create(digest=GENESIS)
    check.refresh_from_db()
    return check


def recent_check(*, seals: int = 500) -> tuple[list[str], dict[str, int]]:
    """What can be looked at every few minutes: the newest seals, the guards, and what the last checks found."""
    head = AuditSeal.objects.order_by("-number").first()
    number = head.number if head is not None else 0
    start = max(0, number - seals)
    before = AuditSeal.objects.filter(number=start).first()
    walk = Walk(start, bytes(before.digest) if before is not None else GENESIS)
    while chain_walk(walk, upto=number):
        pass
    found = walk.violations + guards_check() + late_check() + anchors_check(heads_noted(30))
    last = AuditCheck.objects.order_by("-started_at").first()
    found += [f"the last check: {one}" for one in last.violations] if last is not None else []
    return found, {"seals": number}
