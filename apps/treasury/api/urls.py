from django.urls import path

from apps.treasury.api.views import ReservesView

urlpatterns = [path("platform/reserves", ReservesView.as_view(), name="platform-reserves")]
