"""What is kept for a second is never kept longer, nor past a save in this process."""

from collections.abc import Callable

import pytest

from apps.core.brief import Brief
from apps.core.models import Asset


def _counting() -> tuple[list[str], Callable[[str], str]]:
    asked: list[str] = []

    def read(key: str) -> str:
        asked.append(key)
        if key == "bad":
            raise LookupError(key)
        return key.upper()

    return asked, read


def test_value_is_read_once_per_key_until_its_time_is_up() -> None:
    asked, read = _counting()
    long, never = Brief(read, seconds=600, models=()), Brief(read, seconds=0, models=())

    assert [long.get("a"), long.get("a"), long.get("b")] == ["A", "A", "B"]
    assert asked == ["a", "b"]
    assert [never.get("a"), never.get("a")] == ["A", "A"]
    assert asked == ["a", "b", "a", "a"]


def test_failure_is_not_kept() -> None:
    asked, read = _counting()
    kept = Brief(read, seconds=600, models=())

    for _ in range(2):
        with pytest.raises(LookupError):
            kept.get("bad")

    assert asked == ["bad", "bad"]


@pytest.mark.django_db
def test_saving_and_deleting_a_row_forgets() -> None:
    asked, read = _counting()
    kept = Brief(read, seconds=600, models=(Asset,))

    kept.get("a")
    asset = Asset.objects.create(code="X", name="X", decimals=2)
    kept.get("a")
    asset.delete()
    kept.get("a")

    assert asked == ["a", "a", "a"]
