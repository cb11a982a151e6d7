"""A few of the chaos cases in every test run, and proof that no failpoint is without its case."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos.cases import NOT_HERE, all_cases, failpoint_names


def test_every_failpoint_in_the_source_has_its_case() -> None:
    names = failpoint_names()
    killed = {case.fires for case in all_cases() if case.fires}

    assert killed | set(NOT_HERE) == names
    assert not killed & set(NOT_HERE)
    # The names that the main job cannot do without: should the search find nothing, this fails.
    assert {"plans.settle.posted", "chain.sign.after_commit", "work.plans.open.before_commit"} <= killed


@pytest.mark.chaos
@pytest.mark.e2e
@pytest.mark.timeout(620)
def test_a_few_faults_leave_the_books_of_an_undisturbed_run(tmp_path: Path) -> None:
    out = tmp_path / "chaos.json"

    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos", "--smoke", "--seed", "1", "--patience", "2", "--out", str(out)],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )

    rows = json.loads(out.read_text())
    assert [(row["case"], row["verdict"], row["details"]) for row in rows] == [
        ("undisturbed", "holds", []),
        ("redis flushed", "holds", []),
        ("rpc answer lost", "holds", []),
        ("kill chain.send.after_rpc", "holds", []),
        ("kill plans.settle.before_commit", "holds", []),
    ], done.stdout
    assert done.returncode == 0
