"""What django-axes asks: whose tries these are, from where, and what a locked person is answered."""

from math import ceil
from typing import Any

from axes.models import AccessAttempt
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.crypto import salted_hmac

from apps.accounts.managers import email_normalise
from apps.core.api.client_address import client_address
from apps.core.api.middleware import is_api_path

# Longer ones are nobody's, and the column takes no more.
_LENGTH = 255


def username(request: HttpRequest, credentials: dict[str, Any] | None) -> str:
    """allauth says `email`, the admin's form `username`."""
    del request
    given = credentials or {}
    return email_normalise(str(given.get("email") or given.get("username") or ""))[:_LENGTH]


def address(request: HttpRequest) -> str:
    return client_address(request)


def seconds_left(request: HttpRequest) -> int:
    """For how long the lock that axes has just found still holds, at least one second.

    axes keeps a row for each user agent, and adds up those that are not over.
    """
    name, failures = username(request, getattr(request, "axes_credentials", None)), 0
    tries = AccessAttempt.objects.filter(username=name, ip_address=address(request)).order_by("-attempt_time")
    now = until = timezone.now()
    for at, count in tries.values_list("attempt_time", "failures_since_start"):
        failures, until = failures + count, at + settings.AXES_COOLOFF_TIME
        if failures >= settings.AXES_FAILURE_LIMIT:
            break
    return max(1, ceil((until - now).total_seconds()))


def client(name: str, address: str, agent: str, path: str, request: HttpRequest) -> str:
    """How a log line names who tried: a mark that tells one from another, and nothing to read in it."""
    del agent, request
    mark = salted_hmac("tranche.accounts.lockout", f"{name}\n{address}", algorithm="sha256").hexdigest()[:12]
    return f"{mark} at {path}"


def answer(
    request: HttpRequest, original: HttpResponse | None, credentials: dict[str, Any] | None
) -> HttpResponse:
    """The API has said so itself, as a problem; the admin's form is answered here."""
    del credentials
    if original is not None and is_api_path(request.path_info):
        return original
    return HttpResponse(
        "Too many wrong passwords. Try again in a quarter of an hour.",
        status=429,
        content_type="text/plain",
        headers={"Retry-After": str(seconds_left(request))},
    )
