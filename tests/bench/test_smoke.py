"""The benchmarks run and say what they promise to say. No figure is judged here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.e2e
@pytest.mark.timeout(820)
def test_quick_benchmarks_run_and_write_their_rows(tmp_path: Path) -> None:
    out = tmp_path / "bench.json"

    done = subprocess.run(
        [sys.executable, "-m", "tests.bench", "--quick", "--out", str(out)],
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads(out.read_text())
    keys = {"name", "ours", "baseline", "floor", "unit", "ratio", "goal", "met", "runs"}
    assert [set(row) for row in rows] == [keys] * 24
    assert [row["name"].split(" ")[0].rstrip(":,") for row in rows] == [
        "claiming",
        *["audit"] * 3,
        "engine",
        *["main"] * 4,
        "worker",
        "access",
        *["api"] * 4,
        "sign-in",
        "access",
        *["stream"] * 3,
        *["mail"] * 3,
        "crediting",
    ]
    assert all(row["ours"] > 0 for row in rows)
    # Where there is a goal it is met or not; where there is none nothing is claimed.
    assert all(isinstance(row["met"], bool if row["goal"] else type(None)) for row in rows)
