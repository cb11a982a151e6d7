"""Does the key or the session that asks hold what this method needs?"""

from typing import Any, cast

from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from apps.accounts.domain import Scope
from apps.accounts.models import ApiKey, User
from apps.accounts.signin.stepup import is_recent, step_up_required
from apps.accounts.tokens.domain import AccessToken
from apps.core.api.problems import ProblemError


def scopes_held(request: Request) -> list[str]:
    """An API key has those that it was given; a session has every scope of a customer."""
    return list(request.auth.scopes) if isinstance(request.auth, ApiKey) else sorted(Scope)


class HasScope(BasePermission):
    """Reads `scopes`, `sessions_only` and `step_up` of the view (see `apps.core.api.views.ApiView`).

    A method that the view lacks goes on to 405.
    """

    def has_permission(self, request: Request, view: Any) -> bool:
        if not isinstance(request.auth, ApiKey | AccessToken):
            return False
        method = "GET" if request.method == "HEAD" else str(request.method)
        if not hasattr(view, method.lower()) or method not in view.allowed_methods:
            return True
        scopes = getattr(view, "scopes", {})
        if method not in scopes:
            return False
        if isinstance(request.auth, AccessToken):
            if method in getattr(view, "step_up", ()):
                step_up_check(request.auth, user=cast("User", request.user))
            return True
        if getattr(view, "sessions_only", False):
            raise ProblemError("session_required")
        needed = scopes[method]
        if needed is not None and needed not in request.auth.scopes:
            raise ProblemError("insufficient_scope", f"The API key lacks the scope {needed}.")
        return True


def step_up_check(access_token: AccessToken, *, user: User) -> None:
    """Raises `ProblemError` `reauthentication_required` when the person showed who they are too long ago (RFC 9470)."""
    if not is_recent(access_token.authenticated_at):
        raise step_up_required(user)
