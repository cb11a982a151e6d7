"""Every route, found in the URL table: nobody reaches what is another's, nobody writes what is not theirs to write."""

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from django.apps import apps
from django.urls import URLPattern, URLResolver, get_resolver

from tests.core.api.operations import Operation, operations, resolved
from tests.core.api.support import problem
from tests.core.api.town import Town, everything, nobodys_id

pytestmark = pytest.mark.django_db


def routes(patterns: Any = None, prefix: str = "") -> Iterator[tuple[str, URLPattern]]:
    """(route from the root, pattern) of every route under /api/."""
    for pattern in get_resolver().url_patterns if patterns is None else patterns:
        path = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from routes(pattern.url_patterns, path)
        elif path.startswith("api/"):
            yield path, pattern


def test_the_document_has_every_route() -> None:
    """What the walks below walk is all there is."""
    known = {operation.path.replace("{", "").replace("}", "") for operation in operations()}
    plain = {
        "/" + "/".join(part.rpartition(":")[2].rstrip(">").lstrip("<") for part in path.split("/"))
        for path, _ in routes()
    }
    assert plain - known == {"/api/v1/schema", "/api/v1/docs", "/api/v1/redoc"} | UNDOCUMENTED
    assert known - plain == set()


# Routes that are no operations of the document, each with its reason.
UNDOCUMENTED: set[str] = {"/api/v1/mail/webhooks/resend"}  # the mail provider's, signed by it


def with_ids() -> list[Operation]:
    return [operation for operation in operations() if operation.parameters]


def test_every_id_of_every_route_is_one_that_somebody_has(town: Town) -> None:
    """A new kind of id has to be put into the town, or the walks below would pass it by."""
    needed = {name for operation in with_ids() for name in operation.parameters}
    assert needed - set(town.ids) == set()
    for operation in with_ids():
        if operation.method == "GET":
            answer = operation.send(town, ready=True)
            assert answer.status_code == 200, (operation.name, answer.content)


@pytest.mark.parametrize("operation", with_ids(), ids=lambda operation: operation.name)
def test_another_persons_id_is_not_found_and_nothing_changes(operation: Operation, town: Town) -> None:
    before = everything()

    theirs = operation.send(town, stranger=True, ready=True)
    for name in operation.parameters:
        nobodys = replace(town, ids={**town.ids, name: nobodys_id(town.ids[name])})
        unknown = operation.send(nobodys, stranger=True, ready=True)

    one, other = problem(theirs, 404, "not_found"), problem(unknown, 404, "not_found")
    told = {"instance", "request_id"}
    assert {key: one[key] for key in one if key not in told} == {
        key: other[key] for key in other if key not in told
    }
    assert everything() == before
    # The owner's own request is another matter.
    assert operation.send(town).status_code != 404


@pytest.mark.parametrize(
    "operation", [one for one in operations() if one.method == "GET"], ids=lambda operation: operation.name
)
def test_no_list_shows_what_is_anothers(operation: Operation, town: Town) -> None:
    if operation.parameters:
        return
    answer = operation.send(town, stranger=True)
    text = answer.content.decode()
    for name, value in {**town.ids, "ann": town.ann.pk, "email": town.ann.email}.items():
        assert str(value) not in text, (operation.name, name)


def columns() -> list[str]:
    """The name of every column of every table of ours, and what attackers try first."""
    found = {"role", "roles", "permissions", "admin", "__proto__", "pk", "_method"}
    for model in apps.get_models():
        if model.__module__.startswith("apps."):
            for column in model._meta.concrete_fields:
                found |= {column.name, column.attname}
    return sorted(found)


def objects(schema: Any, pointer: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], set[str]]]:
    """(place, known names) of the body and of every object inside it."""
    schema = resolved(schema)
    properties = schema.get("properties", {})
    yield pointer, set(properties)
    for name, value in properties.items():
        if resolved(value).get("properties"):
            yield from objects(value, (*pointer, name))


@pytest.mark.parametrize("operation", [one for one in operations() if one.writes], ids=lambda one: one.name)
def test_no_write_takes_a_column_that_is_not_its_own(operation: Operation, town: Town) -> None:
    assert operation.name in BODYLESS or not operation.needs_story or operation.story.body is not None, (
        "no story"
    )
    schema = {}
    if operation.needs_story:
        schema = operation.document["requestBody"]["content"]["application/json"]["schema"]
    # The state in which it is answered.
    operation.story.before(town)
    before = everything()
    for pointer, known in objects(schema):
        for names in batches([name for name in columns() if name not in known]):
            body = copy.deepcopy(operation.story.body) or {}
            place = body
            for step in pointer:
                place = place.setdefault(step, {})
            place.update(dict.fromkeys(names, "1"))

            answer = operation.send(town, body=body, ready=True)

            found = problem(answer, 400, "validation_failed")["errors"]
            refused = {error["pointer"] for error in found if error["code"] == "unknown_field"}
            assert refused == {"/".join(("", *pointer, name)) for name in names}
    assert everything() == before


BODYLESS: set[str] = set()


def batches(names: list[str], size: int = 150) -> Iterator[list[str]]:
    for start in range(0, len(names), size):
        yield names[start : start + size]


def test_the_walks_would_notice_a_write_that_takes_more(town: Town) -> None:
    """The columns that would hurt most are among those that are tried."""
    assert {"is_staff", "is_superuser", "user_id", "owner_id", "state", "fee_tier", "balance_units"} <= set(
        columns()
    )
    assert isinstance(town.ids["plan_id"], UUID)
