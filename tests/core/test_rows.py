"""Rows that were read are as Django would have made them."""

from typing import Any

import pytest
from django.db import models

from apps.core.models import WorkProbe
from apps.core.rows import Row

pytestmark = pytest.mark.django_db


def _django_made(probe: WorkProbe) -> WorkProbe:
    fields = [field.attname for field in WorkProbe._meta.concrete_fields]
    values = WorkProbe.objects.values_list(*fields).get(pk=probe.pk)
    djangos: Any = vars(models.Model)["from_db"].__func__
    made: WorkProbe = djangos(WorkProbe, "default", fields, values)
    return made


def test_a_row_is_what_djangos_own_constructor_makes_of_it() -> None:
    probe = WorkProbe.objects.create(passes=7)

    read = WorkProbe.objects.get(pk=probe.pk)

    assert "from_db" in vars(Row)
    theirs = _django_made(probe)
    assert {**vars(read), "_state": None} == {**vars(theirs), "_state": None}
    assert (
        (read._state.adding, read._state.db) == (theirs._state.adding, theirs._state.db) == (False, "default")
    )
    assert read == theirs
    assert hash(read) == hash(theirs)


def test_a_column_that_was_not_read_is_deferred_and_saved_by_nobody() -> None:
    probe = WorkProbe.objects.create(passes=7)
    read = WorkProbe.objects.defer("passes").get(pk=probe.pk)
    assert read.get_deferred_fields() == {"passes"}

    WorkProbe.objects.filter(pk=probe.pk).update(passes=8)
    read.attempts = 3
    read.save()

    assert read.passes == 8
    assert WorkProbe.objects.values_list("passes", "attempts").get(pk=probe.pk) == (8, 3)
