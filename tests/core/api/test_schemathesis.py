"""Every operation under generated requests, on a real server: no crash, and no answer that the document does not tell.

Schemathesis makes the requests from the document: each example, each boundary of each schema, and random ones, right
and wrong. `SCHEMATHESIS_EXAMPLES=200` asks for more of these; `SCHEMATHESIS_SEED` repeats a run.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen
from uuid import UUID

import pytest
from django.conf import settings
from pytest_django import DjangoDbBlocker

from apps.accounts import second_factor
from apps.sandbox.runtime import offset
from tests.accounts.tokens.support import sign_in_for_good
from tests.core.api.operations import document, operations
from tests.core.api.support import ApiClient
from tests.core.api.town import Town, nobodys_id, town_make
from tests.support.web import database_copy, web_open

EXAMPLES = os.environ.get("SCHEMATHESIS_EXAMPLES", "5")
SEED = os.environ.get("SCHEMATHESIS_SEED", "4")
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)

pytestmark = [pytest.mark.django_db, pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(3_600)]


@dataclass(frozen=True)
class Served:
    """A town behind a real server."""

    town: Town
    port: int
    log: Path


@pytest.fixture(scope="module")
def served(
    django_db_setup: None, django_db_blocker: DjangoDbBlocker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    factor = second_factor.current()
    directory, sandbox = tmp_path_factory.mktemp("schemathesis"), Path(os.environ["SANDBOX_DIR"])
    with django_db_blocker.unblock(), database_copy() as url:
        town = town_make(partial(offset.travel, sandbox, rpc=None))
        # Behind a step-up lies most of what a session can do.
        town.session = ApiClient(sign_in_for_good(town.ann).access_token)
        environment = {
            "DATABASE_URL": url,
            "DJANGO_SETTINGS_MODULE": "config.settings.test",
            "REDIS_URL": settings.REDIS_URL,
        }
        with web_open(directory, **environment) as port:
            yield Served(town, port, directory / "web.log")
    second_factor.install(factor)
    (sandbox / offset.CLOCK_FILE).unlink(missing_ok=True)


def described(town: Town) -> dict[str, Any]:
    """The document, its ids those that are there and one that is not: random ones would find nothing to break."""
    found: dict[str, Any] = json.loads(json.dumps(document(), default=str))
    for methods in found["paths"].values():
        for operation in methods.values():
            for parameter in operation.get("parameters", ()):
                if parameter["in"] == "path" and parameter["name"] in town.ids:
                    one = town.ids[parameter["name"]]
                    found_ids = [one, nobodys_id(one)]
                    parameter["schema"]["enum"] = [
                        str(each) if isinstance(each, UUID) else each for each in found_ids
                    ]
    return found


# What would sign out the session that asks: their stories are asked in `test_examples.py`.
ENDS_ITS_SESSION = {"auth_sign_out", "sessions_revoke_all", "me_close", "auth_password_change"}
BY_SESSION = {one.name for one in operations() if one.takes == {"AccessToken"}} - ENDS_ITS_SESSION
BY_KEY = {one.name for one in operations()} - BY_SESSION - ENDS_ITS_SESSION


@pytest.mark.parametrize("by", ["key", "session"])
def test_no_crash_and_no_answer_outside_the_document(served: Served, tmp_path: Path, by: str) -> None:
    client, names = (served.town.client, BY_KEY) if by == "key" else (served.town.session, BY_SESSION)
    described_in, report = tmp_path / "openapi.json", tmp_path / "report.json"
    described_in.write_text(json.dumps(described(served.town)))

    done = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "run", str(described_in)),
            *(
                "--url",
                f"http://127.0.0.1:{served.port}",
                "--header",
                f"Authorization: Bearer {client.key}",
            ),
            *(part for name in sorted(names) for part in ("--include-operation-id", name)),
            *("--phases", "examples,coverage,fuzzing", "--checks", ",".join(CHECKS), "--workers", "2"),
            *("--max-examples", EXAMPLES, "--seed", SEED, "--suppress-health-check", "all", "--no-color"),
            *(
                "--warnings",
                "off",
                "--report",
                "json",
                "--report-json-path",
                str(report),
                "--continue-on-failure",
            ),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout[-8_000:] + done.stderr[-2_000:]
    assert f"Tested: {len(names)}" in done.stdout
    # Whoever asked was somebody until the end.
    asked = Request(
        f"http://127.0.0.1:{served.port}/api/v1/me", headers={"Authorization": f"Bearer {client.key}"}
    )
    with urlopen(asked) as answer:  # noqa: S310 — on loopback
        assert answer.status == 200
