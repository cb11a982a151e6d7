"""Links that stop a kind of mail without a login (RFC 8058): what is in them, and what they do.

A link names a message, signed; whom it went to and what kind it was stands in the row. So no address is in a URL,
nor in a log of URLs, and the same message has the same link at each try.
"""

import base64
import uuid

from django.conf import settings
from django.core.signing import BadSignature, Signer

from apps.mail.models import Message

_SALT = "mail.unsubscribe"


def unsubscribe_url(message_id: uuid.UUID) -> str:
    return f"{settings.PUBLIC_URL}/mail/unsubscribe/{unsubscribe_token(message_id)}"


def unsubscribe_token(message_id: uuid.UUID) -> str:
    """Valid as long as the address is kept (`MAIL_KEPT_DAYS`). `SECRET_KEY_FALLBACKS` outlive a rotation."""
    name = base64.urlsafe_b64encode(message_id.bytes).decode().rstrip("=")
    return Signer(salt=_SALT).sign(name)


def message_of_token(token: str) -> Message | None:
    """The message whose link this is; None for what we did not sign, or whose address is forgotten."""
    try:
        name = Signer(salt=_SALT).unsign(token)
        pk = uuid.UUID(bytes=base64.urlsafe_b64decode(name + "=="))
    except (BadSignature, ValueError):
        return None
    return Message.objects.filter(pk=pk, essential=False).exclude(to="").first()
