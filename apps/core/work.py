"""The work-item engine: PostgreSQL is the queue of record (design.md, idea 3).

A kind of work (`Work`) says which rows are due and how a chunk of them moves one step on. The engine claims due
rows with `FOR UPDATE SKIP LOCKED` and a lease on PostgreSQL's clock, counts the attempt before working, retries
with backoff and jitter, and buries after `max_attempts`. Whatever dies, the row says what is left to do.

Two kinds of step:

* transactional (`advance(rows)`): the engine opens one transaction, locks the rows that are still ours, and calls
  `advance`; the change of state and everything it implies commit together, or not at all.
* outside effects (`perform(claim)`): the step speaks to the outside between its transactions, and opens each of
  them with `claim.locked()`, which proves that the lease is still held. It gets its rows one by one, or, for a kind
  that is `whole`, the chunk at once.

Poison: an error in a chunk bisects it until the bad row stands alone. A row whose worker vanished twice is
claimed alone, so that what kills workers takes nobody along, and is buried when its attempts are used up.
"""

import gc
import logging
import random
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from time import monotonic
from typing import Any, Generic, TypeVar

from django.conf import settings
from django.db import connection, transaction
from django.db.utils import InterfaceError, OperationalError
from psycopg import sql

from apps.core import bulk, clock, doorbell, failpoints
from apps.core.errors import Retryable, Terminal
from apps.core.models import WorkItem

logger = logging.getLogger(__name__)

T = TypeVar("T", bound=WorkItem)

# What a handler's own UPDATE sets when a row has made its step: progress clears lease, attempts and error, which
# saves the engine a second write per row.
STEPPED = "lease_token = NULL, leased_until = NULL, attempts = 0, last_error = '', updated_at = now()"


@dataclass(frozen=True)
class Work(Generic[T]):
    """One kind of step over one table. `name` is also the name of its doorbell and of its Celery task.

    `lease_seconds` bounds how long a dead worker's rows wait; the row locks of a running transaction outlast it.
    """

    name: str
    model: type[T]
    states: tuple[str, ...]
    advance: Callable[[list[T]], None] | None = None
    perform: Callable[["Claim[T]"], None] | None = None
    # `perform` gets the whole chunk in one claim, for steps that ask the outside about many rows at once.
    whole: bool = False
    on_bury: Callable[[list[T]], None] | None = None
    # `run_after` is business time (a plan's next occurrence): a failure must not move it, it waits by lease.
    keeps_run_after: bool = False
    # Columns that the step does not read: thousands of rows are cheaper without them.
    unread: tuple[str, ...] = ()
    # A row that waits (`Claim.wait`) is looked at once per ring, however short its wait: else many such rows would
    # keep each other due, and one drain busy to the end of its budget.
    once_per_drain: bool = False
    # Two processes that claim at once share the due rows between them. For a step that makes one of many rows, that is
    # two where one would do: here the second waits until the first has claimed, and finds what is left.
    claims_alone: bool = False
    # Of the rows that fell due at one instant those with the same value of this column are claimed together. It is the
    # second column of the index of what is due.
    together: str = ""
    # What else is true of every row in `states`, when that and not `states` is the condition of the index of what is
    # due: an UPDATE of the state alone then leaves the index as it is.
    indexed_where: str = ""
    chunk: int = 500
    lease_seconds: float = 15.0
    max_attempts: int = 8
    backoff_seconds: float = 1.0
    backoff_cap_seconds: float = 300.0

    def __post_init__(self) -> None:
        if (self.advance is None) == (self.perform is None):
            raise ValueError(f"{self.name}: give either advance or perform")

    @property
    def table(self) -> sql.Identifier:
        return sql.Identifier(self.model._meta.db_table)

    def in_states(self) -> sql.Composed:
        """Rows of this kind, due or not."""
        states = sql.SQL(", ").join(map(sql.Literal, self.states))
        indexed = sql.SQL(f" AND {self.indexed_where}" if self.indexed_where else "")
        return sql.SQL("item.state IN ({states}){indexed}").format(states=states, indexed=indexed)

    def due_condition(self) -> sql.Composed:
        """Due rows, in the shape of the partial index (state, buried_at) on run_after."""
        return sql.SQL(
            "{in_states} AND item.buried_at IS NULL AND item.run_after <= %(now)s"
            " AND (item.leased_until IS NULL OR item.leased_until < clock_timestamp())"
        ).format(in_states=self.in_states())

    def order(self) -> sql.Composed:
        """Which of the due rows come first: the order of their index."""
        columns = ["run_after", *filter(None, [self.together]), "id"]
        return sql.SQL(", ").join(sql.Identifier("item", column) for column in columns)


