"""Freezing a person: said once, undone once, with who may see it in the event log."""

import uuid

import pytest

from apps.accounts.models import User
from apps.accounts.services import user_create, user_freeze, user_unfreeze
from apps.core.errors import DomainError, NotFound
from apps.events.models import Event


def test_a_freeze_holds_until_it_is_undone(db: None) -> None:
    person = user_create(email="a@example.org")

    assert user_freeze(user_id=person.pk, reason="a spent deposit was taken back")
    assert not user_freeze(user_id=person.pk, reason="again")
    frozen = User.objects.get(pk=person.pk)
    assert (frozen.frozen_at is not None, frozen.frozen_reason) == (True, "a spent deposit was taken back")

    assert user_unfreeze(user_id=person.pk, reason="paid back")
    assert not user_unfreeze(user_id=person.pk, reason="again")
    free = User.objects.get(pk=person.pk)
    assert (free.frozen_at, free.frozen_reason) == (None, "")
    topics = Event.objects.filter(subject_id=person.pk).order_by("sequence").values_list("topic", flat=True)
    assert list(topics) == ["person.frozen", "person.unfrozen"]


def test_a_freeze_names_a_person_and_a_reason(db: None) -> None:
    person = user_create(email="a@example.org")

    with pytest.raises(NotFound):
        user_freeze(user_id=uuid.uuid4(), reason="why")
    with pytest.raises(DomainError):
        user_freeze(user_id=person.pk, reason=" ")
    assert User.objects.get(pk=person.pk).frozen_at is None
