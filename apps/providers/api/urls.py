from django.urls import path

from apps.providers.api.views import AssetsView, MarketsView

urlpatterns = [
    path("markets", MarketsView.as_view(), name="markets"),
    path("assets", AssetsView.as_view(), name="assets"),
]
