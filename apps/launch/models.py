"""The platform's states with their history; the waitlist; invitations, which are work items."""

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Lower

from apps.core import clock
from apps.core.ids import uuid7
from apps.core.models import WorkItem
from apps.launch.domain import BatchState, EntryState, InvitationState, State


class PlatformState(models.Model):
    """One change of state: the row with the highest `number` holds. Append-only (trigger, migration 0002).

    `number` counts 1, 2, 3 …: its uniqueness is what makes one of two operators who press at once wrong.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    number = models.PositiveIntegerField(unique=True, editable=False)
    state = models.CharField(max_length=12, choices=State.choices)
    reason = models.CharField(max_length=300, help_text="Why, for operators.")
    message = models.CharField(max_length=300, blank=True, help_text="What everybody is told.")
    until = models.DateTimeField(
        null=True, blank=True, help_text="When it is expected to end: callers are told to come back then."
    )
    actor = models.CharField(max_length=120)
    created_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        verbose_name = "platform state"
        constraints = [
            models.CheckConstraint(condition=Q(state__in=State.values), name="launch_platformstate_choices"),
        ]

    def __str__(self) -> str:
        return f"{self.number}: {self.state}"


class WaitlistEntry(models.Model):
    """Somebody who wants to join. `rank` orders those who wait: the lowest is next; gaps mean nothing.

    Of the code only an HMAC is kept, of the ticket (which shows one's place again) a SHA-256.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    email = models.EmailField(max_length=254)
    language = models.CharField(max_length=8, default="en")
    state = models.CharField(max_length=10, choices=EntryState.choices, default=EntryState.UNPROVEN)
    rank = models.BigIntegerField(null=True, blank=True, editable=False)
    referral_code = models.CharField(max_length=12, unique=True, editable=False)
    referred_by = models.ForeignKey(
        "self", null=True, blank=True, on_delete=models.SET_NULL, related_name="+", editable=False
    )
    referrals = models.PositiveIntegerField(default=0, editable=False)
    ticket_hash = models.CharField(max_length=64, blank=True, editable=False)
    code_hash = models.CharField(max_length=64, blank=True, editable=False)
    code_expires_at = models.DateTimeField(null=True, blank=True, editable=False)
    code_tries = models.PositiveSmallIntegerField(default=0, editable=False)
    code_number = models.PositiveIntegerField(default=0, editable=False)
    code_sent_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(default=clock.now, editable=False)
    proved_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        verbose_name_plural = "waitlist entries"
        permissions = [("export_waitlistentry", "Can download the waitlist")]
        constraints = [
            models.UniqueConstraint(fields=["email"], name="launch_waitlist_email"),
            models.CheckConstraint(condition=Q(email=Lower("email")), name="launch_waitlist_email_lower"),
            # Checked at the end of a statement: two neighbours swap their ranks in one.
            models.UniqueConstraint(
                fields=["rank"], name="launch_waitlist_rank", deferrable=models.Deferrable.IMMEDIATE
            ),
            models.CheckConstraint(
                condition=Q(state__in=EntryState.values)
                & (Q(state=EntryState.UNPROVEN) | Q(rank__isnull=False, proved_at__isnull=False)),
                name="launch_waitlist_proved",
            ),
        ]
        indexes = [
            models.Index(fields=["rank"], condition=Q(state="waiting"), name="launch_waitlist_queue"),
            models.Index(fields=["state", "created_at"], name="launch_waitlist_states"),
            models.Index(fields=["ticket_hash"], condition=~Q(ticket_hash=""), name="launch_waitlist_ticket"),
        ]

    def __str__(self) -> str:
        return self.email


class InvitationBatch(models.Model):
    """Invitations that an operator made at once. How far it is, is counted from its invitations."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.CharField(max_length=80)
    state = models.CharField(max_length=10, choices=BatchState.choices, default=BatchState.RUNNING)
    valid_days = models.PositiveSmallIntegerField(
        default=14, help_text="Days for which an invitation is good."
    )
    total = models.PositiveIntegerField(default=0, editable=False)
    actor = models.CharField(max_length=120, editable=False)
    created_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        verbose_name_plural = "invitation batches"
        constraints = [
            models.CheckConstraint(
                condition=Q(state__in=BatchState.values) & Q(valid_days__gt=0), name="launch_batch_choices"
            ),
        ]

    def __str__(self) -> str:
        return self.name


class Invitation(WorkItem):
    """One e-mail's leave to sign up. The token is in the mail only; here is its SHA-256."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    batch = models.ForeignKey(InvitationBatch, on_delete=models.PROTECT, related_name="invitations")
    email = models.EmailField(max_length=254)
    language = models.CharField(max_length=8, default="en")
    state = models.CharField(max_length=10, choices=InvitationState.choices, default=InvitationState.QUEUED)
    token_hash = models.CharField(max_length=64, blank=True, editable=False)
    sent_at = models.DateTimeField(null=True, blank=True, editable=False)
    expires_at = models.DateTimeField(null=True, blank=True, editable=False)
    accepted_at = models.DateTimeField(null=True, blank=True, editable=False)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="+",
        editable=False,
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["email"],
                condition=Q(state__in=["queued", "held", "sent"]),
                name="launch_invitation_one_live",
            ),
            models.CheckConstraint(
                condition=Q(state__in=InvitationState.values), name="launch_invitation_state"
            ),
            models.CheckConstraint(
                condition=~Q(state="sent")
                | Q(token_hash__regex=r"^[0-9a-f]{64}$", sent_at__isnull=False, expires_at__isnull=False),  # noqa: S106
                name="launch_invitation_sent_has_token",
            ),
            models.CheckConstraint(
                condition=~Q(state="accepted") | Q(user__isnull=False, accepted_at__isnull=False),
                name="launch_invitation_accepted_by",
            ),
        ]
        indexes = [
            models.Index(
                fields=["run_after", "id"],
                condition=Q(state="queued", buried_at__isnull=True),
                name="launch_invitation_due",
            ),
            models.Index(fields=["batch", "state"], name="launch_invitation_progress"),
        ]

    def __str__(self) -> str:
        return f"{self.email} ({self.state})"
