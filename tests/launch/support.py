"""What the launch's tests share."""

import json
from typing import Any

from apps.launch.domain import State
from apps.launch.models import PlatformState
from apps.launch.states import state_set
from apps.launch.waitlist import Proved, entry_join, entry_prove
from apps.mail.models import SECRET, Message


def go(state: State, **options: Any) -> PlatformState:
    return state_set(state=state, reason="drill", actor="op@example.org", **options)


def code_sent(email: str) -> str:
    """The code in the latest mail to `email`."""
    return secret_of(Message.objects.filter(to=email, template="waitlist_code").order_by("-id")[0])


def secret_of(message: Message) -> str:
    """A code lies encrypted beside the rest of the context until it is sent."""
    return str(json.loads(SECRET.decrypt(bytes(message.secret or b""), pk=message.pk))["code"])


def waiting(email: str, referral_code: str = "") -> Proved:
    """Somebody who has joined and proved the e-mail."""
    entry_join(email=email, referral_code=referral_code)
    return entry_prove(email=email, code=code_sent(email))
