"""Problem documents, RFC 9457: one shape for everything that goes wrong under `/api/`.

`code` is stable and machine-readable, `type` is its URN, `retryable` says whether the same request may
succeed later, `errors` point into the body (`pointer`, RFC 6901) or name a query parameter (`parameter`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import orjson
from django.http import HttpRequest, HttpResponse

CONTENT_TYPE = "application/problem+json"
# The answers that carry more than a body.
_HEADERS_KEPT = ("Allow", "WWW-Authenticate", "Retry-After")


@dataclass(frozen=True)
class Kind:
    """What is fixed about a code."""

    status: int
    title: str
    detail: str
    retryable: bool = False


KINDS: Mapping[str, Kind] = {
    "bad_request": Kind(400, "Bad request", "The request cannot be understood."),
    "malformed_json": Kind(400, "Malformed JSON", "The body is not valid JSON."),
    "validation_failed": Kind(400, "Validation failed", "One or more values are not acceptable."),
    "invalid_cursor": Kind(400, "Invalid cursor", "The cursor was not issued for this list."),
    "idempotency_key_required": Kind(
        400, "Idempotency key required", "This request moves money and needs an Idempotency-Key header."
    ),
    "idempotency_key_invalid": Kind(
        400, "Idempotency key invalid", "An idempotency key is 1 to 255 visible ASCII characters."
    ),
    "not_authenticated": Kind(
        401, "Not authenticated", "Send an API key or an access token as a bearer token."
    ),
    "invalid_api_key": Kind(401, "Invalid API key", "The API key is unknown, revoked or expired."),
    "invalid_access_token": Kind(
        401,
        "Invalid access token",
        "The access token is expired or its session is over: refresh, or sign in.",
    ),
    "invalid_refresh_token": Kind(
        401, "Invalid refresh token", "The refresh token is unknown, expired or used: sign in again."
    ),
    "reauthentication_required": Kind(
        401, "Reauthentication required", "Show once more who you are, then send this again."
    ),
    "session_required": Kind(403, "Session required", "An API key cannot do this: sign in."),
    "csrf_failed": Kind(
        403, "CSRF check failed", "The header X-CSRF-Token does not belong to the refresh cookie."
    ),
    "authentication_incomplete": Kind(
        401, "Authentication incomplete", "Another step is needed: `flows` says which."
    ),
    "wrong_credentials": Kind(400, "Wrong credentials", "The email or the password is wrong."),
    "wrong_code": Kind(400, "Wrong code", "The code is wrong."),
    "passkey_refused": Kind(400, "Passkey refused", "The passkey's answer does not fit what was asked."),
    "token_refused": Kind(400, "Token refused", "The identity provider's token is not valid here."),
    "sign_in_locked": Kind(429, "Locked", "Too many wrong passwords. Try again later.", retryable=True),
    "flow_not_pending": Kind(409, "Not pending", "This step does not wait to be done. Begin again."),
    "flow_expired": Kind(410, "Flow expired", "This flow is over. Begin again without its session token."),
    "email_taken": Kind(409, "Email taken", "Somebody else has this email."),
    "second_factor_required": Kind(
        403, "Second factor required", "You have a second factor: show that, not the first."
    ),
    "permission_denied": Kind(403, "Permission denied", "You may not do this."),
    "insufficient_scope": Kind(403, "Insufficient scope", "The API key lacks the scope that this needs."),
    "not_found": Kind(404, "Not found", "Nothing is here, or nothing that you may see."),
    "method_not_allowed": Kind(405, "Method not allowed", "The resource does not know this method."),
    "not_acceptable": Kind(406, "Not acceptable", "None of the accepted media types can be produced."),
    "conflict": Kind(409, "Conflict", "The resource is in a state that does not allow this."),
    "refresh_in_progress": Kind(
        409,
        "Refresh in progress",
        "Another request is refreshing with this token: use what it gets.",
        retryable=True,
    ),
    "account_in_use": Kind(409, "Account in use", "Something of yours is still here."),
    "request_in_progress": Kind(
        409, "Request in progress", "A request with this idempotency key is still running.", retryable=True
    ),
    "body_too_large": Kind(413, "Body too large", "The body is larger than this API takes."),
    "unsupported_media_type": Kind(415, "Unsupported media type", "Send application/json in UTF-8."),
    "misdirected_request": Kind(
        421, "Misdirected request", "This server does not serve the live stream; the stream service does."
    ),
    "unprocessable": Kind(422, "Unprocessable", "The request is well-formed and cannot be followed."),
    "idempotency_key_reused": Kind(
        422, "Idempotency key reused", "This idempotency key was used with another body."
    ),
    "sign_up_closed": Kind(403, "Sign-up closed", "Nobody can sign up just now."),
    "waitlist_closed": Kind(409, "Waitlist closed", "The platform is open: sign up."),
    "platform_paused": Kind(
        503, "Paused", "The platform is paused: looking and withdrawing go on.", retryable=True
    ),
    "platform_maintenance": Kind(503, "Maintenance", "The platform is being maintained.", retryable=True),
    "throttled": Kind(429, "Too many requests", "Slow down and try again later.", retryable=True),
    "too_many_streams": Kind(
        429, "Too many streams", "You have as many live streams open as one person may.", retryable=True
    ),
    "internal_error": Kind(500, "Internal error", "Something broke on our side.", retryable=True),
    "unavailable": Kind(503, "Unavailable", "Something that this needs is away. Try again.", retryable=True),
    "not_ready": Kind(503, "Not ready", "A dependency does not answer.", retryable=True),
}

# What a bare status means when nothing more is known.
CODE_BY_STATUS: Mapping[int, str] = {
    400: "bad_request",
    401: "not_authenticated",
    403: "permission_denied",
    404: "not_found",
    405: "method_not_allowed",
    406: "not_acceptable",
    409: "conflict",
    413: "body_too_large",
    415: "unsupported_media_type",
    421: "misdirected_request",
    422: "unprocessable",
    429: "throttled",
    503: "unavailable",
}


class ProblemError(Exception):
    """Answer this request with a problem of the catalogue."""

    def __init__(
        self,
        code: str,
        detail: str | None = None,
        *,
        errors: Sequence[Mapping[str, str]] = (),
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail or KINDS[code].detail)
        self.problem = Problem(
            code=code,
            detail=detail,
            errors=tuple(errors),
            headers=dict(headers or {}),
            extra=dict(extra or {}),
        )


@dataclass(frozen=True)
class Problem:
    """One problem. `status` need be given only for a code that the catalogue does not have."""

    code: str
    detail: str | None = None
    status: int | None = None
    errors: tuple[Mapping[str, str], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    # Extension members (RFC 9457, section 3.2), such as the checks of a readiness probe.
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> Kind:
        known = KINDS.get(self.code)
        if known is not None:
            return known
        status = self.status or 400
        generic = KINDS.get(CODE_BY_STATUS.get(status, ""))
        title = generic.title if generic else HTTPStatus(status).phrase
        return Kind(status, title, title, retryable=bool(generic and generic.retryable))


def pointer_token(value: object) -> str:
    """One reference token of a JSON Pointer (RFC 6901, section 3)."""
    return str(value).replace("~", "~0").replace("/", "~1")


def problem_document(problem: Problem, *, request: HttpRequest) -> dict[str, Any]:
    """The document's members in the order in which people read them."""
    kind = problem.kind
    return {
        "type": f"urn:tranche:problem:{problem.code}",
        "title": kind.title,
        "status": problem.status or kind.status,
        "detail": problem.detail or kind.detail,
        "instance": quote(request.path, safe="/:@-._~!$&'()*+,;="),
        "code": problem.code,
        "retryable": kind.retryable,
        "request_id": getattr(request, "request_id", ""),
        "errors": [dict(error) for error in problem.errors],
        **problem.extra,
    }


def problem_response(problem: Problem, *, request: HttpRequest) -> HttpResponse:
    """The answer: never rendered by a view's own renderer, so that it looks the same from everywhere."""
    document = problem_document(problem, request=request)
    response = HttpResponse(orjson.dumps(document), status=document["status"], content_type=CONTENT_TYPE)
    response["Cache-Control"] = "no-store"
    for name, value in problem.headers.items():
        response[name] = value
    return response


def problem_from_status(status: int, *, request: HttpRequest, answer: Mapping[str, str]) -> HttpResponse:
    """A problem in place of somebody else's error answer, whose body may tell internals and is dropped."""
    code = "internal_error" if status >= 500 and status != HTTPStatus.SERVICE_UNAVAILABLE else ""
    code = code or CODE_BY_STATUS.get(status, "bad_request")
    headers = {name: answer[name] for name in _HEADERS_KEPT if name in answer}
    fixed = None if KINDS[code].status == status else status
    return problem_response(Problem(code=code, status=fixed, headers=headers), request=request)
