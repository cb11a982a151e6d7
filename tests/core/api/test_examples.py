"""Every operation shows an example, and it is true: what the documents say is sent is sent, and the answer is theirs.

`make examples` (EXAMPLES=write) records anew what `operations.STORIES` ask and what is answered.
"""

import json
import os
import re
from collections.abc import Iterator
from typing import Any

import pytest

from apps.core.api.schema import EXAMPLES
from tests.core.api.operations import Operation, operations
from tests.core.api.town import Town

WRITE = os.environ.get("EXAMPLES") == "write"
JSON = "application/json"
# What differs from one run to the next, by its form ...
FORMS = [
    (re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"), "(id)"),
    (re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+(Z|[+-][0-9:]+)"), "(instant)"),
    (re.compile(r"0x[0-9a-fA-F]{40,64}"), "(hex)"),
    (re.compile(r"[0-9]+ s old"), "(age) s old"),
    (re.compile(r"^(?=.*[a-z])(?=.*[A-Z])[A-Za-z0-9_-]{22,}$"), "(bytes)"),
    (re.compile(r"trn_[a-z0-9]{12}(_[a-z0-9]{50})?"), "(key)"),
]
# ... and by its name.
NAMES = {
    *("milliseconds", "age_seconds", "lag_seconds", "next_cursor", "prefix", "qr_svg", "key", "version"),
    *("proof", "recovery_codes", "referral_code", "sequence"),
}
# What is too long to be shown whole, and what nobody should take for somebody's.
LONG, SECRET = (
    400,
    {
        "key": "trn_k3x9s0v7q2ab_" + "x" * 50,
        "access_token": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln",
        "refresh_token": "trr_k3v…",
        "session_token": "x1yd0…",
        "ticket": "…",
        "secret": "JBSWY3DPEHPK3PXP",
        "issuer": "https://accounts.google.com",
        "uri": "otpauth://totp/ada%40example.org?secret=JBSWY3DPEHPK3PXP&issuer=Tranche",
        "download_url": "/api/v1/me/exports/019b3c1e-7d55-7c41-9d2e-1f0c6a2b8e10/file?signature=…",
    },
)
# Operations whose true example is not recorded here, each with its reason; the view's own is shown.
NOT_RECORDED = {
    "exports_download": "a ZIP archive: tests/accounts/me/test_exports.py compares it with what the view shows",
    "stream_read": "another server's, without end: tests/stream/test_live.py compares it with what the view shows",
}


@pytest.fixture(scope="module")
def recording() -> Iterator[dict[str, Any]]:
    """Filled by the tests, written at the end when that is asked for."""
    found: dict[str, Any] = {}
    yield found
    if WRITE:
        # What differs in nothing but ids and instants stays as it stands: a difference to be read is one of the API.
        before = json.loads(EXAMPLES.read_text())
        kept = {
            name: before[name] if plain(before.get(name)) == plain(one) else one
            for name, one in found.items()
        }
        EXAMPLES.write_text(json.dumps(dict(sorted(kept.items())), indent=1, ensure_ascii=False) + "\n")


def shown(name: str, value: Any) -> Any:
    """A real answer, fit for a page."""
    if isinstance(value, dict):
        return {key: shown(key, one) for key, one in value.items()}
    if isinstance(value, list):
        return [shown(name, one) for one in value]
    if name in SECRET and value is not None:
        return SECRET[name]
    return f"{value[:60]}…" if isinstance(value, str) and len(value) > LONG else value


def plain(value: Any, name: str = "") -> Any:
    """Without what differs from run to run."""
    if isinstance(value, dict):
        return {key: plain(one, key) for key, one in value.items()}
    if isinstance(value, list):
        return [plain(one, name) for one in value]
    # A row's number, a code's digits; other ids and other codes are words that stay.
    if (name == "id" and isinstance(value, int)) or (name == "code" and str(value).isdigit()):
        return f"({name})"
    if name in NAMES and value is not None:
        return f"({name})"
    if isinstance(value, str):
        for form, placeholder in FORMS:
            value = form.sub(placeholder, value)
    return value


def examples(content: Any) -> list[Any]:
    """The values that the document shows."""
    (kind,) = content.values() if JSON not in content else (content[JSON],)
    found = [one["value"] for one in kind.get("examples", {}).values()]
    return found + ([kind["example"]] if "example" in kind else [])


@pytest.mark.django_db
@pytest.mark.parametrize(
    "operation",
    [one for one in operations() if one.name not in NOT_RECORDED],
    ids=lambda operation: operation.name,
)
def test_the_example_is_what_is_really_sent_and_answered(
    operation: Operation, town: Town, recording: dict[str, Any]
) -> None:
    answer = operation.send(town)

    assert str(answer.status_code) == operation.status, answer.content
    documented = operation.document["responses"][operation.status].get("content")
    assert bool(documented) == bool(answer.content)
    real = None
    if documented:
        assert answer["Content-Type"].partition(";")[0] in documented
        told_in_json = any(kind.endswith("json") for kind in documented)
        real = shown("", json.loads(answer.content) if told_in_json else answer.content.decode())
    if WRITE:
        recording[operation.name] = {
            **({} if operation.story.body is None else {"request": operation.story.body}),
            "status": answer.status_code,
            **({"response": real} if documented else {}),
        }
        return
    if operation.needs_story:
        assert operation.story.body in examples(operation.document["requestBody"]["content"]), "make examples"
    if documented:
        assert plain(real) in [plain(one) for one in examples(documented)], "make examples"


def test_every_operation_is_recorded_but_those_that_say_why_not(recording: dict[str, Any]) -> None:
    """And nothing is recorded of what is gone."""
    recorded = (recording if WRITE else json.loads(EXAMPLES.read_text())).keys()
    assert {operation.name for operation in operations()} - recorded == NOT_RECORDED.keys()
    assert recorded - {operation.name for operation in operations()} == set()
