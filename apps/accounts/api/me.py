"""Me: who I am, what I want to be told, all that is known about me, and leaving."""

from typing import Any, cast
from uuid import UUID

from django.http import StreamingHttpResponse
from django.urls import reverse
from django.utils.http import content_disposition_header
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts import closing, exports
from apps.accounts.api import me_serializers as shown
from apps.accounts.api.permissions import scopes_held
from apps.accounts.managers import email_normalise
from apps.accounts.me.domain import MAIL_KINDS, ExportState, PreferencesRead
from apps.accounts.me.models import DataExport
from apps.accounts.me.preferences import preferences_of, preferences_set
from apps.accounts.me.profile import profile_get
from apps.accounts.models import User
from apps.accounts.signin.api.serializers import STEP_UP_PROBLEMS
from apps.core.api.fields import TextField
from apps.core.api.idempotency import idempotent
from apps.core.api.pagination import PAGE_PARAMETERS, paged
from apps.core.api.problems import ProblemError
from apps.core.api.serializers import StrictSerializer
from apps.core.api.views import ApiView
from apps.core.errors import DomainError

_PREFERENCES = {
    "language": "en",
    "time_zone": "Europe/Berlin",
    "mails": {kind: kind != "buy_done" for kind in MAIL_KINDS},
    "digest": True,
}
_EXPORT = {
    "id": "0197f0a0-0000-7000-8000-000000000001",
    "state": "ready",
    "created_at": "2026-11-21T09:00:00Z",
    "ready_at": "2026-11-21T09:00:02Z",
    "expires_at": "2026-11-28T09:00:02Z",
    "size_bytes": 48213,
    "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "rows": {"account": 1, "plans": 3, "slots": 61, "statement": 183},
    "failed": False,
    "download_url": "/api/v1/me/exports/0197f0a0-0000-7000-8000-000000000001/file?signature=…",
}
# What an export holds; a test opens one.
_FILES = [
    "README.txt", "account.ndjson", "api_keys.ndjson", "balances.ndjson", "deposit_addresses.ndjson",
    "deposits.ndjson", "events.ndjson", "exports.ndjson", "plans.ndjson", "sessions.ndjson", "sign_in.ndjson",
    "slots.ndjson", "statement.ndjson", "waitlist.ndjson", "withdrawal_destinations.ndjson", "withdrawals.ndjson",
    "manifest.json",
]  # fmt: skip


class MeView(ApiView):
    tag = "accounts"
    scopes = {"GET": None}

    @extend_schema(operation_id="me_read", responses=shown.MeSerializer, summary="Who you are")
    def get(self, request: Request) -> Response:
        """With what you may and have: roles, factors, limits, and the scopes of the credential that asks."""
        profile = profile_get(user=cast("User", request.user), scopes=tuple(scopes_held(request)))
        return Response(shown.MeSerializer(profile).data)


class PreferencesView(ApiView):
    tag = "accounts"
    scopes = {"GET": "account:read", "PATCH": "account:write"}

    @extend_schema(
        operation_id="preferences_read",
        summary="What you want to be told, and how",
        responses=shown.PreferencesSerializer,
        examples=[OpenApiExample("Preferences", _PREFERENCES, response_only=True)],
    )
    def get(self, request: Request) -> Response:
        del request
        return self._answer(preferences_of([self.user_id])[self.user_id])

    @extend_schema(
        operation_id="preferences_change",
        summary="Change your preferences",
        request=shown.PreferencesWriteSerializer,
        responses=shown.PreferencesSerializer,
        examples=[
            OpenApiExample(
                "One mail a day", {"digest": True, "mails": {"buy_done": False}}, request_only=True
            ),
            OpenApiExample("Preferences", _PREFERENCES, response_only=True),
        ],
    )
    def patch(self, request: Request) -> Response:
        """What is not named stays as it is."""
        values = self.read(request, shown.PreferencesWriteSerializer)
        return self._answer(preferences_set(user_id=self.user_id, **values))

    @staticmethod
    def _answer(found: PreferencesRead) -> Response:
        mails = {kind: kind not in found.muted for kind in MAIL_KINDS}
        values = {"language": found.language, "zone": found.zone, "mails": mails, "digest": found.digest}
        return Response(shown.PreferencesSerializer(values).data)


def _link(row: DataExport) -> str | None:
    if row.state != ExportState.READY:
        return None
    path = reverse("me-export-file", kwargs={"export_id": row.pk})
    return f"{path}?signature={exports.link_sign(export=row)}"


