"""The benchmarks run and say what they promise to say. No figure is judged here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.e2e
@pytest.mark.timeout(400)
def test_quick_benchmarks_run_and_write_their_rows(tmp_path: Path) -> None:
    out = tmp_path / "bench.json"

    done = subprocess.run(
        [sys.executable, "-m", "tests.bench", "--quick", "--out", str(out)],
        capture_output=True,
        text=True,
        timeout=380,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads(out.read_text())
    keys = {"name", "ours", "baseline", "floor", "unit", "ratio", "goal", "met", "runs"}
    assert [set(row) for row in rows] == [keys] * 16
    assert [row["name"].split(" ")[0].rstrip(":") for row in rows] == [
        "claiming",
        "engine",
        *["main"] * 4,
        "worker",
        "access",
        *["api"] * 4,
        *["stream"] * 3,
        "crediting",
    ]
    assert all(row["ours"] > 0 and isinstance(row["met"], bool) for row in rows)
