"""The unsubscribe link of a mail (RFC 8058): a page that asks, and a POST that does it. No login, no cookie."""

from csp.constants import NONE, SELF
from csp.decorators import csp
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt

from apps.mail.catalogue import template_get
from apps.mail.domain import EVERYTHING, KINDS
from apps.mail.models import Message
from apps.mail.suppressing import address_unsubscribe
from apps.mail.unsubscribing import message_of_token

_POLICY = {
    "default-src": [NONE],
    "base-uri": [NONE],
    "form-action": [SELF],
    "frame-ancestors": [NONE],
    "style-src": ["'unsafe-inline'"],
}


# The signed link is the proof; mail programs that press the button for a person have no cookie to send along.
@method_decorator([csrf_exempt, never_cache, csp(_POLICY)], name="dispatch")
class UnsubscribeView(View):
    """GET changes nothing: scanners and previews follow links. POST stops the kind, or everything optional."""

    http_method_names = ["get", "head", "post"]

    def get(self, request: HttpRequest, token: str) -> HttpResponse:
        message = message_of_token(token)
        if message is None:
            return self._page(request, 404)
        return self._page(request, 200, about=_about(message))

    def post(self, request: HttpRequest, token: str) -> HttpResponse:
        message = message_of_token(token)
        if message is None:
            return self._page(request, 404)
        everything = request.POST.get("what") == EVERYTHING
        address_unsubscribe(address=message.to, kind=EVERYTHING if everything else _kind(message))
        return self._page(request, 200, done=True, about="" if everything else _about(message))

    def _page(
        self, request: HttpRequest, status: int, *, about: str = "", done: bool = False
    ) -> HttpResponse:
        context = {"about": about, "done": done, "found": status < 400}
        answer = render(request, "mail/unsubscribe.html", context, status=status)
        answer["Referrer-Policy"] = "no-referrer"
        answer["X-Robots-Tag"] = "noindex"
        return answer


def _kind(message: Message) -> str:
    return template_get(message.template).kind or EVERYTHING


def _about(message: Message) -> str:
    return KINDS.get(_kind(message), "")
