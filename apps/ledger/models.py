"""Accounts, journals and entries. What holds here is held by the database: see migration 0002.

Nothing but posting entries changes a balance; journals and entries are never changed or deleted; accounts are
never deleted. Write through `services`, read through `selectors`.
"""

from datetime import datetime
from uuid import UUID

from django.db import models

from apps.core import clock
from apps.core.fields import UnitsField
from apps.core.ids import uuid7, uuid7_time
from apps.core.models import Asset
from apps.ledger.domain import CREDIT_NORMAL, DEBIT_NORMAL, KIND_MAX_LENGTH, PERSONAL, REFERENCE_MAX_LENGTH

NIL = UUID(int=0)

_CREDIT = sorted(kind.value for kind in CREDIT_NORMAL)
_DEBIT = sorted(kind.value for kind in DEBIT_NORMAL)
_PERSONAL = sorted(kind.value for kind in PERSONAL)


class Account(models.Model):
    """One asset of one holder for one purpose (`domain.AccountKind`), with its running balance.

    `owner_id` is a plain column: the ledger stands below nobody's user table and outlives its rows.
    `last_entry_id` is the account's newest entry; the next one's id must be greater, so that the order of ids
    is the order of posting and a balance as of any instant is one index look-up.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    kind = models.CharField(max_length=16)
    asset = models.ForeignKey(Asset, on_delete=models.PROTECT, related_name="+")
    owner_id = models.UUIDField(null=True, blank=True)
    ref = models.CharField(max_length=100, blank=True, default="", db_default="")
    balance_units = UnitsField(default=0, db_default=0, editable=False)
    last_entry_id = models.UUIDField(default=NIL, db_default=NIL, editable=False)
    created_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["owner_id", "asset", "kind", "ref"], name="ledger_account_key", nulls_distinct=False
            ),
            models.CheckConstraint(
                condition=models.Q(kind__in=_CREDIT, balance_units__gte=0)
                | models.Q(kind__in=_DEBIT, balance_units__lte=0),
                name="ledger_account_no_overdraft",
            ),
            models.CheckConstraint(
                condition=models.Q(kind__in=_PERSONAL, owner_id__isnull=False)
                | (~models.Q(kind__in=_PERSONAL) & models.Q(owner_id__isnull=True)),
                name="ledger_account_owner",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.ref or self.owner_id or ''}".strip()


class Journal(models.Model):
    """One fact booked whole: its entries sum to zero per asset.

    `fingerprint` is `domain.content_fingerprint`: it tells a repetition from another fact of the same name.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    kind = models.CharField(max_length=KIND_MAX_LENGTH)
    reference = models.CharField(max_length=REFERENCE_MAX_LENGTH)
    fingerprint = models.BinaryField(max_length=32)
    reverses = models.OneToOneField(
        "self", on_delete=models.PROTECT, null=True, blank=True, related_name="reversed_by"
    )
    metadata = models.JSONField(default=dict, blank=True)
    posted_at = models.DateTimeField(default=clock.now)

    class Meta:
        constraints = [
            # Not `unique=True`, which would add a second index for LIKE that nothing uses.
            models.UniqueConstraint(fields=["reference"], name="ledger_journal_reference")
        ]

    def __str__(self) -> str:
        return self.reference


class Entry(models.Model):
    """A signed amount on one account, and the account's balance right after it.

    Partitioned by month on `id`, whose time is when it was posted. The foreign keys have no constraint in the
    database: the trigger that applies entries checks accounts, assets and journals for the whole statement at
    once, more strictly than a foreign key could (the account is of the entry's asset, the journal was opened
    by this very transaction), and what it found cannot be deleted later. Measured: COPY of 20,000 entries
    with their journals took twice as long with three foreign keys as without.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    journal = models.ForeignKey(
        Journal, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="entries"
    )
    account = models.ForeignKey(
        Account, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="entries"
    )
    asset = models.ForeignKey(
        Asset, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+"
    )
    amount_units = UnitsField()
    balance_after_units = UnitsField()

    class Meta:
        verbose_name_plural = "entries"
        indexes = [
            models.Index(fields=["account", "id"], name="ledger_entry_account"),
            models.Index(fields=["journal"], name="ledger_entry_journal"),
        ]

    def __str__(self) -> str:
        return f"{self.amount_units:+d}"

    @property
    def posted_at(self) -> datetime:
        return uuid7_time(self.id)
