"""Every exception that a view may raise, as a problem. What is not known here is a crash."""

import logging
from collections.abc import Iterator, Mapping
from typing import Any

from django.core.exceptions import PermissionDenied
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from rest_framework import exceptions as drf
from rest_framework.views import set_rollback

from apps.core.api.problems import CODE_BY_STATUS, Problem, ProblemError, pointer_token, problem_response
from apps.core.errors import DomainError, Retryable

logger = logging.getLogger(__name__)

_NON_FIELD = "non_field_errors"


class QueryError(Exception):
    """Query parameters that a serializer refused: its errors name parameters, not places in a body."""

    def __init__(self, detail: Any) -> None:
        super().__init__("invalid query")
        self.detail = detail


def errors_walk(detail: Any, *, pointer: str = "") -> Iterator[tuple[str, drf.ErrorDetail]]:
    """DRF's nested errors as (JSON Pointer, error) pairs, in the order in which they stand."""
    if isinstance(detail, Mapping):
        for name, value in detail.items():
            yield from errors_walk(
                value, pointer=pointer if name == _NON_FIELD else f"{pointer}/{pointer_token(name)}"
            )
    elif isinstance(detail, list | tuple):
        for index, value in enumerate(detail):
            nested = isinstance(value, Mapping | list | tuple)
            yield from errors_walk(value, pointer=f"{pointer}/{index}" if nested else pointer)
    else:
        yield (
            pointer,
            detail if isinstance(detail, drf.ErrorDetail) else drf.ErrorDetail(str(detail), "invalid"),
        )


def exception_handler(error: Exception, context: dict[str, Any]) -> HttpResponse | None:
    """DRF's hook. `None` lets a crash go on to Django, which logs it and asks `handler500`."""
    problem = problem_of(error)
    if problem is None:
        return None
    request: HttpRequest = context["request"]._request
    set_rollback()
    return problem_response(problem, request=request)


def problem_of(error: Exception) -> Problem | None:
    """The problem that an exception stands for, or `None` for a crash."""
    match error:
        case ProblemError():
            return error.problem
        case DomainError():
            pointed = ({"pointer": error.pointer, "code": error.code, "detail": error.detail},)
            return Problem(
                code=error.code,
                detail=error.detail,
                status=error.status,
                errors=pointed if error.pointer else (),
            )
        case QueryError():
            return Problem(
                code="validation_failed",
                errors=tuple(
                    {
                        "parameter": pointer.strip("/").split("/")[0],
                        "code": str(item.code),
                        "detail": str(item),
                    }
                    for pointer, item in errors_walk(error.detail)
                ),
            )
        case drf.ValidationError():
            return Problem(
                code="validation_failed",
                errors=tuple(
                    {"pointer": pointer, "code": str(item.code), "detail": str(item)}
                    for pointer, item in errors_walk(error.detail)
                ),
            )
        case drf.ParseError():
            return Problem(code="malformed_json", detail=str(error.detail))
        case Http404() | drf.NotFound():
            return Problem(code="not_found")
        case PermissionDenied():
            return Problem(code="permission_denied")
        case drf.Throttled():
            headers = {"Retry-After": str(max(1, int(getattr(error, "wait", None) or 1)))}
            return Problem(code="throttled", headers=headers)
        case drf.APIException():
            return _problem_of_api_exception(error)
        case Retryable() | OperationalError() | InterfaceError():
            # The text stays in the log: it may name hosts, tables, statements.
            logger.warning("request gave up", exc_info=error)
            after = error.after_seconds if isinstance(error, Retryable) else None
            return Problem(code="unavailable", headers={"Retry-After": str(max(1, round(after or 1)))})
    return None


def _problem_of_api_exception(error: drf.APIException) -> Problem:
    headers = {}
    challenge = getattr(error, "auth_header", None)
    if challenge:
        headers["WWW-Authenticate"] = str(challenge)
    code = str(error.get_codes())
    if error.status_code >= 500:
        return Problem(code="internal_error")
    if code in ("error", "authentication_failed", "parse_error") or isinstance(
        error, drf.MethodNotAllowed | drf.UnsupportedMediaType | drf.NotAcceptable | drf.NotAuthenticated
    ):
        return Problem(code=CODE_BY_STATUS.get(error.status_code, "bad_request"), headers=headers)
    return Problem(code=code, detail=str(error.detail), status=error.status_code, headers=headers)
