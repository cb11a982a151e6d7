"""Error reports: what Sentry is told, and what it is never told. `tests/core/test_canaries.py` holds it to that.

No bodies, no query strings, no cookies, no header that is not known to be harmless, no local variables, and of what we
call only the host: a node's URL often holds the key that pays for it. Nor do our requests and tasks carry Sentry's own
headers, which name the project by its key.
"""

from typing import Any
from urllib.parse import urlsplit

import sentry_sdk
from sentry_sdk.integrations.celery import CeleryIntegration

_HEADERS = {"accept", "content-length", "content-type", "host", "user-agent", "x-request-id"}


def start(*, dsn: str, environment: str, release: str) -> None:
    """Begin to report; nothing is sent without a DSN."""
    if not dsn:
        return
    sentry_sdk.init(
        dsn=dsn,
        environment=environment,
        release=release,
        send_default_pii=False,
        # Local variables may hold keys and tokens; a stack trace without them is worth the loss.
        include_local_variables=False,
        max_request_body_size="never",
        before_send=cleaned,
        before_send_transaction=cleaned,
        traces_sample_rate=0.1,
        trace_propagation_targets=[],
        integrations=[CeleryIntegration(propagate_traces=False)],
    )


def cleaned(event: Any, hint: Any) -> Any:
    """The event, without what a person or an endpoint may have given us in confidence."""
    del hint
    request = event.get("request")
    if request:
        headers = request.get("headers") or {}
        kept = {name: value for name, value in headers.items() if name.lower() in _HEADERS}
        event["request"] = {"method": request.get("method"), "url": _without_query(request), "headers": kept}
    for crumb in (event.get("breadcrumbs") or {}).get("values", ()):
        _calls_clean(crumb)
    for span in event.get("spans") or ():
        if span.get("op") == "http.client":
            span["description"] = "http.client"
            _calls_clean(span)
    return event


def _without_query(request: Any) -> str:
    return str(request.get("url") or "").partition("?")[0]


def _calls_clean(place: Any) -> None:
    """Of what we called, the host."""
    data = place.get("data") or {}
    if "url" in data:
        parts = urlsplit(str(data["url"]))
        place["data"] = {
            **{
                name: data[name]
                for name in ("http.method", "http.response.status_code", "status_code")
                if name in data
            },
            "host": parts.hostname,
        }
