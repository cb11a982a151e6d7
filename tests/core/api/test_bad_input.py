"""Every operation under bad input, row by row. The rows are made of the document, so that no operation is left out.

What only one operation can get wrong (an unknown market, a limit that crosses another) is in the table of its room.
"""

import copy
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.core.api.operations import Operation, operations, resolved
from tests.core.api.support import problem
from tests.core.api.town import Town, everything

if TYPE_CHECKING:
    from django.test.client import _MonkeyPatchedWSGIResponse as Answer

pytestmark = pytest.mark.django_db

# Fits into no column.
HUGE = 10**400
WRONG_TYPES: Mapping[str, tuple[Any, ...]] = {
    "string": (5, HUGE, 1.5, True, [], {}),
    "integer": ("1", 1.5, True, HUGE, -HUGE, [], {}),
    "boolean": ("true", 1, 0, [], {}),
    "array": ("a", 5, True, {"0": "a"}),
    "object": ("a", 5, True, ["a"]),
}
AMOUNTS = (
    "",
    "-1",
    "+1",
    "1e3",
    "0x1",
    "007",
    "1,5",
    ".5",
    "1.",
    " 1",
    "NaN",
    "Infinity",
    "１",
    "9" * 79,
    "0." + "1" * 37,
)
WRONG_FORMS: Mapping[str, tuple[str, ...]] = {
    "date-time": (
        "",
        "yesterday",
        "2030-02-30T09:00:00Z",
        "2030-03-30T09:00:00",
        "0001-01-01T00:00:00+14:00",
    ),
    "uuid": ("", "x", "{00000000-0000-0000-0000-000000000000}"),
    "email": ("", "nobody", "a@", "@b.example", "a b@example.org"),
}


def wrong_values(schema: Any) -> Iterator[Any]:
    """What a place of this schema does not take."""
    types = [schema["type"]] if isinstance(schema.get("type"), str) else list(schema.get("type", ()))
    if "null" not in types:
        yield None
    (kind,) = set(types) - {"null"}
    yield from WRONG_TYPES[kind]
    if kind == "string":
        yield "a\x00b"
        if "maxLength" in schema:
            yield "x" * (schema["maxLength"] + 1)
        if "enum" in schema:
            yield from ("", "nonsense")
        if "[0-9]{0,77}" in schema.get("pattern", ""):
            yield from AMOUNTS
        yield from WRONG_FORMS.get(schema.get("format", ""), ())
    if kind == "integer":
        yield from (schema[name] + step for name, step in (("minimum", -1), ("maximum", 1)) if name in schema)
    if kind == "array" and "items" in schema:
        for wrong in wrong_values(resolved(schema["items"])):
            yield [wrong]


