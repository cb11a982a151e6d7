"""The letters: each renders in both forms, escapes what people typed, and says nothing by accident."""

import re
from typing import Any

import pytest

from apps.mail.catalogue import TEMPLATES
from apps.mail.domain import KINDS
from apps.mail.rendering import render

NASTY = 'Rich <script>alert(1)</script> & "quick"\nBcc: eve@example.com'


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_letter_reads_well_in_both_forms(name: str) -> None:
    template = TEMPLATES[name]

    first = render(template=name, context=template.sample, unsubscribe_url="https://x.example/u/1")
    again = render(template=name, context=template.sample, unsubscribe_url="https://x.example/u/1")

    assert first == again  # the same bytes at each try
    assert 5 < len(first.subject) <= 150
    assert "\n" not in first.subject
    for text in (first.subject, first.text, first.html):
        assert "{{" not in text
        assert "{%" not in text
        assert "None" not in text
    assert "<" not in first.text
    assert "&amp;" not in first.text
    assert max(len(line) for line in first.text.splitlines()) <= 120
    assert 'name="viewport"' in first.html
    assert "prefers-color-scheme: dark" in first.html
    assert "src=" not in first.html  # nothing is loaded from outside: no tracking
    assert re.findall(r'href="([^"]*)"', first.html) == ["https://x.example/u/1"]
    if name != "buy_digest":  # which leaves out most of each buy
        said = " ".join(f"{first.subject} {first.text}".split())
        machine = {"totp", "passkey", "insufficient_funds", "sent"}
        assert [
            value for value in leaves(template.sample) if value not in machine and value not in said
        ] == []


@pytest.mark.parametrize("name", ["buy_done", "buy_skipped", "plan_paused", "buy_digest"])
def test_what_people_typed_stays_text(name: str) -> None:
    sample = with_name(TEMPLATES[name].sample)

    shown = render(template=name, context=sample)

    assert "<script>" not in shown.html
    assert "&lt;script&gt;" in shown.html
    assert "\nBcc:" not in shown.subject + shown.text
    assert "\n" not in shown.subject


def test_kinds_are_those_that_people_can_mute() -> None:
    assert {template.kind for template in TEMPLATES.values()} - {""} == set(KINDS)


def test_an_unknown_language_is_answered_in_english() -> None:
    sample = TEMPLATES["welcome"].sample
    assert render(template="welcome", context=sample, language="tlh") == render(
        template="welcome", context=sample
    )


def leaves(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [leaf for one in value.values() for leaf in leaves(one)]
    if isinstance(value, list):
        return [leaf for one in value for leaf in leaves(one)]
    return [value] if isinstance(value, str) else []


def with_name(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: NASTY if key == "plan_name" else with_name(one) for key, one in value.items()}
    return [with_name(one) for one in value] if isinstance(value, list) else value
