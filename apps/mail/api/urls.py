"""Under /api/v1/: what providers call. `pages` are mounted outside the API: people see them."""

from django.urls import path

from apps.mail.api.views import UnsubscribeView
from apps.mail.api.webhooks import ResendWebhook

urlpatterns = [path("mail/webhooks/resend", ResendWebhook.as_view(), name="mail-webhook-resend")]
pages = [path("mail/unsubscribe/<str:token>", UnsubscribeView.as_view(), name="mail-unsubscribe")]
