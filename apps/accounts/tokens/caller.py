"""What a request says of the device that sends it."""

from dataclasses import dataclass

from django.http import HttpRequest

from apps.accounts.tokens.models import Transport
from apps.core.api.client_address import client_address
from apps.core.api.problems import ProblemError

TRANSPORT_HEADER = "X-Token-Transport"


@dataclass(frozen=True)
class Caller:
    """`user_agent` as it was sent; `address` in text form."""

    user_agent: str
    address: str


def caller_of(request: HttpRequest) -> Caller:
    return Caller(request.headers.get("User-Agent", ""), client_address(request))


def transport_of(request: HttpRequest) -> Transport:
    """The transport that a sign-in asks for; `body` unless told. Raises `ProblemError` (400).

    Asked before a sign-in does anything. A session keeps its transport for good: could a refresh choose, a script
    on the page could have the cookie's token written into a body.
    """
    asked = request.headers.get(TRANSPORT_HEADER, Transport.BODY)
    if asked not in Transport.values:
        raise ProblemError("bad_request", f"{TRANSPORT_HEADER} is one of: {', '.join(Transport.values)}.")
    return Transport(asked)
