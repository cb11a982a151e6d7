from django.urls import path

from apps.operations.api.views import HealthView, MonitorView, ReadyView

urlpatterns = [
    path("health", HealthView.as_view(), name="health"),
    path("health/monitor", MonitorView.as_view(), name="health-monitor"),
    path("health/ready", ReadyView.as_view(), name="health-ready"),
]
