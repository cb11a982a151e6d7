"""From where: the request that is being answered, for services that are not told of it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from apps.core.api.client_address import client_address

_request: ContextVar[HttpRequest | None] = ContextVar("audit_request", default=None)


@dataclass(frozen=True)
class Origin:
    """Address of the client, id of the request, and the credential that was shown."""

    address: str | None = None
    request_id: str = ""
    via: str = ""


class OriginMiddleware:
    """Remembers the request for as long as it is answered."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        with request_known(request):
            return self.get_response(request)


@contextmanager
def request_known(request: HttpRequest) -> Iterator[None]:
    token = _request.set(request)
    try:
        yield
    finally:
        _request.reset(token)


def request_current() -> HttpRequest | None:
    """The request that is being answered, if one is."""
    return _request.get()


def origin_read(request: Any = None) -> Origin:
    """Of `request` (Django's or DRF's), else of the one that is being answered, else nothing."""
    request = request if request is not None else _request.get()
    if request is None:
        return Origin()
    return Origin(
        address=client_address(request) or None,
        request_id=str(getattr(request, "request_id", ""))[:128],
        via=_via(request),
    )


def _via(request: Any) -> str:
    # DRF keeps what authenticated on the request that it wraps, too.
    credential = getattr(request, "auth", None)
    if credential is None:
        return "admin" if request.path.startswith("/admin/") else ""
    session_id = getattr(credential, "session_id", None)
    return f"session:{session_id}" if session_id is not None else f"api_key:{credential.pk}"
