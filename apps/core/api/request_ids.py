"""One id per request, from the caller when it is well-formed, through logs and answers to the tasks it rings.

The id lives in structlog's context variables under `request_id`: whoever runs in the request's context reads
it with `request_id_current()`; a worker's task decorator binds it on its side with `request_id_bind()`.
"""

import re

import structlog

from apps.core.ids import uuid7

_FORM = re.compile(r"\A[A-Za-z0-9][A-Za-z0-9._:-]{7,127}\Z")


def request_id_take(offered: str | None) -> str:
    """The caller's id when it is 8 to 128 harmless characters, else a new UUIDv7."""
    if offered and _FORM.match(offered):
        return offered
    return str(uuid7())


def request_id_current() -> str:
    """The id bound to this context; empty outside a request and outside a task that a request rang."""
    return str(structlog.contextvars.get_contextvars().get("request_id", ""))


def request_id_bind(request_id: str) -> None:
    """Bind an id that came with a task, so that its log lines carry the request's."""
    if request_id:
        structlog.contextvars.bind_contextvars(request_id=request_id)
