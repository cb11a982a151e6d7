"""The OpenAPI document says of every operation what can go wrong, without each view repeating it."""

import inspect
from functools import cache
from pathlib import Path
from typing import Any, Literal

import orjson
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import get_lib_doc_excludes
from drf_spectacular.utils import OpenApiParameter, extend_schema_field
from rest_framework import serializers

from apps.core.api.codes import PROBLEM_CODES
from apps.core.api.idempotency import HEADER
from apps.core.api.problems import CONTENT_TYPE
from apps.core.api.serializers import StrictSerializer

# What tests really sent and got, by operation: `make examples` records it, a test compares it with what is answered.
EXAMPLES = Path(__file__).with_name("examples.json")

_TITLES = {
    400: "The request is malformed or a value is not acceptable.",
    401: "No valid API key or access token, or the proof behind it is too old.",
    403: "The API key lacks the scope, or the person the permission.",
    404: "Nothing is here, or nothing that you may see.",
    409: "A conflict with the resource's state, or a request with the same idempotency key in flight.",
    410: "What the token stands for is over.",
    413: "The body is larger than 10 kB.",
    415: "The body is not application/json in UTF-8.",
    421: "This server does not serve the live stream.",
    422: "The idempotency key was used with another body.",
    429: "Too many requests.",
    500: "Something broke on our side.",
    503: "Something that this needs is away.",
}


# Of the answers that ask to wait.
_RETRY_AFTER = {
    "Retry-After": {
        "schema": {"type": "integer", "minimum": 0},
        "description": "Seconds to wait before the next try.",
    }
}


def bases_without_words() -> list[Any]:
    """Classes whose docstrings are for whoever writes serializers, not for whoever calls the API."""
    return [*get_lib_doc_excludes(), StrictSerializer]  # type: ignore[no-untyped-call]


@cache
def _recorded() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = orjson.loads(EXAMPLES.read_bytes())
    return found


def code_fixed(code: str) -> Any:
    """The `code` of a problem that has a schema of its own: what tells it from the others."""
    field = type("FixedCodeField", (serializers.CharField,), {})
    described: Any = extend_schema_field({"type": "string", "const": code})(field)
    return described()


class ProblemErrorEntrySerializer(serializers.Serializer[Any]):
    pointer = serializers.CharField(required=False, help_text="JSON Pointer into the body (RFC 6901).")
    parameter = serializers.CharField(required=False, help_text="The query parameter at fault.")
    code = serializers.CharField()
    detail = serializers.CharField()


class ProblemSerializer(serializers.Serializer[Any]):
    """A problem document (RFC 9457)."""

    type = serializers.CharField(help_text="`urn:tranche:problem:` and the code.")
    title = serializers.CharField()
    status = serializers.IntegerField()
    detail = serializers.CharField()
    instance = serializers.CharField(help_text="The path of the request.")
    code = serializers.ChoiceField(choices=PROBLEM_CODES, help_text="Stable; new ones may be added.")
    retryable = serializers.BooleanField(help_text="Whether the same request may succeed later.")
    request_id = serializers.CharField(
        help_text="The X-Request-Id of the answer; quote it when asking for help."
    )
    errors = ProblemErrorEntrySerializer(many=True)  # type: ignore[assignment]


class ProblemAutoSchema(AutoSchema):
    """Adds problems, the idempotency header, and a tag from the view."""

    def get_tags(self) -> list[str]:
        tag = getattr(self.view, "tag", None)
        return [tag] if tag else [self.view.__class__.__module__.split(".")[1]]

    def _get_serializer_name(self, serializer: Any, direction: str, bypass_extensions: bool = False) -> str:
        """`PlanWriteSerializer` is what is sent: `PlanRequest`; for a PATCH its own name says so already."""
        name: str = super()._get_serializer_name(serializer, direction, bypass_extensions)
        return name.removeprefix("Patched").replace("WriteRequest", "Request")

    def get_description(self) -> str:  # type: ignore[override]
        """The method's own docstring and what it needs of who asks; never a class's notes to its readers."""
        text = inspect.getdoc(getattr(self.view, self.method.lower(), None)) or ""
        scope = getattr(self.view, "scopes", {}).get(self.method)
        needs = [
            f"Scope: `{scope}`." if scope else "",
            "Takes no API key: sign in." if self.view_is_for_sessions() else "",
            "A session must have shown who asks within the last 5 minutes, or `reauthentication_required`."
            if self.method in getattr(self.view, "step_up", ())
            else "",
        ]
        return "\n\n".join(filter(None, [text, " ".join(filter(None, needs))]))

    def get_auth(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = super().get_auth()
        return [one for one in found if "ApiKey" not in one] if self.view_is_for_sessions() else found

    def view_is_for_sessions(self) -> bool:
        return bool(getattr(self.view, "sessions_only", False))

    def get_override_parameters(self) -> list[Any]:
        options = self._idempotency()
        if options is None:
            return []
        description = (
            "Makes a repeated request safe: the same key with the same body gets the first answer"
            f" again. Kept {options['keep'].days} day(s)."
        )
        return [
            OpenApiParameter(
                HEADER,
                {"type": "string", "minLength": 1, "maxLength": 255},
                OpenApiParameter.HEADER,
                required=options["required"],
                description=description,
            )
        ]

    def _get_response_bodies(self, direction: Literal["request", "response"] = "response") -> Any:
        responses = super()._get_response_bodies(direction=direction)
        for status in self._problem_statuses():
            responses.setdefault(str(status), self._problem(status))
        return dict(sorted(responses.items()))

    def _get_examples(
        self, serializer: Any, direction: str, media_type: str, status_code: Any = None, extras: Any = None
    ) -> Any:
        """The recorded example, else a view's own."""
        found = super()._get_examples(serializer, direction, media_type, status_code, extras)  # type: ignore[no-untyped-call]
        recorded = _recorded().get(self.get_operation_id(), {})
        wanted = str(recorded.get("status")) if direction == "response" else None
        if direction not in recorded or wanted != (status_code and str(status_code)):
            return found
        return {"Recorded": {"value": recorded[direction]}}

    def _problem_statuses(self) -> list[int]:
        statuses = {500, 503, *getattr(self.view, "refusals", ())}
        if not getattr(self.view, "public", False):
            statuses |= {401, 403}
        if self.method in ("POST", "PUT", "PATCH"):
            statuses |= {400, 409, 413, 415}
        if self._get_parameters():
            statuses.add(400)
        if "{" in self.path:
            statuses.add(404)
        if self.method in ("PATCH", "DELETE"):
            statuses.add(409)
        if self._idempotency() is not None:
            statuses |= {400, 409, 422}
        if getattr(self.view, "counted", False):
            statuses.add(429)
        statuses |= getattr(self.view, "also", {}).get(self.method, frozenset())
        return sorted(statuses)

    def _problem(self, status: int) -> dict[str, Any]:
        special = getattr(self.view, "problems", {}).get(self.method, {}).get(status, ())
        kinds = [*special, ProblemSerializer]
        found = [self.resolve_serializer(kind, "response").ref for kind in kinds]
        answer = {
            "content": {CONTENT_TYPE: {"schema": found[0] if len(found) == 1 else {"anyOf": found}}},
            "description": _TITLES[status],
        }
        return {**answer, "headers": _RETRY_AFTER} if status in (429, 503) else answer

    def _idempotency(self) -> Any:
        handler = getattr(self.view, self.method.lower(), None)
        return getattr(handler, "idempotency", None)
