"""What a body may be: strict JSON, known fields, exact types."""

import pytest

from apps.core.models import Asset
from tests.core.api.support import ApiClient, problem, user_with_key

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.core.api.urls")]
PATH = "/api/v1/probe/everything"


@pytest.fixture
def client() -> ApiClient:
    Asset.objects.create(code="USDC", name="USD Coin", decimals=6)
    Asset.objects.create(code="WHOLE", name="No decimals", decimals=0)
    return user_with_key()[1]


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b"{", "line 1"),
        (b"{'a': 1}", "line 1"),
        (b'{"a": 1,}', "line 1"),
        (b'{"a": 1} x', "line 1"),
        (b"\xff\xfe", "UTF-8"),
        (b'\xef\xbb\xbf{"a": 1}', "line 1"),
        (b'{"a": 1, "a": 2}', "twice"),
        (b'{"b": [{"a": 1, "a": 2}]}', "twice"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": -Infinity}', "Infinity"),
        (b'{"a": 1e999}', "out of range"),
        (b'{"a": ' + b"9" * 5_000 + b"}", "out of range"),
        (b"[" * 17 + b"]" * 17, "deeper"),
        (b"[" * 5_000 + b"]" * 5_000, "deeper"),
    ],
)
def test_malformed_json(client: ApiClient, body: bytes, word: str) -> None:
    document = problem(client.post(PATH, body), 400, "malformed_json", errors=[])
    assert word in document["detail"]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        (rb'{"note": "a\u0000b"}', "/note"),
        (rb'{"parts": [{"weight": 1}, {"a/b~": "\ud800"}]}', "/parts/1/a~1b~0"),
        (rb'{"a\u0000": 1}', ""),
    ],
)
def test_text_that_cannot_be_stored(client: ApiClient, body: bytes, pointer: str) -> None:
    problem(client.post(PATH, body), 400, "validation_failed", errors=[(pointer, "invalid_character")])


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/jsonp",
     "application/json; charset=latin-1", "application/json; charset=utf-16", "a" * 5_000, "nonsense"],
)  # fmt: skip
def test_wrong_content_type(client: ApiClient, content_type: str) -> None:
    response = client.send("POST", PATH, body=b'{"a": 1}', content_type=content_type)
    problem(response, 415, "unsupported_media_type", errors=[])


def test_compressed_body_is_refused(client: ApiClient) -> None:
    response = client.post(PATH, {"a": 1}, content_encoding="gzip")
    problem(response, 415, "unsupported_media_type")


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=UTF-8", 'Application/JSON;charset="utf-8"']
)
def test_accepted_content_types(client: ApiClient, content_type: str) -> None:
    body = b'{"asset": "USDC", "amount": "1"}'
    assert client.send("POST", PATH, body=body, content_type=content_type).status_code == 201


@pytest.mark.parametrize("body", [b"[]", b'"text"', b"1", b"null", b"true"])
def test_body_that_is_no_object(client: ApiClient, body: bytes) -> None:
    document = problem(client.post(PATH, body), 400, "validation_failed")
    assert document["errors"]


