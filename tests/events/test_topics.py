"""The catalogue of topics is complete, has nothing that is never told, and is what docs/api.md shows."""

import re
from fnmatch import fnmatch

import pytest

from apps.events.topics import PERSON_TOPICS
from tests.events.topics import Code
from tests.house.tree import read


@pytest.fixture(scope="module")
def told() -> set[str]:
    return Code().topics_told_to_people()


def test_what_the_code_tells_people_is_in_the_catalogue(told: set[str]) -> None:
    assert {"execution.settled", "deposit.credited", "plan.paused", "withdrawal.*"} <= told
    assert [one for one in told if not any(fnmatch(topic, one) for topic in PERSON_TOPICS)] == []


def test_what_is_in_the_catalogue_is_told(told: set[str]) -> None:
    assert [topic for topic in PERSON_TOPICS if not any(fnmatch(topic, one) for one in told)] == []


def test_topics_are_words_in_past_tense_after_a_thing() -> None:
    assert [topic for topic in PERSON_TOPICS if not re.fullmatch(r"[a-z_]+\.[a-z_]+", topic)] == []
    assert [topic for topic in PERSON_TOPICS if len(topic) > 64] == []


def test_the_guide_shows_the_catalogue() -> None:
    rows = "".join(f"| `{topic}` | {meaning} |\n" for topic, meaning in PERSON_TOPICS.items())
    expected = f"<!-- topics -->\n| topic | meaning |\n|---|---|\n{rows}<!-- /topics -->"

    shown = re.findall(r"<!-- topics -->.*?<!-- /topics -->", read("docs/api.md"), re.DOTALL)

    assert shown == [expected], f"docs/api.md should say:\n{expected}"
