from django.urls import path

from apps.stream.api.views import EventsView, StreamView

urlpatterns = [
    path("events", EventsView.as_view(), name="events"),
    path("stream", StreamView.as_view(), name="stream"),
]
