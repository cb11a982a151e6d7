"""What every test needs from the database."""

import math
import time
from collections.abc import Iterator, Sequence
from typing import Any

import hypothesis
import pytest
from django.contrib.auth.signals import user_logged_in
from django.db import connection
from django.db.backends.postgresql.operations import DatabaseOperations

# How long an example takes on a busy machine says nothing of the code: no fifth of a second each, no second for ten.
hypothesis.settings.register_profile(
    "unhurried", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("unhurried")


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings_parallel_suffix: None) -> None:
    """A test's transaction stays open while it watches other processes: on a busy machine for longer than ours may."""
    connection.settings_dict["OPTIONS"]["options"] += " -c idle_in_transaction_session_timeout=0"


@pytest.fixture(scope="session", autouse=True)
def flush_of_append_only_tables() -> Iterator[None]:
    """Let Django empty the tables after a transactional test: the ledger's triggers refuse TRUNCATE.

    Only that flush is let through, by a setting that needs a superuser and ends with its transaction; a TRUNCATE
    that a test sends is refused as in production.
    """
    flush = DatabaseOperations.execute_sql_flush

    def flush_past_triggers(self: DatabaseOperations, sql_list: Sequence[str]) -> Any:
        return flush(self, ["SET LOCAL session_replication_role = replica", *sql_list])

    DatabaseOperations.execute_sql_flush = flush_past_triggers  # type: ignore[method-assign,assignment]
    yield
    DatabaseOperations.execute_sql_flush = flush  # type: ignore[method-assign]


@pytest.fixture(scope="session", autouse=True)
def force_login_stands_for_both_factors() -> Iterator[None]:
    """`client.force_login` is somebody who is signed in, second factor and all.

    Only that: a request of its own, which no sign-in page is, has no path.
    """

    def shown(request: Any, **_: Any) -> None:
        if not request.path:
            # Late: at the time when this file is read, Django is not set up.
            from apps.accounts.adminsite.signing_in import SHOWN

            request.session[SHOWN] = int(time.time())

    user_logged_in.connect(shown, dispatch_uid="tests.force_login")
    yield
    user_logged_in.disconnect(dispatch_uid="tests.force_login")


@pytest.fixture(autouse=True)
def nothing_kept_from_the_test_before() -> None:
    """A test's rows are rolled back behind the back of what keeps configuration for a second."""
    from apps.fees.services import SCHEDULES
    from apps.plans.selectors import MARKETS_OF_PLANS
    from apps.providers.api.fields import MARKETS

    for kept in (MARKETS, MARKETS_OF_PLANS, SCHEDULES):
        kept.forget()


@pytest.fixture(autouse=True)
def platform_is_live(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a process asks twice a second would come up in some test's count of queries: kept from the start.

    Changing the state or a switch in the test's own process makes it ask anew, as in production.
    """
    from apps.launch.domain import Platform, State
    from apps.launch.states import PLATFORM_NOW

    live = Platform(State.LIVE, None, "", None, frozenset())
    monkeypatch.setattr(PLATFORM_NOW, "_kept", {"": (math.inf, live)})
