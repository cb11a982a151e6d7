"""The OpenAPI document and the two pages that show it, served from here alone: no CDN, no font host."""

from functools import cache
from typing import Any

from csp.decorators import csp
from django.conf import settings
from django.urls import path
from django.utils.decorators import method_decorator
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.views import SpectacularAPIView, SpectacularRedocView, SpectacularSwaggerSplitView
from rest_framework.negotiation import DefaultContentNegotiation

from apps.core.api.views import CountedView

_policy = method_decorator(csp(settings.DOCS_POLICY), name="dispatch")


class OnceGenerator(SchemaGenerator):
    """The document follows from the code: it is made once per process, not by each of whoever asks."""

    def get_schema(self, request: Any = None, public: bool = False) -> Any:
        del request
        return _document(public)


@cache
def _document(public: bool) -> Any:
    return SchemaGenerator().get_schema(request=None, public=public)  # type: ignore[no-untyped-call]


class SchemaView(CountedView, SpectacularAPIView):
    """YAML unless JSON is asked for."""

    content_negotiation_class = DefaultContentNegotiation
    generator_class = OnceGenerator


@_policy
class SwaggerView(CountedView, SpectacularSwaggerSplitView):
    """Its script comes as a second answer of the same path, so that the policy allows no inline script."""


@_policy
class RedocView(CountedView, SpectacularRedocView):
    template_name = "core/api/redoc.html"


urlpatterns: list[Any] = [
    path("schema", SchemaView.as_view(), name="schema"),
    path("docs", SwaggerView.as_view(), name="docs"),
    path("redoc", RedocView.as_view(), name="redoc"),
]
