"""Who somebody is, with what they may and have: what a front end asks for first."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.conf import settings

from apps.accounts import second_factor
from apps.accounts.models import ApiKey, User
from apps.accounts.services import KEYS_MAX


@dataclass(frozen=True, slots=True)
class Limits:
    """How many of each a person may have."""

    api_keys: int
    plans: int
    withdrawal_destinations: int


@dataclass(frozen=True, slots=True)
class Profile:
    """`factors` are the kinds of second factor that are set up; `scopes` what this credential may."""

    id: UUID
    email: str
    email_verified: bool
    fee_tier: str
    created_at: datetime
    roles: tuple[str, ...]
    factors: tuple[str, ...]
    scopes: tuple[str, ...]
    frozen_at: datetime | None
    api_keys: int
    limits: Limits


def profile_get(*, user: User, scopes: tuple[str, ...]) -> Profile:
    """Three queries, and those of the second factor."""
    return Profile(
        id=user.pk,
        email=user.email,
        email_verified=email_verified(user),
        fee_tier=user.fee_tier,
        created_at=user.created_at,
        roles=tuple(sorted(user.groups.values_list("name", flat=True))),
        factors=factors_of(user.pk),
        scopes=scopes,
        frozen_at=user.frozen_at,
        api_keys=ApiKey.objects.filter(user_id=user.pk, revoked_at__isnull=True).count(),
        limits=Limits(
            api_keys=KEYS_MAX,
            plans=settings.PLANS_PER_PERSON,
            withdrawal_destinations=settings.WITHDRAWAL_DESTINATIONS_PER_PERSON,
        ),
    )


def email_verified(user: User) -> bool:
    """Whether they proved their email. Until sign-in keeps that (room A), nobody did."""
    del user
    return False


def factors_of(user_id: UUID) -> tuple[str, ...]:
    """The kinds of factor that somebody has. The seam tells only whether there is one (room A tells which)."""
    return ("second_factor",) if user_id in second_factor.current().enrolled(user_ids=[user_id]) else ()