def places(schema: Any, pointer: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every place of a body, and its schema."""
    for name, value in resolved(schema).get("properties", {}).items():
        there = {**value, **resolved(value)}
        yield (*pointer, name), there
        yield from places(there, (*pointer, name))


def body_with(body: Any, pointer: tuple[str, ...], value: Any) -> Any:
    """`body` with `value` at the place; without the place when it is `...`."""
    changed = copy.deepcopy(body)
    place = changed
    for step in pointer[:-1]:
        place = place.setdefault(step, {})
    place[pointer[-1]] = value
    if value is ...:
        del place[pointer[-1]]
    return changed


def names_of(operation: Operation, place: str) -> dict[str, Any]:
    """The operation's parameters that stand in the query, a header or the path."""
    return {one["name"]: one for one in operation.document.get("parameters", ()) if one["in"] == place}


def keyed(operation: Operation) -> bool:
    return "Idempotency-Key" in names_of(operation, "header")


@dataclass(frozen=True)
class Asked:
    """An operation, as its town's person asks it."""

    operation: Operation
    town: Town

    def send(
        self,
        body: Any = None,
        *,
        content_type: str = "application/json",
        key: str = "bad-input",
        **query: Any,
    ) -> "Answer":
        path = re.sub(r"{(\w+)}", lambda found: str(self.town.ids[found[1]]), self.operation.path)
        headers = {"Idempotency-Key": key} if key and keyed(self.operation) else {}
        client = self.operation._client(self.town, stranger=False)
        known = {
            name: self.town.ids[name] for name in names_of(self.operation, "query") if name in self.town.ids
        }
        asked = {**self.operation.story.query, **known, **query}
        return client.send(
            self.operation.method,
            path,
            body=body,
            query=asked or None,
            content_type=content_type,
            headers=headers,
        )


@pytest.fixture(autouse=True)
def no_limits(settings: Any) -> None:
    settings.API_LIMITS = dict.fromkeys(settings.API_LIMITS, "1000000/second")


def wrong_texts(schema: Any) -> Iterator[str]:
    """What a parameter of this schema does not take, as a query has it."""
    yield "a\x00b"
    if schema["type"] == "integer":
        yield from ("", "ten", "1.5", "-1", "9" * 400, "١")
        yield str(schema.get("minimum", 0) - 1)
    if "enum" in schema:
        yield from ("", "nonsense")
    yield from WRONG_FORMS.get(schema.get("format", ""), ())


def whole_bodies(asked: Asked) -> None:
    """What cannot be read, is no object, is too large, or is sent as something else than JSON."""
    for body in (
        b"{",
        b"{'a': 1}",
        b'{"a": 1, "a": 2}',
        b'{"a": NaN}',
        b"\xff\xfe",
        b"[" * 5_000 + b"]" * 5_000,
    ):
        problem(asked.send(body), 400, "malformed_json", errors=[])
    for body in (b"[]", b'["a"]', b'""', b'"text"', b"0", b"1", b"true", b"false", b"null"):
        problem(asked.send(body), 400, "validation_failed")
    problem(asked.send(b'{"a": "' + b"x" * 10 * 1024 + b'"}'), 413, "body_too_large", errors=[])
    for kind in (
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "nonsense",
    ):
        answer = asked.send(asked.operation.story.body or {"a": 1}, content_type=kind)
        problem(answer, 415, "unsupported_media_type", errors=[])


def places_of_the_body(asked: Asked) -> None:
    """At each place what is none of its type or form; and what is missing."""
    body = asked.operation.story.body
    schema = asked.operation.document["requestBody"]["content"]["application/json"]["schema"]
    for pointer, there in places(schema):
        where = "/" + "/".join(pointer)
        for wrong in wrong_values(there):
            document = problem(asked.send(body_with(body, pointer, wrong)), 400, "validation_failed")
            found = [error["pointer"] for error in document["errors"]]
            assert found, (where, wrong)
            assert all(one == where or one.startswith(where + "/") for one in found), (where, wrong, found)
    required = resolved(schema).get("required", [])
    for name in required:
        answer = asked.send(body_with(body, (name,), ...))
        problem(answer, 400, "validation_failed", errors=[("/" + name, "required")])
    if required:
        errors = [("/" + name, "required") for name in required]
        problem(asked.send({}), 400, "validation_failed", errors=errors)


def keys(asked: Asked) -> None:
    for key in ("has space", "x" * 256, "ümlaut"):
        problem(asked.send(asked.operation.story.body, key=key), 400, "idempotency_key_invalid")
    if names_of(asked.operation, "header")["Idempotency-Key"].get("required"):
        problem(asked.send(asked.operation.story.body, key=""), 400, "idempotency_key_required")


def ids(asked: Asked) -> None:
    for name in asked.operation.parameters:
        for wrong in ("x", "0", "-1", "%00", "x" * 300, "00000000-0000-0000-0000-00000000000g", "%2e%2e"):
            town = replace(asked.town, ids={**asked.town.ids, name: wrong})
            answer = Asked(asked.operation, town).send(asked.operation.story.body)
            problem(answer, 404, "not_found", errors=[])


def queries(asked: Asked) -> None:
    answer = asked.send(colour="red")
    problem(answer, 400, "validation_failed", errors=[("colour", "unknown_field")])
    for name, parameter in names_of(asked.operation, "query").items():
        for text in wrong_texts({**parameter["schema"], **resolved(parameter["schema"])}):
            document = problem(asked.send(**{name: text}), 400, "validation_failed")
            assert [error["parameter"] for error in document["errors"]] == [name], (name, text)
        twice: dict[str, Any] = {name: ["1", "2"]}
        answer = asked.send(**twice)
        problem(answer, 400, "validation_failed", errors=[(name, "repeated")])
        if name == "cursor":
            for text in ("x", "9" * 90):
                problem(asked.send(cursor=text), 400, "invalid_cursor")


def tables(operation: Operation) -> Iterator[Callable[[Asked], None]]:
    if operation.writes:
        yield whole_bodies
    if operation.needs_story:
        yield places_of_the_body
    if keyed(operation):
        yield keys
    if operation.parameters:
        yield ids
    # The live stream is served by processes of its own: `tests/stream/test_refusals.py`.
    if names_of(operation, "query") and operation.name != "stream_read":
        yield queries


@pytest.mark.parametrize(
    "operation", [one for one in operations() if any(tables(one))], ids=lambda one: one.name
)
def test_bad_input_is_told_and_changes_nothing(operation: Operation, town: Town) -> None:
    # The state in which it is answered.
    operation.story.before(town)
    before = everything()
    for table in tables(operation):
        table(Asked(operation, town))
    assert everything() == before
