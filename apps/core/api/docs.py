"""The OpenAPI document and the two pages that show it, served from here alone: no CDN, no font host."""

from typing import Any

from csp.decorators import csp
from django.conf import settings
from django.urls import path
from django.utils.decorators import method_decorator
from drf_spectacular.views import SpectacularAPIView, SpectacularRedocView, SpectacularSwaggerSplitView
from rest_framework.negotiation import DefaultContentNegotiation

_policy = method_decorator(csp(settings.DOCS_POLICY), name="dispatch")


class SchemaView(SpectacularAPIView):
    """YAML unless JSON is asked for."""

    content_negotiation_class = DefaultContentNegotiation


@_policy
class SwaggerView(SpectacularSwaggerSplitView):
    """Its script comes as a second answer of the same path, so that the policy allows no inline script."""


@_policy
class RedocView(SpectacularRedocView):
    template_name = "core/api/redoc.html"


urlpatterns: list[Any] = [
    path("schema", SchemaView.as_view(), name="schema"),
    path("docs", SwaggerView.as_view(), name="docs"),
    path("redoc", RedocView.as_view(), name="redoc"),
]
