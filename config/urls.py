"""All routes. An app that has an API is mounted here and nowhere else."""

from django.conf import settings
from django.contrib import admin
from django.urls import include, path

from apps.core.api.policies import policy_apply
from apps.mail.api.urls import pages as mail_pages
from apps.operations.api.views import metrics

_admin = admin.site.urls
policy_apply(_admin[0], settings.ADMIN_POLICY)

urlpatterns = [
    path("admin/", _admin),
    path("", include((mail_pages, "mail"))),
    path("metrics", metrics, name="metrics"),
    path("api/v1/", include("apps.core.api.docs")),
    path("api/v1/", include("apps.operations.api.urls")),
    path("api/v1/", include("apps.accounts.api.urls")),
    path("api/v1/", include("apps.stream.api.urls")),
    path("api/v1/", include("apps.mail.api.urls")),
    path("api/v1/", include("apps.accounts.signin.api.urls")),
    path("api/v1/", include("apps.ledger.api.urls")),
    path("api/v1/", include("apps.chain.api.urls")),
    path("api/v1/", include("apps.deposits.api.urls")),
    path("api/v1/", include("apps.treasury.api.urls")),
    path("api/v1/", include("apps.providers.api.urls")),
    path("api/v1/", include("apps.withdrawals.api.urls")),
    path("api/v1/", include("apps.plans.api.urls")),
    path("api/v1/", include("apps.launch.api.urls")),
]

handler400 = "apps.core.api.handlers.bad_request"
handler403 = "apps.core.api.handlers.permission_denied"
handler404 = "apps.core.api.handlers.not_found"
handler500 = "apps.core.api.handlers.server_error"