@dataclass
class Claim(Generic[T]):
    """Rows leased to this process under one token; `suspect` when it is one that was lost with its worker twice."""

    work: Work[T]
    token: uuid.UUID
    ids: list[Any]
    suspect: bool = False
    stepped: set[Any] = field(default_factory=set)

    @contextmanager
    def locked(self, ids: Sequence[Any] | None = None) -> Iterator[list[T]]:
        """Open a transaction and lock those of our rows that are still leased to us, in id order.

        Rows whose lease somebody else took over are left out: their step is no longer ours to make.
        """
        with transaction.atomic():
            yield list(
                self.work.model._default_manager.defer(*self.work.unread)
                .select_for_update(of=("self",))
                .filter(pk__any_of=self.ids if ids is None else ids, lease_token=self.token)
                .order_by("pk")
            )

    def step(self, ids: Sequence[Any]) -> None:
        """These rows made their step: release them. Call inside `locked()`, after the change of state."""
        _execute(
            sql.SQL(
                "UPDATE {table} SET "
                + STEPPED
                + " WHERE id = ANY(%(ids)s::uuid[]) AND lease_token = %(token)s"
            ).format(table=self.work.table),
            {"ids": bulk.uuids(ids), "token": self.token},
        )
        self.stepped.update(ids)

    def wait(self, ids: Sequence[Any], *, seconds: float) -> None:
        """Nothing to do yet for these rows (not a failure): look again after `seconds`."""
        _execute(
            sql.SQL(
                "UPDATE {table} SET " + STEPPED + ", run_after = %(now)s + make_interval(secs => %(seconds)s)"
                " WHERE id = ANY(%(ids)s::uuid[]) AND lease_token = %(token)s"
            ).format(table=self.work.table),
            {"ids": bulk.uuids(ids), "token": self.token, "seconds": seconds, "now": clock.now()},
        )
        self.stepped.update(ids)

    def fail(self, ids: Sequence[Any], error: Exception) -> None:
        """These rows failed, the others of the chunk did not: later with backoff, or buried. Opens its transaction."""
        _fail(Claim(self.work, self.token, list(ids)), error)


_kinds: dict[str, Work[Any]] = {}


def register(work: Work[T]) -> Work[T]:
    """Make a kind known to the tick, to dead letters, to `rebuild_queue` and to the metrics."""
    _kinds[work.name] = work
    return work


def kinds() -> list[Work[Any]]:
    return [_kinds[name] for name in sorted(_kinds)]


def drain(work: Work[T], *, groups: Sequence[Any] | None = None, budget_seconds: float = 20.0) -> int:
    """Work on due rows until none is left or the budget is spent; returns how many rows were handled.

    With `groups` only on rows with one of these values in the kind's `together` column. When the budget ends first
    the bell is rung again, so that other queues get their turn in between.
    """
    started = monotonic()
    until = clock.now() if work.once_per_drain else None
    handled = 0
    while True:
        claim = claim_due(work, at=until, groups=groups)
        if not claim.ids:
            return handled
        with _uncollected():
            _work_on(claim)
        handled += len(claim.ids)
        if monotonic() - started > budget_seconds:
            doorbell.ring(work.name)
            return handled


