"""The committed matrix is what happens: no route is missing from it, and none answers otherwise."""

import logging
from collections.abc import Iterator

import pytest
from django.test import override_settings

from tests.accounts import matrix

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Thousands of refusals are meant: their lines would take a third of the time."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.timeout(
    600
)  # thousands of requests: 15 s alone, minutes on a machine that does ten other things
@pytest.mark.parametrize("part", ["api", "admin"])
def test_every_route_answers_every_role_as_the_matrix_says(part: str, pytestconfig: pytest.Config) -> None:
    of_admin = part == "admin"
    with override_settings(TEMPLATES=matrix.templates_blank()):
        found = matrix.measure(of_admin=of_admin)
    if pytestconfig.getoption("--write-matrix"):
        matrix.write(found)
    expected = {
        what: cells
        for what, cells in matrix.read().items()
        if what.route.startswith(matrix.ADMIN) is of_admin
    }

    said = "decide who may, run this with --write-matrix, and read the difference before you commit it"
    assert not sorted(map(str, found.keys() - expected.keys())), f"not in the matrix: {said}"
    assert not sorted(map(str, expected.keys() - found.keys())), "in the matrix, and nowhere else"
    differing = {
        str(what): {
            role: f"{was} in the matrix, {now} now"
            for role, was, now in zip(matrix.ROLES, expected[what], found[what], strict=True)
            if was != now
        }
        for what in found
        if found[what] != expected[what]
    }
    assert not differing
    assert all(
        status is None or status < 500 or status == 503 for cells in found.values() for status in cells
    )
