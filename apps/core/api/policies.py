"""A content security policy for a whole tree of routes that belongs to somebody else."""

from typing import Any

from csp.decorators import csp
from django.urls import URLPattern, URLResolver


def policy_apply(patterns: list[Any], policy: dict[str, Any]) -> None:
    """Give every view below `patterns` the policy; the patterns are changed in place."""
    for pattern in patterns:
        if isinstance(pattern, URLResolver):
            policy_apply(pattern.url_patterns, policy)
        elif isinstance(pattern, URLPattern):
            pattern.callback = csp(policy)(pattern.callback)