def drain_chunk(work: Work[T]) -> int:
    """Work on one chunk of due rows; returns how many there were.

    A full chunk says that there are more, and a suspect was taken alone: the bell is rung before the work begins, for
    whoever is free meanwhile.
    """
    claim = claim_due(work)
    if len(claim.ids) == work.chunk or claim.suspect:
        doorbell.ring(work.name)
    if claim.ids:
        with _uncollected():
            _work_on(claim)
    return len(claim.ids)


@contextmanager
def _uncollected() -> Iterator[None]:
    """No cyclic garbage collection while a chunk is worked on: it would walk thousands of live rows again and again.

    What a chunk leaves behind goes by reference count; cycles wait for the end of the chunk, which bounds them.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def claim_due(work: Work[T], *, at: datetime | None = None, groups: Sequence[Any] | None = None) -> Claim[T]:
    """Lease up to `work.chunk` rows due now (or `at`), counting the attempt, in a transaction of its own.

    With `groups` only rows with one of these values in the kind's `together` column.
    """
    token = uuid.uuid4()
    parameters = {
        "now": at or clock.now(),
        "token": token,
        "limit": work.chunk,
        "lease": work.lease_seconds * settings.LEASE_SCALE,
        "max": work.max_attempts,
        "groups": None if groups is None else list(groups),
    }
    # A row whose lease ran out was lost with its worker. After the second loss it is a suspect.
    suspect = sql.SQL("item.lease_token IS NOT NULL AND item.attempts >= 2")
    alone = False
    with transaction.atomic():
        if work.claims_alone:
            _execute(
                sql.SQL("SELECT pg_advisory_xact_lock(hashtext(%(name)s))"), {"name": f"work.{work.name}"}
            )
        ids = _claim(work, sql.SQL("NOT (") + suspect + sql.SQL(")"), parameters)
        if not ids:
            _bury_lost(work, suspect, parameters)
            ids = _claim(work, suspect, {**parameters, "limit": 1})
            alone = bool(ids)
    failpoints.reach(f"work.{work.name}.claimed", ids)
    return Claim(work, token, ids, suspect=alone)


def _claim(work: Work[T], condition: sql.Composable, parameters: dict[str, Any]) -> list[Any]:
    rows = _execute(
        sql.SQL(
            "UPDATE {table} AS taken SET attempts = taken.attempts + 1, lease_token = %(token)s,"
            " leased_until = clock_timestamp() + make_interval(secs => %(lease)s)"
            " FROM (SELECT item.id FROM {table} AS item WHERE {due} AND {condition}{in_groups}"
            "       ORDER BY {order} LIMIT %(limit)s FOR UPDATE SKIP LOCKED) AS due"
            " WHERE taken.id = due.id RETURNING taken.id"
        ).format(
            table=work.table,
            due=work.due_condition(),
            condition=condition,
            in_groups=_in_groups(work, parameters),
            order=work.order(),
        ),
        parameters,
    )
    return sorted(row[0] for row in rows)


def _in_groups(work: Work[Any], parameters: dict[str, Any]) -> sql.Composable:
    if parameters["groups"] is None:
        return sql.SQL("")
    return sql.SQL(" AND {column} = ANY(%(groups)s)").format(column=sql.Identifier("item", work.together))


def _bury_lost(work: Work[T], suspect: sql.Composable, parameters: dict[str, Any]) -> None:
    rows = _execute(
        sql.SQL(
            "SELECT item.id FROM {table} AS item WHERE {due} AND {suspect} AND item.attempts >= %(max)s"
            " LIMIT %(limit)s FOR UPDATE SKIP LOCKED"
        ).format(table=work.table, due=work.due_condition(), suspect=suspect),
        parameters,
    )
    if rows:
        _bury(work, [row[0] for row in rows], "the worker was lost each time it worked on this")


def _work_on(claim: Claim[T]) -> None:
    work = claim.work
    if work.perform is None:
        _bisect(claim, claim.ids, _advance)
    elif work.whole:
        _bisect(claim, claim.ids, work.perform)
    else:
        for pk in claim.ids:
            one = Claim(work, claim.token, [pk])
            _guarded(one, partial(work.perform, one))


def _advance(part: Claim[T]) -> None:
    """One transaction for all rows of `part`."""
    work = part.work
    with part.locked() as held:
        # Between claim and lock somebody may have moved a row on: its step is no longer wanted.
        rows = [row for row in held if row.state in work.states]  # type: ignore[attr-defined]
        if rows and work.advance is not None:
            work.advance(rows)
        part.step([row.pk for row in held])
        failpoints.reach(f"work.{work.name}.before_commit")
    failpoints.reach(f"work.{work.name}.after_commit")


def _bisect(claim: Claim[T], ids: list[Any], run: Callable[[Claim[T]], None]) -> None:
    """`run` for all of `ids` at once; on an error that is one row's fault, halve until it stands alone."""
    work = claim.work
    part = Claim(work, claim.token, ids)
    if len(ids) == 1:
        _guarded(part, partial(run, part))
        return
    try:
        run(part)
    except Retryable as error:
        _fail(part, error)
        return
    except (OperationalError, InterfaceError):
        # The database itself: nothing can be recorded now. The lease runs out and the rows are claimed again.
        raise
    except Exception as error:  # noqa: BLE001 — whatever it is, it must not take the other rows along
        logger.warning(
            "chunk failed, bisecting", extra={"work": work.name, "rows": len(ids), "error": repr(error)}
        )
    else:
        return
    middle = len(ids) // 2
    _bisect(claim, ids[:middle], run)
    _bisect(claim, ids[middle:], run)


