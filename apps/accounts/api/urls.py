from django.urls import include, path

from apps.accounts.api.me import (
    CloseView,
    ExportFileView,
    ExportsView,
    ExportView,
    MeView,
    PreferencesView,
)
from apps.accounts.api.views import ApiKeysView, ApiKeyView

urlpatterns = [
    path("me", MeView.as_view(), name="me"),
    path("me/preferences", PreferencesView.as_view(), name="me-preferences"),
    path("me/exports", ExportsView.as_view(), name="me-exports"),
    path("me/exports/<uuid:export_id>", ExportView.as_view(), name="me-export"),
    path("me/exports/<uuid:export_id>/file", ExportFileView.as_view(), name="me-export-file"),
    path("me/close", CloseView.as_view(), name="me-close"),
    path("api-keys", ApiKeysView.as_view(), name="api-keys"),
    path("api-keys/<uuid:api_key_id>", ApiKeyView.as_view(), name="api-key"),
    path("", include("apps.accounts.tokens.api.urls")),
]
