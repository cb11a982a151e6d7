from django.urls import path

from apps.chain.api.views import NetworksView

urlpatterns = [path("networks", NetworksView.as_view(), name="networks")]
