"""Cursors for statements that every request asks: parsed and planned once per session of PostgreSQL."""

from contextlib import AbstractContextManager
from typing import Any, cast

from django.db import connection


def prepared() -> AbstractContextManager[Any]:
    """A cursor of `apps.core.postgresql`, see `DatabaseWrapper.prepared` there for what its statements must be like."""
    return cast("AbstractContextManager[Any]", cast("Any", connection).prepared())
