"""Closing one's account: refused while money or plans are there, then what told who somebody was is blanked.

The floors above say what stands in the way (`obstacle_register`) and blank what they keep (`eraser_register`); accounts
knows neither plans nor money. docs/decisions/0018-closing-an-account.md says what is kept and why.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import transaction

from apps.accounts.audit import audit_record
from apps.accounts.exports import exports_end
from apps.accounts.me.models import Preferences
from apps.accounts.me.preferences import preferences_of
from apps.accounts.models import ApiKey, User
from apps.core import clock
from apps.core.errors import Conflict, NotFound
from apps.core.failpoints import reach
from apps.events.services import EventDraft, events_publish
from apps.mail.services import message_queue

# `.invalid` never resolves (RFC 2606), so that nothing can ever be sent there.
CLOSED_EMAIL = "closed-{id}@closed.invalid"


@dataclass(frozen=True, slots=True)
class Obstacle:
    """One thing that stands in the way: machine-readable `code`, what to do about it, and how many."""

    code: str
    detail: str
    count: int = 1


class CloseRefused(Conflict):
    """`obstacles` says all that stands in the way, not the first thing only."""

    def __init__(self, obstacles: Collection[Obstacle]) -> None:
        super().__init__("account_in_use", "Something of yours is still here: see obstacles.")
        self.obstacles = tuple(obstacles)


Find = Callable[[Collection[UUID]], Iterable[tuple[UUID, Obstacle]]]
# Gets the person as they were, inside the transaction that closes the account.
Erase = Callable[[User], None]

# `give_up(user_id, agreed)`: books what the person agreed to leave behind (asset code to decimal string).
GiveUp = Callable[[UUID, Mapping[str, str]], None]


def _nothing_to_give_up(user_id: UUID, agreed: Mapping[str, str]) -> None:
    del user_id, agreed


_obstacles: dict[str, Find] = {}
_give_up: GiveUp = _nothing_to_give_up
_erasers: dict[str, Erase] = {}


def obstacle_register(name: str, find: Find) -> None:
    """`find(user_ids)` gives (person, obstacle) pairs, in a fixed number of queries."""
    _obstacles[name] = find


def eraser_register(name: str, erase: Erase) -> None:
    """`erase(user)` blanks what an app keeps about a person and the books do not need."""
    _erasers[name] = erase


def give_up_install(give_up: GiveUp) -> None:
    """Say how remainders are given up; called once by whoever knows what is too small to be withdrawn."""
    global _give_up  # noqa: PLW0603
    _give_up = give_up


def obstacles_find(*, user_ids: Collection[UUID]) -> Mapping[UUID, list[Obstacle]]:
    """What stands in the way of each; people with nothing are left out."""
    found: dict[UUID, list[Obstacle]] = {}
    for name in sorted(_obstacles):
        for user_id, obstacle in _obstacles[name](user_ids):
            found.setdefault(user_id, []).append(obstacle)
    return found


def account_close(*, user_id: UUID, give_up: Mapping[str, str] | None = None, request: Any = None) -> None:
    """End an account for good. The email is free again afterwards.

    `give_up` names, by asset code, exactly the remainders that the person leaves behind because they are too small to
    be withdrawn. Raises `NotFound`, `CloseRefused`, `DomainError` for a remainder that is none: then nothing changed.
    """
    with transaction.atomic():
        # The whole row, against key share too: whatever is being made for this person (a plan, a withdrawal, a key)
        # is committed and seen here, or waits and is refused.
        user = User.objects.select_for_update().filter(pk=user_id, is_active=True).first()
        if user is None:
            raise NotFound
        if give_up:
            _give_up(user_id, give_up)
        obstacles = list(obstacles_find(user_ids=[user_id]).get(user_id, []))
        if user.is_staff or user.is_superuser:
            obstacles.append(Obstacle("staff", "An administrator has to take your roles from you first."))
        if user.frozen_at is not None:
            obstacles.append(Obstacle("frozen", "The account is frozen: ask support."))
        if obstacles:
            raise CloseRefused(obstacles)
        now = clock.now()
        language = preferences_of([user_id])[user_id].language
        for name in sorted(_erasers):
            _erasers[name](user)
        reach("accounts.close.erased")
        keys = ApiKey.objects.filter(user_id=user_id)
        keys.filter(revoked_at__isnull=True).update(revoked_at=now)
        keys.update(name="")
        Preferences.objects.filter(user_id=user_id).delete()
        exports_end(user_id=user_id)
        audit_record(
            actor=user_id,
            action="account.closed",
            target_type="user",
            target_id=user_id,
            before={"is_active": True},
            after={"is_active": False, "closed_at": now.isoformat()},
            request=request,
        )
        message_queue(
            to=user.email,
            template="account_closed",
            context={},
            key=f"account_closed:{user_id}",
            essential=True,
            language=language,
        )
        events_publish([EventDraft("person.closed", "person", user_id, {})])
        user.email = CLOSED_EMAIL.format(id=user_id)
        user.set_unusable_password()
        user.is_active, user.closed_at, user.last_login = False, now, None
        user.groups.clear()
        user.user_permissions.clear()
        user.save()
        reach("accounts.close.before_commit")