def _guarded(claim: Claim[T], run: Callable[[], None]) -> None:
    try:
        run()
    except (OperationalError, InterfaceError):
        raise
    except Exception as error:  # noqa: BLE001 — recorded on the row, logged with its traceback
        _fail(claim, error)


def _fail(claim: Claim[T], error: Exception) -> None:
    """Record the failure: later with backoff, or buried.

    Messages are ours, or what a library says of its own; PostgreSQL's come without the row (`core.postgresql`).
    """
    work = claim.work
    message = str(error) if isinstance(error, Retryable | Terminal) else f"{type(error).__name__}: {error}"
    level = logging.INFO if isinstance(error, Retryable) else logging.ERROR
    logger.log(level, "work failed", extra={"work": work.name, "rows": len(claim.ids)}, exc_info=error)
    with claim.locked() as rows:
        hopeless = [
            row.pk for row in rows if isinstance(error, Terminal) or row.attempts >= work.max_attempts
        ]
        again = [row.pk for row in rows if row.pk not in set(hopeless)]
        if hopeless:
            _bury(work, hopeless, message)
        if again:
            attempts = max(row.attempts for row in rows)
            delay = error.after_seconds if isinstance(error, Retryable) and error.after_seconds else None
            pause = "leased_until = clock_timestamp()" if work.keeps_run_after else "leased_until = NULL"
            later = "" if work.keeps_run_after else ", run_after = %(now)s + make_interval(secs => %(delay)s)"
            pause += " + make_interval(secs => %(delay)s)" if work.keeps_run_after else ""
            _execute(
                sql.SQL(
                    "UPDATE {table} SET lease_token = NULL, "
                    + pause
                    + later
                    + ", last_error = %(error)s, updated_at = now() WHERE id = ANY(%(ids)s)"
                ).format(table=work.table),
                {
                    "ids": again,
                    "error": message[:2000],
                    "now": clock.now(),
                    "delay": backoff(work, attempts) if delay is None else delay,
                },
            )


