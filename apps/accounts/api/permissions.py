"""Does the key hold the scope that this method needs?"""

from typing import Any

from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from apps.accounts.models import ApiKey
from apps.core.api.problems import ProblemError


class HasScope(BasePermission):
    """Reads `view.scopes` (see `apps.core.api.views.ApiView`); a method that the view lacks goes on to 405."""

    def has_permission(self, request: Request, view: Any) -> bool:
        if not isinstance(request.auth, ApiKey):
            return False
        method = "GET" if request.method == "HEAD" else str(request.method)
        if not hasattr(view, method.lower()) or method not in view.allowed_methods:
            return True
        scopes = getattr(view, "scopes", {})
        if method not in scopes:
            return False
        needed = scopes[method]
        if needed is not None and needed not in request.auth.scopes:
            raise ProblemError("insufficient_scope", f"The API key lacks the scope {needed}.")
        return True
