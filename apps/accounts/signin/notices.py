"""The mails that tell people of a change to their account: queued in its transaction, with when and from where."""

from typing import Any

from django.http import HttpRequest

from apps.accounts.tokens.domain import device_label
from apps.core import clock
from apps.core.api.client_address import client_address
from apps.core.ids import uuid7
from apps.mail.services import message_queue


def mail_queue(template: str, *, to: str, context: dict[str, Any]) -> None:
    """One message per call: each is a fact of its own, so that no two have the same key."""
    message_queue(to=to, template=template, context=context, key=f"{uuid7()}:{template}", essential=True)


def notice(request: HttpRequest | None) -> dict[str, Any]:
    """What a person is told of a change to their account: when, from where, with what."""
    return {
        "address": (client_address(request) if request is not None else "") or "-",
        "device": device_label(request.headers.get("User-Agent", "")) if request is not None else "-",
        "at": f"{clock.now():%-d %B %Y, %H:%M} UTC",
    }
