"""What a log line says of a request: never its query string, nor a token in its path."""

import logging

import pytest
import structlog
from django.test import RequestFactory

from apps.core.api.middleware import RequestLogMiddleware

PATH = "/api/v1/me/exports/0197f0a0-0000-7000-8000-000000000001/file"


def test_a_request_is_written_without_what_lets_in() -> None:
    written = RequestLogMiddleware.format_request
    assert written(RequestFactory().get(PATH, {"signature": "s3cret"})) == f"GET {PATH}"
    assert written(RequestFactory().post("/mail/unsubscribe/" + "t" * 60)) == "POST /mail/unsubscribe/…"


@pytest.mark.parametrize("status", [404, 500])
def test_nor_do_lines_of_django_itself_show_it(status: int) -> None:
    (formatter,) = (
        handler.formatter
        for handler in logging.getLogger().handlers
        if isinstance(handler.formatter, structlog.stdlib.ProcessorFormatter)
    )
    request = RequestFactory().get(PATH, {"signature": "s3cret"})
    record = logging.makeLogRecord(
        {
            "name": "django.request",
            "msg": "Refused: %s",
            "args": (PATH,),
            "status_code": status,
            "request": request,
        }
    )

    line = formatter.format(record)

    assert PATH in line
    assert f"status_code={status}" in line
    assert "s3cret" not in line
