"""People and their API keys."""

from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import PermissionsMixin
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models.functions import Lower

from apps.accounts.audit.models import AuditCheck, AuditPending, AuditRecord, AuditSeal
from apps.accounts.managers import UserManager, email_normalise
from apps.accounts.tokens.models import RefreshToken, Session
from apps.core import clock
from apps.core.ids import uuid7
from apps.core.rows import Row

__all__ = [
    "ApiKey", "AuditCheck", "AuditPending", "AuditRecord", "AuditSeal", "RefreshToken", "Session", "User",
]  # fmt: skip


class User(AbstractBaseUser, PermissionsMixin, Row):
    """A person who logs in by email. `fee_tier` names the fee schedule that applies to them."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    email = models.EmailField(max_length=254)
    fee_tier = models.CharField(max_length=32, default="standard", db_default="standard")
    is_active = models.BooleanField(default=True)
    is_staff = models.BooleanField(default=False)
    created_at = models.DateTimeField(default=clock.now, editable=False)
    # While set, nothing is bought or withdrawn for them. Not the same as `is_active`: they may look at everything.
    frozen_at = models.DateTimeField(null=True, blank=True, editable=False)
    frozen_reason = models.CharField(max_length=200, blank=True, default="", db_default="", editable=False)
    # Closed by the person: what the books need stays under this id, what told who it was is gone.
    closed_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects = UserManager()

    USERNAME_FIELD = "email"
    EMAIL_FIELD = "email"
    REQUIRED_FIELDS = []

    class Meta:
        constraints = [
            # Together: unique whatever the case, and a plain `email = …` still uses the index.
            models.UniqueConstraint(fields=["email"], name="accounts_user_email_unique"),
            models.CheckConstraint(
                condition=models.Q(email=Lower("email")), name="accounts_user_email_lower"
            ),
        ]
        indexes = [models.Index(fields=["created_at", "id"], name="accounts_user_created")]
        permissions = [
            ("freeze_user", "Can freeze and unfreeze people"),
            ("grant_role", "Can give and take roles"),
        ]

    def __str__(self) -> str:
        return self.email

    def clean(self) -> None:
        super().clean()
        self.email = email_normalise(self.email)


class ApiKey(Row):
    """A key for programs, `trn_<prefix>_<secret>`. Only the SHA-256 of the secret is kept.

    The secret has 256 random bits, so that a slow password hash would cost time and add nothing.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="api_keys")
    name = models.CharField(max_length=80)
    prefix = models.CharField(max_length=12, editable=False)
    secret_hash = models.CharField(max_length=64, editable=False)
    scopes = ArrayField(models.CharField(max_length=32))
    # From where it may be used, as CIDR; empty: from anywhere.
    networks = ArrayField(models.CharField(max_length=43), default=list, db_default=[], blank=True)
    created_at = models.DateTimeField(default=clock.now, editable=False)
    # To the minute: written at most once a minute, so that a busy key does not turn every read into a write.
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["prefix"], name="accounts_apikey_prefix_unique"),
            models.CheckConstraint(
                condition=models.Q(secret_hash__regex=r"^[0-9a-f]{64}$"),  # noqa: S106
                name="accounts_apikey_hash_form",
            ),
        ]
        indexes = [models.Index(fields=["user", "created_at", "id"], name="accounts_apikey_listing")]

    def __str__(self) -> str:
        return f"trn_{self.prefix}_…"

    @property
    def limit_subject(self) -> str:
        """What its requests are counted by: each key has a quota of its own."""
        return f"key:{self.pk}"


from apps.accounts.me.models import DataExport, ExportPart, Preferences  # noqa: E402, F401 — models of this app, in files of their own
