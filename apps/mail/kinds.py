"""Two kinds of work over messages: what is essential never waits behind what is not."""

from typing import Any

from apps.core.work import Work, register
from apps.mail.domain import MessageState
from apps.mail.models import Message
from apps.mail.sending import messages_send
from apps.mail.services import SEND, SEND_BULK

# A provider may be away for hours: about eight of them until a mail is given up and shown. Well below the 24 hours for
# which the provider knows our keys.
_TERMS: dict[str, Any] = {
    "model": Message,
    "perform": messages_send,
    "whole": True,
    "once_per_drain": True,
    "lease_seconds": 60,
    "max_attempts": 40,
    "backoff_seconds": 2,
    "backoff_cap_seconds": 900,
}
SEND_WORK: Work[Message] = register(Work(name=SEND, states=(MessageState.QUEUED,), chunk=100, **_TERMS))
SEND_BULK_WORK: Work[Message] = register(
    Work(name=SEND_BULK, states=(MessageState.QUEUED_BULK,), chunk=200, **_TERMS)
)
