"""`make demo` itself, on a shorter calendar: real services, real processes, the REST API, the real exit status."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from apps.sandbox.runtime.paths import ROOT_DIR, VAR_DIR
from tests.sandbox.platform import clean_environment, processes_of

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@pytest.mark.timeout(170)
def test_the_demo_settles_every_slot_and_proves_it_and_leaves_nothing_behind(tmp_path: Path) -> None:
    # given a calendar of nine days around the change of the clocks, and a place of its own to recognise children by
    environment = clean_environment(SANDBOX_DIR=str(tmp_path / "elsewhere"), DEMO_OF_TEST=str(tmp_path))
    demos = set(VAR_DIR.glob("demo-*"))

    # when the demo runs to its end
    done = subprocess.run(
        [sys.executable, "manage.py", "sandbox", "demo", "--days", "9"],
        cwd=ROOT_DIR,
        env=environment,
        capture_output=True,
        text=True,
        timeout=160,
        check=False,
    )

    # then everything holds, to the count
    said = done.stdout
    assert done.returncode == 0, said + done.stderr
    rows = {tuple(re.split(r"\s{2,}", line.strip())) for line in said.splitlines()}
    assert ("Ada: Bitcoin, daily", "9", "settled", "filled", "9", "completed") in rows
    assert ("Ada: Bitcoin, on the 31st", "1", "settled", "filled", "1", "completed") in rows
    assert ("Ada: Ether, one day by the hour", "24", "settled", "filled", "24", "completed") in rows
    assert ("Bela: Bitcoin, daily too", "9", "settled", "filled", "9", "completed") in rows
    assert ("Bela: Bitcoin for ether", "5", "settled", "filled", "5", "paused") in rows
    assert ("3", "skipped", "insufficient_funds", "3") in rows
    blocked = next(row for row in rows if row[1:3] == ("skipped", "price_above_limit"))
    assert blocked[0] == blocked[3] != "0"
    # nine o'clock on both sides of the change, and the month's last day
    assert re.search(
        r"Sat 27 Mar \d{4} 09:00 CET +\+0100 +08:00|Sun \d\d Mar \d{4} 09:00 CEST +\+0200 +07:00", said
    )
    assert re.search(r"31 Mar \d{4} 09:00 CEST .*filled \(on the 31st\)", said)
    assert "The price was above the plan's upper limit" in said  # from the API's record of one slot
    # and money came from chain and went back there, the last decimal included
    assert "Bela sent 730.000001 USDC" in said
    proved = [row for row in rows if row[0] in {"Ada", "Bela"} and row[-1] == "equal" and len(row) >= 5]
    assert {("Ada", "USDC"), ("Ada", "WBTC"), ("Ada", "WETH")} <= {row[:2] for row in proved}
    assert {("Bela", code) for code in ("ETH", "LINK", "USDC", "WBTC", "WETH")} <= {row[:2] for row in proved}
    assert {row[0] for row in rows if row[-1] == "matched"} == {"ETH", "LINK", "USDC", "WBTC", "WETH"}
    assert "DIFFER" not in said
    assert re.search(r"holds +treasury\.ledger_equals_chain +none", said)
    assert "BROKEN" not in said
    assert (found := re.search(r"(\d+) of (\d+) checks hold\.", said)) is not None
    assert found[1] == found[2]
    assert all(len(line) <= 100 for line in said.splitlines())

    # and people came to their accounts by the mails that were sent, kept their sessions, and saw everything live
    people = {row[0]: row for row in rows if row[0] in {"Ada", "Bela"} and len(row) == 9}
    assert {name: row[1] for name, row in people.items()} == {"Ada": "password, app", "Bela": "API key"}
    # mails, codes read, refreshes, step-ups
    assert all(int(row[2]) > 10 and row[3] == "1" and int(row[4]) >= 1 for row in people.values()), people
    # Ada before she adds the app (by password) and before she adds her wallet (by the app), Bela before making the key
    assert (int(people["Ada"][5]), int(people["Bela"][5])) == (2, 1)
    # to add the app, to sign in with it, to step up, for three withdrawals: each its own
    assert int(people["Ada"][6]) + int(people["Ada"][7]) == 6
    assert (people["Bela"][6], people["Bela"][7]) == ("0", "0")
    seen = re.search(r"Ada saw (\d+) events live over (\d+) connections \((\d+) cut on purpose", said)
    assert seen is not None
    # A second cut comes only after the first was resumed; the last may fall on the last event.
    assert int(seen[2]) >= int(seen[3]) > 1
    assert f"without gap or repeat, equal to the {seen[1]} of GET /api/v1/events" in " ".join(said.split())

    # and neither a process nor a directory is left
    assert processes_of("DEMO_OF_TEST", str(tmp_path)) == []
    assert set(VAR_DIR.glob("demo-*")) <= demos
    assert not (tmp_path / "elsewhere").exists()
