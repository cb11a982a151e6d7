"""Around everything: security headers, the request id, the body limit, `/api/` answering problems, never HTML, and
how often anybody may try to sign in."""

import io
import re
from collections.abc import Callable
from functools import cache
from http import HTTPStatus
from typing import Any

import structlog
from csp.constants import HEADER
from csp.middleware import CSPMiddleware
from csp.utils import build_policy
from django.conf import settings
from django.db import Error
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.middleware.security import SecurityMiddleware
from django_prometheus.middleware import PrometheusAfterMiddleware
from django_prometheus.utils import Time, TimeSince
from django_structlog.middlewares import RequestMiddleware

from apps.core.api import limits
from apps.core.api.client_address import address_group, client_address
from apps.core.api.problems import CONTENT_TYPE, Problem, problem_from_status, problem_response
from apps.core.api.request_ids import request_id_take

_API = "/api"
_TOKENS = re.compile(r"[^/]{60,}")
REQUEST_ID_HEADER = "X-Request-Id"


def is_api_path(path: str) -> bool:
    return path == _API or path.startswith(f"{_API}/")


class RequestMetricsMiddleware(PrometheusAfterMiddleware):  # type: ignore[misc]
    """How long each view took and how it answered; what failed inside, by view and by kind.

    The library counts eleven more things per request (its bytes, its charset, its transport), which nobody asked for
    and which cost a fee quote 6 % of its processor time. Outermost here, so that the time is all of it.
    """

    def process_request(self, request: HttpRequest) -> None:
        request.prometheus_after_middleware_event = Time()  # type: ignore[attr-defined]

    def process_view(self, *_: Any) -> None:
        """Nothing: each request is counted once, by its answer."""

    def process_template_response(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        """Nothing."""
        del request
        return response

    def process_exception(self, request: HttpRequest, exception: Exception) -> None:
        self.metrics.exceptions_by_type.labels(type=type(exception).__name__).inc()
        self.metrics.exceptions_by_view.labels(view=self._get_view_name(request)).inc()

    def process_response(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        view, method = self._get_view_name(request), self._method(request)
        self.metrics.responses_by_status_view_method.labels(
            status=str(response.status_code), view=view, method=method
        ).inc()
        self.metrics.requests_latency_by_view_method.labels(view=view, method=method).observe(
            TimeSince(request.prometheus_after_middleware_event)  # type: ignore[attr-defined]
        )
        return response


class HeadersMiddleware(SecurityMiddleware):
    """Django's security headers, and those it does not know, on every answer, whichever middleware gave it.

    Outside of all that may answer by itself. Django's own middleware stays further in, where its refusals (an unknown
    host) become problems; its headers are these, set once.
    """

    def process_request(self, request: HttpRequest) -> None:
        """Nothing: it would redirect to HTTPS."""

    def process_response(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        answer: HttpResponse = super().process_response(request, response)
        for name, value in settings.SECURITY_HEADERS.items():
            answer.headers.setdefault(name, value)
        return answer


class PolicyMiddleware(CSPMiddleware):
    """The content security policy; for answers that want nothing else, as all of the API's, it is made once."""

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        own = hasattr(request, "_csp_nonce") or any(name.startswith("_csp") for name in vars(response))
        if own or settings.DEBUG:
            return super().process_response(request, response)
        response.headers.setdefault(HEADER, _policy())
        return response


@cache
def _policy() -> str:
    return build_policy()


class RequestLogMiddleware(RequestMiddleware):
    """A line per request when it is answered, with who asked; none when it begins.

    What the library binds before is bound already (`ProblemMiddleware`), and to ask who it is would load a session.
    What was asked is logged without what lets in whoever has it: the link of an export has its right in the query
    string, that of an unsubscription in the path.
    """

    def prepare(self, request: HttpRequest) -> None:
        """Nothing."""

    @staticmethod
    def format_request(request: HttpRequest) -> str:
        # No id is as long.
        return f"{request.method} {_TOKENS.sub('…', request.path)}"


class SignInLimitMiddleware:
    """Counts every request to a path in `SIGN_IN_PATHS` by its address, whoever serves the path."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if not request.path_info.startswith(settings.SIGN_IN_PATHS):
            return self.get_response(request)
        try:
            verdict = limits.hit_firmly("sign_in", f"address:{address_group(client_address(request))}")
        except Error:
            # Nobody signs in without a database.
            return problem_response(
                Problem(code="unavailable", headers={"Retry-After": "1"}), request=request
            )
        if verdict.allowed:
            response = self.get_response(request)
        else:
            response = problem_response(limits.refusal(verdict).problem, request=request)
        for name, value in limits.headers([verdict]).items():
            said = response.headers.get(name)
            response[name] = f"{said}, {value}" if said else value
        return response


class ProblemMiddleware:
    """Outermost but for metrics and CORS: whatever fails inside, an error under `/api/` leaves as a problem."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        request_id = request_id_take(request.META.get("HTTP_X_REQUEST_ID"))
        # django-structlog and everything inside read the id that we took, not the one that was offered.
        request.META["HTTP_X_REQUEST_ID"] = request_id
        request.request_id = request_id  # type: ignore[attr-defined]
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        try:
            response = self._answer(request)
        finally:
            structlog.contextvars.clear_contextvars()
        response[REQUEST_ID_HEADER] = request_id
        return response

    def _answer(self, request: HttpRequest) -> HttpResponseBase:
        if not is_api_path(request.path_info):
            return self.get_response(request)
        refusal = self._body_refuse(request)
        response = refusal if refusal is not None else self.get_response(request)
        if response.status_code < HTTPStatus.BAD_REQUEST or _is_problem(response):
            return response
        return problem_from_status(response.status_code, request=request, answer=response.headers)

    def _body_refuse(self, request: HttpRequest) -> HttpResponse | None:
        """413 before anything parses. A chunked body has no length and is read here, to the limit."""
        limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE or 0
        declared = request.META.get("CONTENT_LENGTH") or ""
        if declared:
            if not (declared.isascii() and declared.isdigit()):
                return problem_response(Problem(code="bad_request"), request=request)
            # Compared as text first: a length of thousands of digits is not worth converting.
            too_large = len(declared.lstrip("0")) > 12 or int(declared) > limit
            return self._too_large(request, limit) if too_large else None
        if "chunked" not in request.META.get("HTTP_TRANSFER_ENCODING", "").lower():
            return None
        # Django takes a body without Content-Length for an empty one; give it what was sent.
        stream = request.META.get("wsgi.input") or io.BytesIO()
        try:
            body = _read_up_to(stream, limit + 1)
        except OSError:  # the caller went away
            body = b""
        if not body:
            # The server ends the stream quietly when the chunks break off, so that an empty body may be a lost
            # one. (A lost tail needs no such care: JSON that breaks off is not JSON.)
            detail = "A chunked body came out empty; send no body, or a whole one."
            return problem_response(Problem(code="bad_request", detail=detail), request=request)
        if len(body) > limit:
            return self._too_large(request, limit)
        request.META["CONTENT_LENGTH"] = str(len(body))
        request._stream = io.BytesIO(body)
        return None

    @staticmethod
    def _too_large(request: HttpRequest, limit: int) -> HttpResponse:
        detail = f"The body is larger than the {limit} bytes that this API takes."
        return problem_response(Problem(code="body_too_large", detail=detail), request=request)


def _is_problem(response: HttpResponseBase) -> bool:
    return response.headers.get("Content-Type", "").partition(";")[0].strip() == CONTENT_TYPE


def _read_up_to(stream: io.BufferedIOBase, size: int) -> bytes:
    """At most `size` bytes; a stream may hand out less than asked for at a time."""
    parts, missing = [], size
    while missing > 0:
        part = stream.read(missing)
        if not part:
            break
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)
