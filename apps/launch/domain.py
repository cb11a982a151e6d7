"""States of the platform, and which class of routes answers in which: one table, no database."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from django.db import models

from apps.treasury.models import Activity


class State(models.TextChoices):
    """Any may follow any: an operator in a hurry is not told which detour to take."""

    PRE_LAUNCH = "pre_launch", "Before the launch: by invitation"
    LIVE = "live", "Live"
    PAUSED = "paused", "Paused: nothing is bought"
    MAINTENANCE = "maintenance", "Maintenance: the API is closed"


class RouteClass(models.TextChoices):
    """What a route is for. `apps.launch.routes` says which route is which."""

    ALWAYS = "always", "Health, metrics, the platform's own status"
    STAFF = "staff", "The admin: the switches are there"
    DOCS = "docs", "The API's documentation"
    READ = "read", "Looking"
    SIGN_IN = "sign_in", "Signing in and out, factors, sessions"
    SIGN_UP = "sign_up", "New accounts"
    WAITLIST = "waitlist", "The waitlist"
    MANAGE = "manage", "One's own settings, keys, destinations; stopping what one has started"
    WITHDRAW = "withdraw", "Money out"
    BUY = "buy", "Plans: making, changing, resuming"
    INBOUND = "inbound", "Signed messages from providers, who send them again"


S, R = State, RouteClass

ANSWERS: Mapping[RouteClass, frozenset[State]] = {
    R.ALWAYS: frozenset(S),
    R.STAFF: frozenset(S),
    R.DOCS: frozenset({S.PRE_LAUNCH, S.LIVE, S.PAUSED}),
    R.READ: frozenset({S.PRE_LAUNCH, S.LIVE, S.PAUSED}),
    R.SIGN_IN: frozenset({S.PRE_LAUNCH, S.LIVE, S.PAUSED}),
    R.SIGN_UP: frozenset({S.PRE_LAUNCH, S.LIVE}),
    R.WAITLIST: frozenset({S.PRE_LAUNCH}),
    R.MANAGE: frozenset({S.PRE_LAUNCH, S.LIVE, S.PAUSED}),
    R.WITHDRAW: frozenset({S.PRE_LAUNCH, S.LIVE, S.PAUSED}),
    R.BUY: frozenset({S.PRE_LAUNCH, S.LIVE}),
    R.INBOUND: frozenset({S.PRE_LAUNCH, S.LIVE, S.PAUSED}),
}

# What a state switches off beside routes, for workers: the kill switches that come and go with it.
STOPS: Mapping[State, frozenset[Activity]] = {
    S.PRE_LAUNCH: frozenset(),
    S.LIVE: frozenset(),
    S.PAUSED: frozenset({Activity.BUYING}),
    S.MAINTENANCE: frozenset(),
}

# Seconds that a refused caller is told to wait when no end is known.
RETRY_AFTER: Mapping[State, int] = {S.PAUSED: 60, S.MAINTENANCE: 30}


@dataclass(frozen=True, slots=True)
class Platform:
    """What holds now. `until` is when an operator expects the state to end, `message` what everybody is told."""

    state: State
    since: datetime | None
    message: str
    until: datetime | None
    stopped: frozenset[Activity]

    def answers(self, route_class: RouteClass) -> bool:
        return self.state in ANSWERS[route_class]

    def retry_after(self, now: datetime) -> int:
        """Whole seconds, at least one and at most an hour: what is expected may end early."""
        if self.until is None or self.until <= now:
            return RETRY_AFTER.get(self.state, 60)
        return min(3_600, max(1, int((self.until - now).total_seconds())))

    @property
    def sign_up(self) -> str:
        """`open`, `invitation` or `closed`."""
        if not self.answers(R.SIGN_UP) or Activity.SIGNING_UP in self.stopped:
            return "closed"
        return "invitation" if self.state == S.PRE_LAUNCH else "open"


class EntryState(models.TextChoices):
    """Where somebody on the waitlist stands."""

    UNPROVEN = "unproven", "Has not proved the e-mail"
    WAITING = "waiting", "Waits"
    INVITED = "invited", "Invited"
    JOINED = "joined", "Has an account"


class BatchState(models.TextChoices):
    RUNNING = "running", "Running"
    PAUSED = "paused", "Paused"
    CANCELLED = "cancelled", "Cancelled"


class InvitationState(models.TextChoices):
    QUEUED = "queued", "To be sent"
    HELD = "held", "Its batch is paused"
    SENT = "sent", "Sent"
    ACCEPTED = "accepted", "Has an account"
    REVOKED = "revoked", "Taken back, or replaced by a newer one"


# An invitation in one of these may still let somebody in.
INVITATION_LIVE = frozenset({InvitationState.QUEUED, InvitationState.HELD, InvitationState.SENT})
