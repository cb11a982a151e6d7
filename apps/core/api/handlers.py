"""What Django calls when no view answers: unknown paths, refused requests, crashes."""

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.views import defaults

from apps.core.api.middleware import is_api_path
from apps.core.api.problems import Problem, problem_response


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    if is_api_path(request.path_info):
        return problem_response(Problem(code="bad_request"), request=request)
    return defaults.bad_request(request, exception)


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    if is_api_path(request.path_info):
        return problem_response(Problem(code="permission_denied"), request=request)
    return defaults.permission_denied(request, exception)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    if is_api_path(request.path_info):
        return problem_response(Problem(code="not_found"), request=request)
    return defaults.page_not_found(request, exception)


def server_error(request: HttpRequest) -> HttpResponseBase:
    """A crash. The exception is in the log and the error report; the caller gets an id to quote."""
    if is_api_path(request.path_info):
        return problem_response(Problem(code="internal_error"), request=request)
    return defaults.server_error(request)
