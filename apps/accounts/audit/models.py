"""The log, its seals, what waits for one, and the checks that were made of them."""

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models.functions import Now

from apps.core import clock
from apps.core.ids import uuid7


class AuditRecord(models.Model):
    """Somebody did something. Never changed, never deleted: triggers refuse it, and nobody has the privilege.

    Partitioned by month on `id` (UUIDv7). Refers to nothing by a foreign key, so that nothing cascades into it, and
    names people by id alone: what identifies them stands where it can be erased.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    occurred_at = models.DateTimeField(default=clock.now)
    # A person by id; else the part of the platform that did it by name (`manage.py roles`), or nobody known.
    actor_id = models.UUIDField(null=True)
    actor_name = models.CharField(max_length=120, blank=True)
    # With what they came: `admin`, `api_key:<id>`, `session:<id>`.
    via = models.CharField(max_length=64, blank=True)
    action = models.CharField(max_length=80)
    target_type = models.CharField(max_length=64)
    target_id = models.CharField(max_length=64)
    before = models.JSONField(null=True)
    after = models.JSONField(null=True)
    address = models.GenericIPAddressField(null=True)
    request_id = models.CharField(max_length=128, blank=True)

    class Meta:
        indexes = [
            models.Index(fields=["target_id", "id"], name="accounts_audit_target"),
            models.Index(fields=["actor_id", "id"], name="accounts_audit_actor"),
            models.Index(fields=["action", "id"], name="accounts_audit_action"),
        ]

    def __str__(self) -> str:
        return f"{self.action} {self.target_type}:{self.target_id}"


class AuditPending(models.Model):
    """A record that is not sealed yet. Written by a trigger with the record, taken away by its seal."""

    record_id = models.UUIDField(primary_key=True)
    queued_at = models.DateTimeField(db_default=Now())

    def __str__(self) -> str:
        return str(self.record_id)


class AuditSeal(models.Model):
    """Link `number` of the chain: 1, 2, 3 … without gaps. Append-only like the records."""

    number = models.BigIntegerField(primary_key=True)
    record_id = models.UUIDField()
    digest = models.BinaryField(max_length=32)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["record_id"], name="accounts_auditseal_once")]

    def __str__(self) -> str:
        return f"{self.number}:{self.digest.hex()}"


class AuditCheck(models.Model):
    """One walk along the whole chain, a bounded part at a time. `position` and `digest` are how far it came.

    Its times are the database's clock: it says how old the proof is, whatever the business clock was turned to.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    started_at = models.DateTimeField(db_default=Now())
    finished_at = models.DateTimeField(null=True)
    position = models.BigIntegerField(default=0)
    digest = models.BinaryField(max_length=32)
    violations = ArrayField(models.CharField(max_length=300), default=list)

    class Meta:
        indexes = [models.Index(fields=["-started_at"], name="accounts_auditcheck_newest")]

    def __str__(self) -> str:
        return f"{self.started_at:%Y-%m-%d %H:%M}: {self.position} seals, {len(self.violations)} violations"
