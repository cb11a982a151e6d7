"""Which route is of which class. The first line that fits counts; `tests/launch` walks all routes through it."""

import re
from dataclasses import dataclass

from apps.launch.domain import RouteClass

R = RouteClass
READS = frozenset({"GET", "HEAD", "OPTIONS"})
_API = "api/v1/"


@dataclass(frozen=True, slots=True)
class Line:
    """`pattern` is matched from the start of a route as it stands in the URLconf; no `methods`: all of them."""

    pattern: re.Pattern[str]
    route_class: RouteClass
    methods: frozenset[str] = frozenset()


def _line(pattern: str, route_class: RouteClass, *methods: str) -> Line:
    return Line(re.compile(pattern), route_class, frozenset(methods))


LINES: tuple[Line, ...] = (
    _line(rf"{_API}health(/|$)|metrics$|{_API}platform/status$", R.ALWAYS),
    _line(r"admin/", R.STAFF),
    _line(rf"{_API}(schema|docs|redoc)$", R.DOCS),
    _line(rf"{_API}waitlist(/|$)", R.WAITLIST),
    # Proving one's e-mail comes after the account is made: that is signing in.
    _line(rf"{_API}auth/(sign-?up|provider/sign-?up)", R.SIGN_UP),
    _line(rf"{_API}(auth|sessions)(/|$)", R.SIGN_IN),
    _line(rf"{_API}(webhooks|mail)/", R.INBOUND, "POST"),
    _line(r"mail/unsubscribe/", R.MANAGE),
    # Said by POST because of its body; changes nothing.
    _line(rf"{_API}(plans/preview|fees/quote)$", R.READ),
    _line(rf"{_API}plans/[^/]+/(pause|cancel)$", R.MANAGE),
    _line(rf"{_API}plans(/|$)", R.BUY, "POST", "PUT", "PATCH", "DELETE"),
    _line(rf"{_API}withdrawals/[^/]+/cancel$", R.MANAGE),
    _line(rf"{_API}withdrawals(/|$)", R.WITHDRAW, "POST", "PUT", "PATCH", "DELETE"),
    # An address is needed to withdraw to; removing one, or a key, protects.
    _line(
        rf"{_API}(me|api-keys|withdrawal-destinations)(/|$)",
        R.MANAGE,
        "POST",
        "PUT",
        "PATCH",
        "DELETE",
    ),
)


def route_line(route: str, method: str) -> Line | None:
    """The line that fits, or `None`."""
    for line in LINES:
        if (not line.methods or method in line.methods) and line.pattern.match(route):
            return line
    return None


def route_class(route: str, method: str) -> RouteClass:
    """Looking for reads that no line names; for other methods the class that answers least."""
    line = route_line(route, method)
    if line is not None:
        return line.route_class
    return R.READ if method in READS else R.BUY
