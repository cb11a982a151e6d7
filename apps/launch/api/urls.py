from django.urls import path

from apps.launch.api.views import StatusView, WaitlistConfirmView, WaitlistPositionView, WaitlistView

urlpatterns = [
    path("platform/status", StatusView.as_view(), name="platform-status"),
    path("waitlist", WaitlistView.as_view(), name="waitlist"),
    path("waitlist/confirm", WaitlistConfirmView.as_view(), name="waitlist-confirm"),
    path("waitlist/position", WaitlistPositionView.as_view(), name="waitlist-position"),
]