@pytest.mark.parametrize(
    ("change", "errors"),
    [
        ({"amount": None}, [("/amount", "null")]),
        ({"amount": 1}, [("/amount", "not_a_string")]),
        ({"amount": 1.5}, [("/amount", "not_a_string")]),
        ({"amount": True}, [("/amount", "not_a_string")]),
        ({"amount": ["1"]}, [("/amount", "not_a_string")]),
        ({"amount": ""}, [("/amount", "invalid_amount")]),
        ({"amount": "1e3"}, [("/amount", "invalid_amount")]),
        ({"amount": "+1"}, [("/amount", "invalid_amount")]),
        ({"amount": " 1"}, [("/amount", "invalid_amount")]),
        ({"amount": "1\n"}, [("/amount", "invalid_amount")]),
        ({"amount": "007"}, [("/amount", "invalid_amount")]),
        ({"amount": "1."}, [("/amount", "invalid_amount")]),
        ({"amount": ".5"}, [("/amount", "invalid_amount")]),
        ({"amount": "1,5"}, [("/amount", "invalid_amount")]),
        ({"amount": "NaN"}, [("/amount", "invalid_amount")]),
        ({"amount": "Infinity"}, [("/amount", "invalid_amount")]),
        ({"amount": "٣"}, [("/amount", "invalid_amount")]),
        ({"amount": "0x10"}, [("/amount", "invalid_amount")]),
        ({"amount": "-1"}, [("/amount", "negative")]),
        ({"amount": "0"}, [("/amount", "zero")]),
        ({"amount": "0.000000"}, [("/amount", "zero")]),
        ({"amount": "1.1234567"}, [("/amount", "too_many_decimals")]),
        ({"amount": "1.10", "asset": "WHOLE"}, [("/amount", "too_many_decimals")]),
        ({"amount": str(1 << 256), "asset": "WHOLE"}, [("/amount", "too_large")]),
        ({"amount": "9" * 79}, [("/amount", "invalid_amount")]),
        ({"cap": "-0"}, [("/cap", "negative")]),
        ({"cap": "1.1234567"}, [("/cap", "too_many_decimals")]),
        ({"asset": "NOPE"}, [("/asset", "unknown_asset")]),
        ({"asset": 7}, [("/asset", "unknown_asset")]),
        ({"asset": "usdc"}, [("/asset", "unknown_asset")]),
        ({"asset": "X" * 500}, [("/asset", "unknown_asset")]),
        ({"time_zone": "Europe/Atlantis"}, [("/time_zone", "unknown_timezone")]),
        ({"time_zone": "../../etc/passwd"}, [("/time_zone", "unknown_timezone")]),
        ({"time_zone": "europe/berlin"}, [("/time_zone", "unknown_timezone")]),
        ({"time_zone": "localtime"}, [("/time_zone", "unknown_timezone")]),
        ({"time_zone": ["UTC"]}, [("/time_zone", "unknown_timezone")]),
        ({"starts_at": "2026-03-01"}, [("/starts_at", "no_offset")]),
        ({"starts_at": "2026-03-01T09:00:00"}, [("/starts_at", "no_offset")]),
        ({"starts_at": "2026-02-30T09:00:00Z"}, [("/starts_at", "no_offset")]),
        ({"starts_at": "2026-03-01T09:00:00+99:99"}, [("/starts_at", "no_offset")]),
        ({"starts_at": "0001-01-01T00:00:00+14:00"}, [("/starts_at", "no_offset")]),
        ({"starts_at": 1_772_000_000}, [("/starts_at", "no_offset")]),
        ({"on": "true"}, [("/on", "invalid")]),
        ({"on": 1}, [("/on", "invalid")]),
        ({"count": "3"}, [("/count", "invalid")]),
        ({"count": 3.0}, [("/count", "invalid")]),
        ({"count": True}, [("/count", "invalid")]),
        ({"count": 6}, [("/count", "max_value")]),
        ({"count": 0}, [("/count", "min_value")]),
        ({"count": 10**400}, [("/count", "max_value")]),
        ({"note": 5}, [("/note", "invalid")]),
        ({"note": "toolong"}, [("/note", "max_length")]),
        ({"note": {"a": 1}}, [("/note", "invalid")]),
        ({"ref": 12}, [("/ref", "invalid")]),
        ({"ref": "{00000000-0000-0000-0000-000000000000}"}, [("/ref", "invalid")]),
        ({"kind": "hourly"}, [("/kind", "invalid_choice")]),
        ({"kind": ["daily"]}, [("/kind", "invalid_choice")]),
        ({"parts": [{"weight": 1}, {"weight": 11}]}, [("/parts/1/weight", "max_value")]),
        ({"parts": [{"weight": 1, "x": 1}]}, [("/parts/0/x", "unknown_field")]),
        ({"parts": {"weight": 1}}, [("/parts", "not_a_list")]),
        ({"extra": 1}, [("/extra", "unknown_field")]),
        ({"a/b": 1, "count": 9}, [("/a~1b", "unknown_field"), ("/count", "max_value")]),
        ({"extra": 1, "amount": "1.1234567"}, [("/extra", "unknown_field"), ("/amount", "too_many_decimals")]),
    ],
)  # fmt: skip
def test_bad_value(client: ApiClient, change: dict[str, object], errors: list[tuple[str, str]]) -> None:
    body = {"asset": "USDC", "amount": "12.5", **change}
    problem(client.post(PATH, body), 400, "validation_failed", errors=errors)


@pytest.mark.parametrize(
    ("asset", "amount", "units", "shown"),
    [
        ("USDC", "12.5", 12_500_000, "12.5"),
        ("USDC", "0.000001", 1, "0.000001"),
        ("USDC", "100", 100_000_000, "100"),
        ("USDC", "1.500000", 1_500_000, "1.5"),
        ("WHOLE", str((1 << 256) - 1), (1 << 256) - 1, str((1 << 256) - 1)),
    ],
)
def test_amount_becomes_units_and_comes_back(
    client: ApiClient, asset: str, amount: str, units: int, shown: str
) -> None:
    body = {"asset": asset, "amount": amount, "starts_at": "2026-03-29T02:30:00.25+02:00"}
    response = client.post(PATH, body)
    assert response.status_code == 201, response.content
    assert response.json() == {
        "units": str(units),
        "out": {"amount": shown, "starts_at": "2026-03-29T00:30:00.250000Z"},
    }


def test_empty_body_names_what_is_missing(client: ApiClient) -> None:
    errors = [("/asset", "required"), ("/amount", "required")]
    problem(client.post(PATH), 400, "validation_failed", errors=errors)