class ExportsView(ApiView):
    tag = "accounts"
    scopes = {"GET": "account:read", "POST": "account:read"}

    @extend_schema(
        operation_id="exports_list",
        summary="Your exports, the newest first",
        responses=paged(shown.ExportSerializer),
        parameters=PAGE_PARAMETERS,
    )
    def get(self, request: Request) -> Response:
        query, _ = self.read_page(request)
        page = exports.export_page(user_id=self.user_id, query=query)
        return self.answer_page(page, shown.ExportSerializer, link=_link)

    @extend_schema(
        operation_id="exports_create",
        summary="Ask for all your data",
        request=None,
        responses={202: shown.ExportSerializer},
        examples=[
            OpenApiExample(
                "Being put together",
                {
                    **_EXPORT,
                    **dict.fromkeys(("ready_at", "expires_at", "size_bytes", "download_url")),
                    "state": "queued",
                    "sha256": "",
                    "rows": {},
                },
                response_only=True,
            )
        ],
    )
    @idempotent()
    def post(self, request: Request) -> Response:
        """A ZIP of one NDJSON file per section is put together by a worker; read the export until it is `ready`."""
        self.read_empty(request)
        row = exports.export_request(user_id=self.user_id)
        body = shown.ExportSerializer(row, context={"link": _link}).data
        place = reverse("me-export", kwargs={"export_id": row.pk})
        return Response(body, status=202, headers={"Location": place})


class ExportView(ApiView):
    tag = "accounts"
    scopes = {"GET": "account:read"}

    @extend_schema(
        operation_id="exports_read",
        summary="An export, and the link to its file",
        responses=shown.ExportSerializer,
        examples=[OpenApiExample("Ready", _EXPORT, response_only=True)],
    )
    def get(self, request: Request, export_id: UUID) -> Response:
        del request
        row = exports.export_get(user_id=self.user_id, export_id=export_id)
        body = shown.ExportSerializer(row, context={"link": _link}).data
        # The link lets in whoever has it.
        return Response(body, headers={"Cache-Control": "no-store"})


class SignatureSerializer(StrictSerializer):
    signature = TextField(max_length=300)


class ExportFileView(ApiView):
    """Public: a browser that follows a link sends no key. The signature is what lets in."""

    public = True
    tag = "accounts"

    @extend_schema(
        operation_id="exports_download",
        summary="The file of an export",
        parameters=[OpenApiParameter("signature", str, required=True, description="From `download_url`.")],
        responses={
            (200, "application/zip"): OpenApiResponse(
                OpenApiTypes.BINARY,
                description="A ZIP archive: a file per section, a JSON object per line. `manifest.json` counts them.",
                examples=[OpenApiExample("What is in it", "\n".join(_FILES))],
            )
        },
    )
    def get(self, request: Request, export_id: UUID) -> Any:
        """Streamed. 404 for a link that is too old, and once the file is deleted."""
        signature = self.read_query(request, SignatureSerializer)["signature"]
        row, parts = exports.export_open(export_id=export_id, signature=signature, request=request)
        headers = {
            "Content-Length": str(row.size_bytes),
            "Content-Disposition": content_disposition_header(True, f"export-{row.pk}.zip"),
            "Cache-Control": "private, no-store",
        }
        return StreamingHttpResponse(parts, content_type="application/zip", headers=headers)


class CloseView(ApiView):
    tag = "accounts"
    scopes = {"POST": "account:write"}
    # A person at their device, who has shown just now that it is them; no program's key ends an account.
    sessions_only = True
    step_up = frozenset({"POST"})
    problems = {"POST": {**STEP_UP_PROBLEMS["POST"], 409: (shown.AccountInUseProblemSerializer,)}}

    @extend_schema(
        operation_id="me_close",
        summary="Close your account, for good",
        request=shown.CloseSerializer,
        responses={204: None},
        examples=[
            OpenApiExample(
                "Leaving a remainder behind",
                {"email": "ada@example.org", "give_up": {"USDC": "0.164689"}},
                request_only=True,
            )
        ],
    )
    def post(self, request: Request) -> Response:
        """Refused with 409 `account_in_use` while balances, live plans, buys, withdrawals or arriving deposits are
        there: `obstacles` in the problem says which. Then keys and sessions end, and what told who you are is
        blanked; the books stay. The email may sign up again.
        """
        values = self.read(request, shown.CloseSerializer)
        if email_normalise(values["email"]) != cast("User", request.user).email:
            raise DomainError("email_differs", "That is not the email of this account.", pointer="/email")
        try:
            closing.account_close(user_id=self.user_id, give_up=values.get("give_up"), request=request)
        except closing.CloseRefused as refused:
            found = [
                {"code": one.code, "detail": one.detail, "count": one.count} for one in refused.obstacles
            ]
            raise ProblemError("account_in_use", refused.detail, extra={"obstacles": found}) from refused
        return Response(status=204)
