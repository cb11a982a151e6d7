from django.urls import include, path

from apps.accounts.api.views import ApiKeysView, ApiKeyView, MeView

urlpatterns = [
    path("me", MeView.as_view(), name="me"),
    path("api-keys", ApiKeysView.as_view(), name="api-keys"),
    path("api-keys/<uuid:api_key_id>", ApiKeyView.as_view(), name="api-key"),
    path("", include("apps.accounts.tokens.api.urls")),
]
