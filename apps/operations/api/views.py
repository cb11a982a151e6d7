"""Liveness and readiness for whoever runs the process, metrics for whoever watches it."""

import hmac
import ipaddress
from dataclasses import asdict
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_GET
from django_prometheus.exports import ExportToDjangoView
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from apps.core.api.problems import Problem, ProblemError, problem_response
from apps.core.api.schema import ProblemSerializer, code_fixed
from apps.core.api.views import ApiView
from apps.deposits.monitor import lags
from apps.operations.checks import readiness_check
from apps.operations.metrics import metrics_text

_FORWARDED = ("HTTP_X_FORWARDED_FOR", "HTTP_FORWARDED", "HTTP_X_REAL_IP")


class HealthSerializer(serializers.Serializer[Any]):
    status = serializers.ChoiceField(choices=["ok"])
    version = serializers.CharField()


class CheckSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    ok = serializers.BooleanField()
    milliseconds = serializers.FloatField()
    error = serializers.CharField(allow_blank=True)


class ReadySerializer(serializers.Serializer[Any]):
    status = serializers.ChoiceField(choices=["ok"])
    checks = CheckSerializer(many=True)


class NotReadyProblemSerializer(ProblemSerializer):
    """A problem document (RFC 9457): what does not answer."""

    code = code_fixed("not_ready")
    checks = CheckSerializer(many=True)


class HealthView(ApiView):
    public = True
    counted = False
    tag = "operations"

    @extend_schema(operation_id="health_live", summary="Is the process alive?", responses=HealthSerializer)
    def get(self, request: Request) -> Response:
        """Asks no dependency: a process that waits for its database must not be killed for it."""
        del request
        return Response({"status": "ok", "version": settings.VERSION}, headers={"Cache-Control": "no-store"})


class ReadyView(ApiView):
    public = True
    problems = {"GET": {503: (NotReadyProblemSerializer,)}}
    counted = False
    tag = "operations"

    @extend_schema(operation_id="health_ready", summary="Can it serve?", responses=ReadySerializer)
    def get(self, request: Request) -> Response:
        """PostgreSQL, Redis and the migrations, each with its time; 503 with the same `checks` when not."""
        del request
        found = readiness_check()
        checks = [asdict(check) for check in found]
        if not all(check.ok for check in found):
            failed = ", ".join(check.name for check in found if not check.ok)
            raise ProblemError("not_ready", f"Not ready: {failed}.", extra={"checks": checks})
        return Response({"status": "ok", "checks": checks}, headers={"Cache-Control": "no-store"})


class NetworkLagSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    state = serializers.ChoiceField(choices=["running", "stalled", "halted"])
    head_block = serializers.IntegerField(allow_null=True)
    scanned_block = serializers.IntegerField(allow_null=True)
    lag_blocks = serializers.IntegerField()
    lag_seconds = serializers.FloatField()


class MonitorSerializer(serializers.Serializer[Any]):
    status = serializers.ChoiceField(choices=["ok"])
    networks = NetworkLagSerializer(many=True)


class StalledProblemSerializer(ProblemSerializer):
    """A problem document (RFC 9457): which network's deposits are not seen."""

    code = code_fixed("not_ready")
    networks = NetworkLagSerializer(many=True)


class MonitorView(ApiView):
    public = True
    problems = {"GET": {503: (StalledProblemSerializer,)}}
    tag = "operations"

    @extend_schema(operation_id="health_monitor", summary="Are deposits seen?", responses=MonitorSerializer)
    def get(self, request: Request) -> Response:
        """How far the deposit monitor is, per network; 503 with the same `networks` while one has stalled.

        Not part of readiness: a web process serves all the same when a network's nodes are away.
        """
        del request
        found = lags()
        networks = [
            {
                "name": lag.network.name,
                "state": lag.state,
                "head_block": lag.head_block,
                "scanned_block": lag.scanned_block,
                "lag_blocks": lag.lag_blocks,
                "lag_seconds": lag.lag_seconds,
            }
            for lag in found
        ]
        stalled = ", ".join(lag.network.name for lag in found if lag.stalled)
        if stalled:
            raise ProblemError("not_ready", f"Stalled: {stalled}.", extra={"networks": networks})
        return Response({"status": "ok", "networks": networks}, headers={"Cache-Control": "no-store"})


@require_GET
def metrics(request: HttpRequest) -> HttpResponse:
    """Prometheus text, for loopback and private networks, or with `METRICS_TOKEN`.

    Requests as all processes of this container counted them, and the platform as the database has it.

    A request that a proxy forwarded comes from the proxy's private address and from who knows where behind it:
    it needs the token.
    """
    if not (_token_matches(request) or _is_near(request)):
        return problem_response(Problem(code="permission_denied"), request=request)
    answer: HttpResponse = ExportToDjangoView(request)
    answer.content += metrics_text()
    answer["Cache-Control"] = "no-store"
    return answer


def _token_matches(request: HttpRequest) -> bool:
    token: str = settings.METRICS_TOKEN
    given = request.headers.get("Authorization", "")
    return bool(token) and hmac.compare_digest(given.encode(), f"Bearer {token}".encode())


def _is_near(request: HttpRequest) -> bool:
    if any(name in request.META for name in _FORWARDED):
        return False
    try:
        address = ipaddress.ip_address(request.META.get("REMOTE_ADDR", ""))
    except ValueError:
        return False
    return address.is_loopback or address.is_private
