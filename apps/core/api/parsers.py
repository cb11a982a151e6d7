"""JSON as RFC 8259 has it, minus what two readers understand differently or PostgreSQL cannot store."""

import json
from collections.abc import Mapping
from typing import IO, Any

from django.http import UnreadablePostError
from rest_framework.parsers import BaseParser

from apps.core.api.problems import ProblemError, pointer_token

MAX_DEPTH = 16
_FORBIDDEN = "A NUL character or a lone surrogate cannot be stored."


class _RefusedError(ValueError):
    """Valid to Python's reader, not to ours."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise _RefusedError(f"The name {name!r} appears twice in one object.")
        found[name] = value
    return found


def _constant(name: str) -> None:
    raise _RefusedError(f"{name} is not a JSON number.")


def _float(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise _RefusedError("A number is out of range.")
    return value


def json_read(body: bytes) -> Any:
    """The value in `body`; raises `ProblemError` `malformed_json` or `validation_failed` (with a pointer)."""
    try:
        value = json.loads(
            body.decode("utf-8"), object_pairs_hook=_object, parse_constant=_constant, parse_float=_float
        )
    except UnicodeDecodeError as error:
        raise ProblemError("malformed_json", "The body is not UTF-8.") from error
    except RecursionError as error:
        raise ProblemError("malformed_json", f"The body nests deeper than {MAX_DEPTH} levels.") from error
    except json.JSONDecodeError as error:
        detail = f"The body is not valid JSON: line {error.lineno}, column {error.colno}."
        raise ProblemError("malformed_json", detail) from error
    except _RefusedError as error:
        raise ProblemError("malformed_json", str(error)) from error
    except ValueError as error:  # an integer of thousands of digits
        raise ProblemError("malformed_json", "A number is out of range.") from error
    _walk(value, pointer="", depth=1)
    return value


def _walk(value: Any, *, pointer: str, depth: int) -> None:
    """Refuse depth, and text that cannot be stored; recursion is bounded by the refusal of depth itself."""
    if isinstance(value, str):
        _text_check(value, pointer=pointer)
    elif isinstance(value, Mapping | list):
        if depth > MAX_DEPTH:
            raise ProblemError("malformed_json", f"The body nests deeper than {MAX_DEPTH} levels.")
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        for name, item in items:
            if isinstance(name, str):
                _text_check(name, pointer=pointer)
            _walk(item, pointer=f"{pointer}/{pointer_token(name)}", depth=depth + 1)


def _text_check(text: str, *, pointer: str) -> None:
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        error = {"pointer": pointer, "code": "invalid_character", "detail": _FORBIDDEN}
        raise ProblemError("validation_failed", errors=[error])


class StrictJSONParser(BaseParser):
    """The only parser: anything else is a 415."""

    media_type = "application/json"

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        del media_type
        request = (parser_context or {})["request"]
        charset = (
            request.content_params.get("charset", "utf-8") if hasattr(request, "content_params") else "utf-8"
        )
        encoding = request.META.get("HTTP_CONTENT_ENCODING", "identity")
        if charset.strip('"').lower() not in ("utf-8", "utf8") or encoding.lower() != "identity":
            raise ProblemError("unsupported_media_type")
        try:
            body = stream.read()
        except UnreadablePostError as error:  # the caller went away in the middle of its body
            raise ProblemError("bad_request") from error
        return json_read(body)
