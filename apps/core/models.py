"""Assets, the abstract work item, idempotency keys, and the rate limits that outlive Redis."""

import uuid

from django.contrib.postgres.fields import ArrayField
from django.core.validators import MaxValueValidator
from django.db import models
from django.db.models.functions import Now

from apps.core import clock, lookups  # noqa: F401 — registers `any_of`
from apps.core.ids import uuid7
from apps.core.rows import Row


class Asset(models.Model):
    """A unit of account: what amounts are counted in. One asset lives on one network (`chain.Token`)."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    code = models.CharField(max_length=24, unique=True)
    name = models.CharField(max_length=80)
    # Read on chain once when the token is registered, and frozen: changing it would revalue every amount.
    decimals = models.PositiveSmallIntegerField(validators=[MaxValueValidator(36)])
    created_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=models.Q(decimals__lte=36), name="core_asset_decimals_range")
        ]

    def __str__(self) -> str:
        return self.code


class WorkItem(Row):
    """Something long-running that a person can see: `apps.core.work` claims, advances, retries and buries it.

    The subclass owns `state`. `run_after` is business time; the lease runs on PostgreSQL's clock. `attempts`
    counts tries of the present step and is raised before the work begins. A buried item keeps its state, so
    that a retry goes on where it stopped.
    """

    run_after = models.DateTimeField(default=clock.now)
    attempts = models.PositiveSmallIntegerField(default=0, db_default=0)
    lease_token = models.UUIDField(null=True, blank=True, editable=False)
    leased_until = models.DateTimeField(null=True, blank=True, editable=False)
    buried_at = models.DateTimeField(null=True, blank=True)
    last_error = models.TextField(blank=True, default="", db_default="")
    created_at = models.DateTimeField(default=clock.now, editable=False)
    updated_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        abstract = True


class IdempotencyKey(models.Model):
    """The stored answer to a write, written in the effect's own transaction.

    Scope: principal, method, route, key. `fingerprint` is the SHA-256 of the request body.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    principal = models.CharField(max_length=80)
    method = models.CharField(max_length=8)
    route = models.CharField(max_length=200)
    key = models.CharField(max_length=255)
    fingerprint = models.CharField(max_length=64)
    status_code = models.PositiveSmallIntegerField(null=True)
    response = models.JSONField(null=True)
    headers = models.JSONField(default=dict)
    created_at = models.DateTimeField(default=clock.now)
    expires_at = models.DateTimeField(db_index=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["principal", "method", "route", "key"], name="core_idempotencykey_scope"
            )
        ]

    def __str__(self) -> str:
        return f"{self.method} {self.route} {self.key}"


class RateWindow(models.Model):
    """The instants of the last requests that a limit admitted, the newest first (`apps.core.api.limits`).

    An unlogged table: it costs no write-ahead log, and a database that crashed starts with empty windows.
    """

    key = models.CharField(max_length=120, primary_key=True)
    hits = ArrayField(models.DateTimeField())

    def __str__(self) -> str:
        return self.key


class WorkProbe(WorkItem):
    """A durable item that does nothing: what `make bench` and the chaos tests push through the engine."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    state = models.CharField(max_length=16, default="open")
    passes = models.PositiveIntegerField(default=0)

    class Meta:
        indexes = [
            models.Index(
                fields=["run_after", "id"],
                condition=models.Q(buried_at__isnull=True, state="open"),
                name="core_workprobe_due",
            )
        ]

    def __str__(self) -> str:
        return str(self.id)
