"""Before something sensitive: has this person just shown who they are, with the strongest that they have?"""

import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, cast

from allauth.account import app_settings
from allauth.account.internal.flows.login import get_authentication_records
from allauth.account.internal.flows.reauthentication import get_reauthentication_flows
from django.http import HttpRequest

from apps.accounts.models import User
from apps.accounts.signin.factor import has_factor
from apps.accounts.tokens.domain import STEP_UP_LIFETIME
from apps.accounts.tokens.strategy import access_token_of
from apps.core import clock
from apps.core.api.problems import ProblemError

MAX_AGE_SECONDS = int(STEP_UP_LIFETIME.total_seconds())
_CHALLENGE = f'Bearer realm="api", error="insufficient_user_authentication", max_age={MAX_AGE_SECONDS}'
# How to step up, the strongest first: whoever has a second factor shows that.
_PROOFS = ("mfa_reauthenticate", "reauthenticate")
_BY_PROVIDER = {"id": "provider_reauthenticate", "providers": ["google"]}


def is_fresh(request: HttpRequest) -> bool:
    """Whether the session saw a proof within `ACCOUNT_REAUTHENTICATION_TIMEOUT`. Signing in counts as one.

    Whoever has a second factor must have shown that: a stolen session together with the password must not be enough
    to take the factor away. allauth notes a proof by the machine's clock, our session by `core.clock`, which is what
    all other routes go by: it counts while both say so.
    """
    access = access_token_of(request)
    if access is not None and not is_recent(access.authenticated_at):
        return False
    since = time.time() - app_settings.REAUTHENTICATION_TIMEOUT
    recent = [
        record["method"]
        for record in get_authentication_records(request, request.user)
        if record["at"] > since
    ]
    return "mfa" in recent or (bool(recent) and not has_factor(cast("User", request.user).pk))


def is_recent(authenticated_at: datetime) -> bool:
    """Whether a proof of then still counts."""
    return clock.now() - authenticated_at <= STEP_UP_LIFETIME


def step_up_required(user: User) -> ProblemError:
    """RFC 9470: the token is good, the proof behind it too old. `flows` says which proof is wanted."""
    return step_up_problem(get_reauthentication_flows(user))


def step_up_problem(flows: Sequence[Mapping[str, Any]]) -> ProblemError:
    """The same for somebody of whom allauth has told already how they can show who they are."""
    proofs = {flow["id"]: flow for flow in flows if flow["id"] in _PROOFS}
    best = [proofs[name] for name in _PROOFS if name in proofs][:1] or [_BY_PROVIDER]
    return ProblemError(
        "reauthentication_required",
        headers={"WWW-Authenticate": _CHALLENGE},
        extra={"max_age": MAX_AGE_SECONDS, "flows": best},
    )
