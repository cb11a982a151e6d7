"""The project's routes and some probes that behave as no real view should."""

from typing import Any
from uuid import uuid4

from django.db import connection, transaction
from django.http import HttpRequest, HttpResponse
from django.urls import path
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from apps.core.api.fields import (
    AmountField,
    AssetField,
    FlagField,
    IdField,
    InstantField,
    OneOfField,
    TextField,
    TimeZoneField,
    WholeNumberField,
)
from apps.core.api.idempotency import MONEY, idempotent
from apps.core.api.request_ids import request_id_current
from apps.core.api.serializers import StrictSerializer
from apps.core.api.views import ApiView
from apps.core.errors import Conflict, DomainError, NotFound, Retryable
from apps.core.models import Asset
from config.urls import handler400, handler403, handler404, handler500
from config.urls import urlpatterns as _project

SECRET_IN_THE_CRASH = "postgresql://root:hunter2@10.0.0.7/books"


class InnerSerializer(StrictSerializer):
    weight = WholeNumberField(min_value=1, max_value=10)


class EverythingSerializer(StrictSerializer):
    asset = AssetField()
    amount = AmountField(asset="asset")
    cap = AmountField(decimals=6, required=False, allow_zero=True)
    time_zone = TimeZoneField(required=False)
    starts_at = InstantField(required=False)
    on = FlagField(required=False)
    count = WholeNumberField(min_value=1, max_value=5, required=False)
    note = TextField(max_length=5, required=False)
    ref = IdField(required=False)
    kind = OneOfField(choices=["daily", "weekly"], required=False)
    parts = InnerSerializer(many=True, required=False)


class EverythingOut(serializers.Serializer[Any]):
    amount = AmountField(asset="asset")
    starts_at = InstantField(required=False)


class EverythingView(ApiView):
    scopes = {"POST": "plans:write"}

    def post(self, request: Request) -> Response:
        values = self.read(request, EverythingSerializer)
        return Response({"units": str(values["amount"]), "out": EverythingOut(values).data}, status=201)


class CrashView(ApiView):
    public = True

    def get(self, request: Request) -> Response:
        raise RuntimeError(SECRET_IN_THE_CRASH)

    post = get


class RaisesView(ApiView):
    public = True

    def get(self, request: Request, kind: str) -> Response:
        if kind == "domain":
            raise DomainError("too_small", "Below the minimum.", pointer="/amount", status=422)
        if kind == "conflict":
            raise Conflict("plan_finished", "The plan has ended.")
        if kind == "retryable":
            raise Retryable(SECRET_IN_THE_CRASH, after_seconds=7)
        if kind == "database":
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute("SET LOCAL statement_timeout = '20ms'")
                cursor.execute("SELECT pg_sleep(5) AS hunter2")
        raise NotFound


class ThrottledView(ApiView):
    scopes = {"GET": None}
    limits = {"GET": "probe"}

    def get(self, request: Request) -> Response:
        return Response({"request_id": request_id_current()})


def _effect(request: Request) -> Response:
    """Something that happens, seen by all: one more asset."""
    body: Any = request.data
    asset = Asset.objects.create(code=uuid4().hex[:24], name=str(body["n"]), decimals=2)
    if body.get("fail") == "answer":
        return Response({"no": "good"}, status=409)
    if body.get("fail") == "crash":
        raise RuntimeError(SECRET_IN_THE_CRASH)
    return Response({"z": 1, "id": str(asset.id), "secret": "s3cret"}, status=201, headers={"Location": "/x"})


class BareView(ApiView):
    """Without a guard: what a repeated request does to a naive endpoint."""

    scopes = {"POST": "plans:write"}

    def post(self, request: Request) -> Response:
        return _effect(request)


class GuardedView(ApiView):
    scopes = {"POST": "plans:write"}

    @idempotent(redact=("secret",))
    def post(self, request: Request) -> Response:
        return _effect(request)


class MoneyView(ApiView):
    scopes = {"POST": "plans:write"}

    @idempotent(**MONEY)
    def post(self, request: Request) -> Response:
        return _effect(request)


def page(request: HttpRequest) -> HttpResponse:
    """An HTML error from a plain Django view."""
    return HttpResponse("<h1>it broke at line 7</h1>", status=418)


urlpatterns = [
    path("api/v1/probe/everything", EverythingView.as_view()),
    path("api/v1/probe/crash", CrashView.as_view()),
    path("api/v1/probe/raises/<str:kind>", RaisesView.as_view()),
    path("api/v1/probe/throttled", ThrottledView.as_view()),
    path("api/v1/probe/bare", BareView.as_view()),
    path("api/v1/probe/guarded", GuardedView.as_view()),
    path("api/v1/probe/money", MoneyView.as_view()),
    path("api/v1/probe/page", page),
    *_project,
]

__all__ = ["handler400", "handler403", "handler404", "handler500", "urlpatterns"]
