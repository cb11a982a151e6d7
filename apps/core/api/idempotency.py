"""Idempotency keys: a write that is sent twice happens once and is answered twice (design.md).

The key's row is written in the effect's own transaction, so that there is never an effect without its stored
answer nor an answer without its effect. A transaction-level advisory lock tells a request in flight from one
that is done without making anybody wait; the unique constraint is what finally holds.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import wraps
from hashlib import sha256
from typing import Any, TypedDict

from django.db import connection, transaction
from django.http import HttpResponse
from django.http.response import HttpResponseBase
from rest_framework.request import Request
from rest_framework.response import Response

from apps.core import clock
from apps.core.api.problems import ProblemError
from apps.core.api.renderers import json_bytes
from apps.core.models import IdempotencyKey

HEADER = "Idempotency-Key"
REPLAYED_HEADER = "Idempotent-Replayed"
_KEY_FORM = re.compile(r"[\x21-\x7e]{1,255}", re.ASCII)
# What a stored answer keeps beside its body.
_HEADERS_KEPT = ("Location",)


class IdempotencyOptions(TypedDict):
    required: bool
    keep: timedelta


DAY: IdempotencyOptions = {"required": False, "keep": timedelta(hours=24)}
MONEY: IdempotencyOptions = {"required": True, "keep": timedelta(days=30)}


# Asked by every write with a key: written once, not by the ORM each time.
_FIND = """
SELECT fingerprint, status_code, response, headers FROM core_idempotencykey
WHERE principal = %s AND method = %s AND route = %s AND key = %s AND expires_at > %s
"""


@dataclass(frozen=True)
class Scope:
    """Whose key, for what. The path is the route with its ids: the same key elsewhere is another key."""

    principal: str
    method: str
    route: str
    key: str

    @property
    def lock(self) -> int:
        """A signed 64-bit name for `pg_try_advisory_xact_lock`."""
        text = "\0".join(("core.idempotency", self.principal, self.method, self.route, self.key))
        return int.from_bytes(sha256(text.encode()).digest()[:8], "big", signed=True)


class _RefusedError(Exception):
    """Carries an error answer out of the transaction, so that the transaction rolls back."""

    def __init__(self, response: HttpResponseBase) -> None:
        super().__init__("not stored")
        self.response = response


Handler = Callable[..., Response]


def idempotent(
    *, required: bool = False, keep: timedelta = DAY["keep"], redact: Sequence[str] = ()
) -> Callable[[Handler], Callable[..., HttpResponseBase]]:
    """Run a view's method once per key, inside one transaction together with the key's row.

    `redact` names top-level members of the answer that are secrets: the stored answer has `null` there.
    A failed attempt, by exception or by an answer of 400 and above, rolls back and leaves no row.
    """

    def decorate(handler: Handler) -> Callable[..., HttpResponseBase]:
        @wraps(handler)
        def run(view: Any, request: Request, *args: Any, **kwargs: Any) -> HttpResponseBase:
            key = _key_of(request, required=required)
            try:
                with transaction.atomic():
                    if key is None:
                        return _checked(handler(view, request, *args, **kwargs))
                    scope = Scope(f"user:{request.user.pk}", str(request.method), request.path, key)
                    fingerprint = body_fingerprint(request.data)
                    stored = _stored_answer(scope, fingerprint)
                    if stored is not None:
                        return stored
                    response = _checked(handler(view, request, *args, **kwargs))
                    _store(scope, fingerprint, response, keep=keep, redact=redact)
                    return response
            except _RefusedError as refused:
                return refused.response

        run.idempotency = {"required": required, "keep": keep}  # type: ignore[attr-defined]
        return run

    return decorate


def body_fingerprint(data: Any) -> str:
    """SHA-256 of the body's canonical JSON: a retry may be written differently, it must mean the same."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return sha256(text.encode()).hexdigest()


def idempotency_keys_purge(*, limit: int = 5_000) -> int:
    """Delete up to `limit` expired keys; returns how many. Two purges at once skip each other's rows."""
    with connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM core_idempotencykey WHERE id IN (SELECT id FROM core_idempotencykey"
            " WHERE expires_at <= %s ORDER BY expires_at LIMIT %s FOR UPDATE SKIP LOCKED)",
            [clock.now(), limit],
        )
        return int(cursor.rowcount)


def _key_of(request: Request, *, required: bool) -> str | None:
    key: str | None = request.headers.get(HEADER)
    if key is None:
        if required:
            raise ProblemError("idempotency_key_required")
        return None
    if not _KEY_FORM.fullmatch(key):
        raise ProblemError("idempotency_key_invalid")
    return key


def _checked(response: Response) -> Response:
    if response.status_code >= 400:
        raise _RefusedError(response)
    return response


def _lock_try(scope: Scope) -> bool:
    """Hold the scope until the transaction ends; false when another transaction holds it."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [scope.lock])
        return bool(cursor.fetchone()[0])


def _in_progress() -> ProblemError:
    return ProblemError("request_in_progress", headers={"Retry-After": "1"})


def _stored_answer(scope: Scope, fingerprint: str) -> HttpResponse | None:
    """The answer of the first time, or `None` when this is the first time. Raises 409 and 422.

    The row is read in a statement after the lock: a row committed just before the lock was free is then seen.
    """
    if not _lock_try(scope):
        raise _in_progress()
    with connection.cursor() as cursor:
        cursor.execute(_FIND, [scope.principal, scope.method, scope.route, scope.key, clock.now()])
        row = cursor.fetchone()
    if row is None:
        return None
    known, status, body, headers = row
    if known != fingerprint:
        raise ProblemError("idempotency_key_reused")
    answer = HttpResponse(
        json.loads(body), status=status, content_type="application/json", headers=json.loads(headers)
    )
    answer[REPLAYED_HEADER] = "true"
    return answer


def _store(
    scope: Scope, fingerprint: str, response: Response, *, keep: timedelta, redact: Sequence[str]
) -> None:
    """Write the row, in place of an expired one. The body is kept as text: a replay is the same bytes."""
    data: Any = response.data
    if redact and isinstance(data, Mapping):
        data = {**data, **dict.fromkeys(redact)}
    now = clock.now()
    row = IdempotencyKey(
        principal=scope.principal,
        method=scope.method,
        route=scope.route,
        key=scope.key,
        fingerprint=fingerprint,
        status_code=response.status_code,
        response="" if data is None else json_bytes(data).decode(),
        headers={name: response[name] for name in _HEADERS_KEPT if name in response},
        created_at=now,
        expires_at=now + keep,
    )
    if _insert(row):
        return
    # The row that stands there is an expired one, unless the lock was not what it seems.
    IdempotencyKey.objects.filter(
        principal=scope.principal, method=scope.method, route=scope.route, key=scope.key, expires_at__lte=now
    ).delete()
    if not _insert(row):
        raise _in_progress()


def _insert(row: IdempotencyKey) -> bool:
    """Insert unless the scope is taken; waits for a transaction that is just inserting the same scope."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO core_idempotencykey (id, principal, method, route, key, fingerprint, status_code,"
            " response, headers, created_at, expires_at) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
            " ON CONFLICT (principal, method, route, key) DO NOTHING",
            [
                row.id,
                row.principal,
                row.method,
                row.route,
                row.key,
                row.fingerprint,
                row.status_code,
                json.dumps(row.response),
                json.dumps(row.headers),
                row.created_at,
                row.expires_at,
            ],
        )
        return bool(cursor.rowcount)