def backoff(work: Work[Any], attempts: int) -> float:
    """Seconds before the next try: exponential with full jitter in the upper half, to the kind's cap."""
    ceiling = min(work.backoff_cap_seconds, work.backoff_seconds * 2.0 ** min(attempts - 1, 20))
    return ceiling * random.uniform(0.5, 1.0)  # noqa: S311 — jitter, not a secret


def _bury(work: Work[T], ids: list[Any], message: str) -> None:
    _execute(
        sql.SQL(
            "UPDATE {table} SET buried_at = %(now)s, lease_token = NULL, leased_until = NULL,"
            " last_error = %(error)s, updated_at = now() WHERE id = ANY(%(ids)s)"
        ).format(table=work.table),
        {"ids": ids, "now": clock.now(), "error": message[:2000]},
    )
    logger.error(
        "work buried", extra={"work": work.name, "ids": [str(pk) for pk in ids], "error": message[:200]}
    )
    if work.on_bury is not None:
        work.on_bury(list(work.model._default_manager.filter(pk__any_of=ids).order_by("pk")))


def due_names() -> list[str]:
    """The kinds that have due rows now: what the beat tick rings. One statement, one index probe per kind."""
    if not _kinds:
        return []
    probes = [
        sql.SQL("SELECT {name} WHERE EXISTS (SELECT 1 FROM {table} AS item WHERE {due})").format(
            name=sql.Literal(work.name), table=work.table, due=work.due_condition()
        )
        for work in kinds()
    ]
    rows = _execute(sql.SQL(" UNION ALL ").join(probes), {"now": clock.now()})
    return [row[0] for row in rows]


def depths() -> dict[str, dict[str, int]]:
    """Per kind: rows due now, leased, and buried. For metrics, health and operators."""
    found = {}
    for work in kinds():
        rows = _execute(
            sql.SQL(
                "SELECT count(*) FILTER (WHERE {due}),"
                " count(*) FILTER (WHERE item.leased_until >= clock_timestamp()),"
                " count(*) FILTER (WHERE item.buried_at IS NOT NULL)"
                " FROM {table} AS item WHERE {in_states}"
            ).format(due=work.due_condition(), table=work.table, in_states=work.in_states()),
            {"now": clock.now()},
        )
        due, leased, buried = rows[0]
        found[work.name] = {"due": due, "leased": leased, "buried": buried}
    return found


def dead_letters(*, name: str | None = None, limit: int = 100) -> list[tuple[Work[Any], WorkItem]]:
    """Buried items, newest first, of one kind or of all."""
    found: list[tuple[Work[Any], WorkItem]] = []
    for work in kinds():
        if name is None or work.name == name:
            buried = work.model._default_manager.filter(buried_at__isnull=False, state__in=work.states)
            found.extend((work, item) for item in buried.order_by("-buried_at")[:limit])
    found.sort(key=lambda pair: pair[1].buried_at or pair[1].created_at, reverse=True)
    return found[:limit]


def retry(work: Work[Any], *, ids: Sequence[Any] | None = None) -> int:
    """Dig buried items up: they go on with the step in which they were buried. Returns how many."""
    condition = sql.SQL("") if ids is None else sql.SQL(" AND id = ANY(%(ids)s)")
    with transaction.atomic():
        rows = _execute(
            sql.SQL(
                "UPDATE {table} SET buried_at = NULL, attempts = 0, leased_until = NULL, updated_at = now()"
                + ("" if work.keeps_run_after else ", run_after = %(now)s")
                + " WHERE buried_at IS NOT NULL AND state IN ({states})"
                + "{condition} RETURNING id"
            ).format(
                table=work.table,
                condition=condition,
                states=sql.SQL(", ").join(map(sql.Literal, work.states)),
            ),
            {"now": clock.now(), "ids": [work.model._meta.pk.to_python(pk) for pk in ids or []]},
        )
        doorbell.ring(work.name)
    return len(rows)


def _execute(query: sql.Composable, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(query, parameters)
        return list(cursor.fetchall()) if cursor.description else []
