"""The routes of the stream service: the stream, and whether it is well. Everything else is the web's."""

from django.urls import path

from apps.operations.api.views import HealthView, ReadyView
from apps.stream.api.views import StreamView

urlpatterns = [
    path("api/v1/stream", StreamView.as_view(), name="stream"),
    path("api/v1/health", HealthView.as_view(), name="health"),
    path("api/v1/health/ready", ReadyView.as_view(), name="health-ready"),
]

handler400 = "apps.core.api.handlers.bad_request"
handler403 = "apps.core.api.handlers.permission_denied"
handler404 = "apps.core.api.handlers.not_found"
handler500 = "apps.core.api.handlers.server_error"
