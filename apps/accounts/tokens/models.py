"""Sessions, and the refresh tokens that keep them going. Only hashes of tokens are kept."""

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q

from apps.core import clock
from apps.core.ids import uuid7
from apps.core.rows import Row


class Transport(models.TextChoices):
    """Where the refresh token travels: in bodies (apps), or in a cookie that no script can read (browsers)."""

    BODY = "body"
    COOKIE = "cookie"


class EndReason(models.TextChoices):
    """Why a session ended before its time."""

    SIGNED_OUT = "signed_out"
    SIGNED_OUT_ELSEWHERE = "signed_out_elsewhere"
    SIGNED_OUT_BY_OPERATOR = "signed_out_by_operator"
    REFRESH_REUSE = "refresh_reuse"
    PASSWORD_CHANGED = "password_changed"  # noqa: S105
    FACTORS_CHANGED = "factors_changed"
    ACCOUNT_CLOSED = "account_closed"


class Session(Row):
    """One sign-in of one device: the family that its refresh tokens belong to, and what its access tokens stand on.

    It is live while it is neither revoked nor past `expires_at`, its person is active, and their password is still
    the one that `password_stamp` was made from.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.ForeignKey("accounts.User", on_delete=models.CASCADE, related_name="sessions")
    created_at = models.DateTimeField(default=clock.now, editable=False)
    # To the minute, like that of API keys.
    last_used_at = models.DateTimeField(default=clock.now, editable=False)
    expires_at = models.DateTimeField(editable=False)
    # The user agent, as the device said it, shortened; and a hash of it without its version numbers.
    device = models.CharField(max_length=200, blank=True, editable=False)
    device_hash = models.CharField(max_length=64, editable=False)
    # Of the sign-in or the last refresh.
    address = models.GenericIPAddressField(null=True, editable=False)
    transport = models.CharField(max_length=8, choices=Transport, editable=False)
    # How the person showed who they are, in order: `password`, `totp`, `webauthn`, `google` …
    factors = ArrayField(models.CharField(max_length=32), default=list, editable=False)
    authenticated_at = models.DateTimeField(editable=False)
    # Of the session that django-allauth keeps its flows in; a step-up goes on in it.
    django_key = models.CharField(max_length=40, blank=True, editable=False)
    password_stamp = models.CharField(max_length=64, editable=False)
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)
    reason = models.CharField(max_length=32, choices=EndReason, blank=True, editable=False)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(revoked_at__isnull=True, reason="") | Q(revoked_at__isnull=False) & ~Q(reason=""),
                name="accounts_session_ended_for_a_reason",
            ),
            models.CheckConstraint(
                condition=Q(transport__in=Transport.values), name="accounts_session_transport"
            ),
            models.CheckConstraint(
                condition=Q(expires_at__gt=F("created_at")), name="accounts_session_expires_later"
            ),
        ]
        indexes = [
            models.Index(fields=["user", "created_at", "id"], name="accounts_session_listing"),
            models.Index(fields=["expires_at"], name="accounts_session_expiry"),
            models.Index(
                fields=["revoked_at"], name="accounts_session_revoked", condition=Q(revoked_at__isnull=False)
            ),
        ]

    def __str__(self) -> str:
        return f"{self.id} {self.device[:40]}"


class RefreshToken(models.Model):
    """One link of a session's chain: good for one refresh, which makes the next link.

    Used ones stay until they would have expired, so that a copy that turns up again is known for what it is. The
    token has 256 random bits, so that its SHA-256 is all the hash it needs.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    session = models.ForeignKey(Session, on_delete=models.CASCADE, related_name="refresh_tokens")
    token_hash = models.CharField(max_length=64, editable=False)
    issued_at = models.DateTimeField(default=clock.now, editable=False)
    expires_at = models.DateTimeField(editable=False)
    used_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["token_hash"], name="accounts_refreshtoken_hash_unique"),
            models.CheckConstraint(
                condition=Q(token_hash__regex=r"^[0-9a-f]{64}$"),  # noqa: S106
                name="accounts_refreshtoken_hash_form",
            ),
            # What makes the chain a chain: one link at its end, whatever races.
            models.UniqueConstraint(
                fields=["session"], condition=Q(used_at__isnull=True), name="accounts_refreshtoken_one_unused"
            ),
        ]
        indexes = [models.Index(fields=["expires_at"], name="accounts_refreshtoken_expiry")]

    def __str__(self) -> str:
        return f"{self.id} of {self.session_id}"
