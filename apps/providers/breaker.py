"""A breaker per venue, kept in rows so that all processes share it, on PostgreSQL's clock.

Five failures in a row open it for half a minute; when that has passed, one caller at a time probes. A success
closes it, a failed probe opens it for twice as long, up to ten minutes.
"""

from collections.abc import Mapping, Sequence
from uuid import UUID

from django.db import connection

FAILURES_TO_OPEN = 5
OPEN_SECONDS = 30
OPEN_SECONDS_CAP = 600
PROBE_SECONDS = 10

# A failure opens the breaker when it is the last straw or the probe's; not when it is a straggler
# that was sent before the breaker opened and comes home while it is open.
_OPENS = (
    "((health.open_until IS NULL AND health.consecutive_failures + 1 >= %(threshold)s)"
    " OR health.open_until <= clock_timestamp())"
)
_FAILED = f"""
INSERT INTO providers_venuehealth AS health (venue_id, consecutive_failures, last_failure_at, last_error)
SELECT id, 1, clock_timestamp(), error FROM unnest(%(ids)s::uuid[], %(errors)s::text[]) AS given (id, error)
ON CONFLICT (venue_id) DO UPDATE SET
    consecutive_failures = health.consecutive_failures + 1,
    last_failure_at = excluded.last_failure_at,
    last_error = excluded.last_error,
    times_opened = health.times_opened + CASE WHEN {_OPENS} THEN 1 ELSE 0 END,
    open_until = CASE
        WHEN {_OPENS} THEN clock_timestamp()
            + make_interval(secs => least(%(cap)s, %(open)s * 2 ^ least(health.times_opened, 16)))
        ELSE health.open_until
    END,
    probe_until = NULL,
    updated_at = clock_timestamp()
"""


def breaker_admit(*, venue_ids: Sequence[UUID]) -> set[UUID]:
    """The venues that may be asked now. For an open one whose time has passed, this takes the probe.

    Two statements. The probe is taken by a conditional UPDATE: of two callers at once, the second finds the
    row changed and goes without.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT venue_id, open_until <= clock_timestamp() FROM providers_venuehealth"
            " WHERE venue_id = ANY(%s) AND open_until IS NOT NULL",
            [list(venue_ids)],
        )
        opened = dict(cursor.fetchall())
        admitted = set(venue_ids) - set(opened)
        ripe = [venue_id for venue_id, over in opened.items() if over]
        if ripe:
            cursor.execute(
                "UPDATE providers_venuehealth"
                " SET probe_until = clock_timestamp() + make_interval(secs => %s),"
                " updated_at = clock_timestamp()"
                " WHERE venue_id = ANY(%s) AND open_until <= clock_timestamp()"
                " AND (probe_until IS NULL OR probe_until <= clock_timestamp()) RETURNING venue_id",
                [PROBE_SECONDS, ripe],
            )
            admitted |= {row[0] for row in cursor.fetchall()}
    return admitted


def breaker_record(*, succeeded: Sequence[UUID], failed: Mapping[UUID, str]) -> None:
    """Note outcomes; `failed` maps a venue to what went wrong. At most two statements.

    A success writes only when it changes something (or once a minute): a healthy venue is no hot row.
    """
    with connection.cursor() as cursor:
        if succeeded:
            cursor.execute(
                "INSERT INTO providers_venuehealth AS health (venue_id, last_success_at)"
                " SELECT id, clock_timestamp() FROM unnest(%s::uuid[]) AS given (id) ORDER BY id"
                " ON CONFLICT (venue_id) DO UPDATE SET consecutive_failures = 0, times_opened = 0,"
                " open_until = NULL, probe_until = NULL, last_success_at = excluded.last_success_at,"
                " updated_at = clock_timestamp()"
                " WHERE health.consecutive_failures > 0 OR health.open_until IS NOT NULL"
                " OR health.last_success_at IS NULL"
                " OR health.last_success_at < clock_timestamp() - interval '1 minute'",
                [list(succeeded)],
            )
        if failed:
            ordered = sorted(failed)
            cursor.execute(
                _FAILED,
                {
                    "ids": ordered,
                    "errors": [failed[venue_id][:500] for venue_id in ordered],
                    "threshold": FAILURES_TO_OPEN,
                    "open": OPEN_SECONDS,
                    "cap": OPEN_SECONDS_CAP,
                },
            )
