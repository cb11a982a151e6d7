"""What providers tell us: signed over the raw bytes, at most five minutes old, taken once."""

from typing import Any

from anymail.signals import AnymailTrackingEvent
from anymail.webhooks.resend import ResendTrackingWebhookView
from django.conf import settings
from django.core.exceptions import SuspiciousOperation
from django.http import Http404, HttpRequest, HttpResponse
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from apps.mail.domain import ProviderEventKind
from apps.mail.suppressing import ProviderNews, provider_news_take

_HEADERS = {
    "svix-id": "webhook-id",
    "svix-timestamp": "webhook-timestamp",
    "svix-signature": "webhook-signature",
}
_KINDS = {
    "delivered": ProviderEventKind.DELIVERED,
    "deferred": ProviderEventKind.DELAYED,
    "complained": ProviderEventKind.COMPLAINED,
}


# Anymail knows what the provider's events mean. The signature is ours to check: Anymail would want another library.
_READER = ResendTrackingWebhookView(webhook_secret="unused")  # noqa: S106


@method_decorator(csrf_exempt, name="dispatch")
class ResendWebhook(View):
    """The signature (Svix, which is Standard Webhooks under other header names) is checked over the raw bytes before
    one of them is read as anything. Without a valid one the answer is a 400 and nothing changes."""

    http_method_names = ["post"]

    def post(self, request: HttpRequest) -> HttpResponse:
        if not settings.RESEND_WEBHOOK_SECRETS:
            raise Http404
        self.validate_request(request)
        try:
            events = _READER.parse_events(request)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise SuspiciousOperation("signed, and not an event that we can read") from error
        for event in events:
            provider_news_take(_news(event))
        return HttpResponse(status=204)

    def validate_request(self, request: HttpRequest) -> None:
        headers = {ours: request.headers.get(theirs, "") for theirs, ours in _HEADERS.items()}
        if len(headers["webhook-id"]) > 200:
            raise SuspiciousOperation("the id is too long")
        for secret in settings.RESEND_WEBHOOK_SECRETS:
            try:
                Webhook(secret).verify(request.body, headers, json_parse=False)
            except (WebhookVerificationError, ValueError):
                # ValueError: a signature header, or a body, that is no text of the expected form.
                continue
            return
        raise SuspiciousOperation("the signature does not fit")


def _news(event: AnymailTrackingEvent) -> ProviderNews:
    kind = _KINDS.get(event.event_type, ProviderEventKind.OTHER)
    if event.event_type == "bounced" and _is_permanent(event.esp_event):
        kind = ProviderEventKind.BOUNCED
    return ProviderNews(
        provider="resend",
        external_id=str(event.event_id),
        kind=kind,
        address=str(event.recipient or ""),
        provider_id=str(event.message_id or ""),
        detail=str(event.description or ""),
    )


def _is_permanent(esp_event: Any) -> bool:
    """A full mailbox is no reason never to write again. Without a word on it, a bounce counts as one for good."""
    bounce = esp_event.get("data", {}).get("bounce") if isinstance(esp_event, dict) else None
    said = bounce.get("type") if isinstance(bounce, dict) else None
    return said in {None, "", "Permanent"}
