"""All routes. An app that has an API is mounted here and nowhere else."""

from django.conf import settings
from django.contrib import admin
from django.urls import include, path

from apps.core.api.policies import policy_apply
from apps.mail.api.urls import pages as mail_pages
from apps.operations.api.views import metrics

_admin = admin.site.urls
policy_apply(_admin[0], settings.ADMIN_POLICY)

# Routes are tried in this order: what is asked most often first.
_api = [
    path("", include(f"apps.{name}"))
    for name in (
        "ledger.api.urls",
        "plans.api.urls",
        "operations.api.urls",
        "stream.api.urls",
        "deposits.api.urls",
        "withdrawals.api.urls",
        "providers.api.urls",
        "accounts.api.urls",
        "accounts.signin.api.urls",
        "treasury.api.urls",
        "chain.api.urls",
        "launch.api.urls",
        "mail.api.urls",
        "core.api.docs",
    )
]

urlpatterns = [
    path("api/v1/", include(_api)),
    path("admin/", _admin),
    path("", include((mail_pages, "mail"))),
    path("metrics", metrics, name="metrics"),
]

handler400 = "apps.core.api.handlers.bad_request"
handler403 = "apps.core.api.handlers.permission_denied"
handler404 = "apps.core.api.handlers.not_found"
handler500 = "apps.core.api.handlers.server_error"
