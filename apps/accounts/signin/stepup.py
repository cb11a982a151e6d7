"""Before something sensitive: has this person just shown who they are, with the strongest that they have?"""

import time
from typing import cast

from allauth.account import app_settings
from allauth.account.internal.flows.login import get_authentication_records
from django.http import HttpRequest

from apps.accounts.models import User
from apps.accounts.signin.factor import has_factor


def is_fresh(request: HttpRequest) -> bool:
    """Whether the session saw a proof within `ACCOUNT_REAUTHENTICATION_TIMEOUT`. Signing in counts as one.

    Whoever has a second factor must have shown that: a stolen session together with the password must not be enough
    to take the factor away.
    """
    since = time.time() - app_settings.REAUTHENTICATION_TIMEOUT
    recent = [
        record["method"]
        for record in get_authentication_records(request, request.user)
        if record["at"] > since
    ]
    return "mfa" in recent or (bool(recent) and not has_factor(cast("User", request.user).pk))
