"""How fast mails leave: a token bucket in one row, which all workers take from (PostgreSQL's clock)."""

from django.conf import settings
from django.db import connection, transaction

_NAME = "mail"
_BURST_SECONDS = 2.0
# What is not essential leaves this part of the bucket to what is.
_LEFT_TO_ESSENTIAL = 0.25


def pace_take(wanted: int, *, essential: bool) -> int:
    """How many of `wanted` mails may leave now; the others wait. A transaction of its own: what is taken is taken."""
    rate = float(settings.MAIL_PER_SECOND)
    if rate <= 0 or wanted <= 0:
        return wanted
    burst = max(1.0, rate * _BURST_SECONDS)
    left = 0.0 if essential else burst * _LEFT_TO_ESSENTIAL if burst > 1 else 0.0
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO mail_pace (name, tokens, filled_at) VALUES (%s, %s, clock_timestamp())"
            " ON CONFLICT (name) DO NOTHING",
            [_NAME, burst],
        )
        cursor.execute(
            "WITH held AS (SELECT name, tokens, filled_at FROM mail_pace WHERE name = %(name)s FOR UPDATE),"
            " filled AS (SELECT name, clock_timestamp() AS at, least(%(burst)s, tokens + %(rate)s"
            "  * greatest(0, extract(epoch FROM clock_timestamp() - filled_at))) AS tokens FROM held),"
            " given AS (SELECT name, at, tokens,"
            "  greatest(0, least(%(wanted)s, floor(tokens - %(left)s)))::float8 AS taken FROM filled)"
            " UPDATE mail_pace AS p SET tokens = g.tokens - g.taken, filled_at = g.at FROM given AS g"
            " WHERE p.name = g.name RETURNING g.taken",
            {"name": _NAME, "burst": burst, "rate": rate, "wanted": wanted, "left": left},
        )
        row = cursor.fetchone()
    return int(row[0]) if row else 0
