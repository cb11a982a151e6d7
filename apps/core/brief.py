"""Public configuration that many requests read and hardly anybody changes, kept for seconds in each process."""

import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from django.db import models
from django.db.models.signals import post_delete, post_save

KeyT = TypeVar("KeyT")
ValueT = TypeVar("ValueT")


class Brief(Generic[KeyT, ValueT]):
    """What `read` answered, for `seconds`; asked anew when this process saves or deletes a row of `models`.

    Another process's change, and one by SQL, shows after `seconds` at the latest: so only for what may be that old,
    never for rights, balances or what a buy is decided by. What `read` raises is not kept. Values are shared between
    threads: read them, do not change them. `seconds` is machine time, not `core.clock`'s.
    """

    def __init__(
        self, read: Callable[[KeyT], ValueT], *, seconds: float, models: tuple[type[models.Model], ...]
    ) -> None:
        self._read, self._seconds = read, seconds
        self._kept: dict[KeyT, tuple[float, ValueT]] = {}
        for model in models:
            for saved in (post_save, post_delete):
                saved.connect(self.forget, sender=model, weak=False)

    def get(self, key: KeyT) -> ValueT:
        now = time.monotonic()
        kept = self._kept.get(key)
        if kept is not None and kept[0] > now:
            return kept[1]
        value = self._read(key)
        self._kept[key] = (now + self._seconds, value)
        return value

    def forget(self, **_: Any) -> None:
        self._kept = {}
