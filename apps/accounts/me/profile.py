"""Who somebody is, with what they may and have: what a front end asks for first."""

from collections.abc import Callable
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
    """Two queries, and two of what sign-in knows."""
    verified, factors = _facts(user)
    return Profile(
        id=user.pk,
        email=user.email,
        email_verified=verified,
        fee_tier=user.fee_tier,
        created_at=user.created_at,
        roles=tuple(sorted(user.groups.values_list("name", flat=True))),
        factors=factors,
        scopes=scopes,
        frozen_at=user.frozen_at,
        api_keys=ApiKey.objects.filter(user_id=user.pk, revoked_at__isnull=True).count(),
        limits=Limits(
            api_keys=KEYS_MAX,
            plans=settings.PLANS_PER_PERSON,
            withdrawal_destinations=settings.WITHDRAWAL_DESTINATIONS_PER_PERSON,
        ),
    )


# From a person: whether they proved their email, and the kinds of second factor that they have.
Facts = Callable[[User], tuple[bool, tuple[str, ...]]]


def _facts_unknown(user: User) -> tuple[bool, tuple[str, ...]]:
    """Before sign-in says more: nobody proved anything, and the seam tells only whether there is a factor."""
    has_one = user.pk in second_factor.current().enrolled(user_ids=[user.pk])
    return False, ("second_factor",) if has_one else ()


_facts: Facts = _facts_unknown


def facts_install(facts: Facts) -> None:
    """Say what sign-in knows of a person; called once by an AppConfig."""
    global _facts  # noqa: PLW0603
    _facts = facts
