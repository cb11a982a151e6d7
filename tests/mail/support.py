"""What tests of mail say over and over."""

import time
from datetime import timedelta
from typing import Any

from django.db import connection

from apps.core import clock, work
from apps.mail import kinds
from apps.mail.models import Message
from apps.mail.services import message_queue


def code_queue(key: str = "e1:ann:code", to: str = "ann@example.com") -> Message:
    return _queue(to=to, template="code", context={"code": "739154", "minutes": 10}, key=key, essential=True)


def deposit_queue(key: str = "e1:ann:deposit_credited", to: str = "ann@example.com") -> Message:
    context = {"amount": "12.5", "asset": "USDC", "network": "Base", "transaction_hash": "0xabc"}
    return _queue(to=to, template="deposit_credited", context=context, key=key, essential=False)


def _queue(**mail: Any) -> Message:
    # Ids of one millisecond are in no order; here what was queued first leaves first.
    time.sleep(0.001)
    return message_queue(**mail)


def send_all() -> None:
    work.drain(kinds.SEND_WORK)
    work.drain(kinds.SEND_BULK_WORK)


def make_due() -> None:
    """What time does to rows that wait, and to a dead worker's lease."""
    Message.objects.update(run_after=clock.now() - timedelta(seconds=1))
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE mail_message SET leased_until = clock_timestamp() - interval '1 s' WHERE leased_until IS NOT NULL"
        )


def state_of(message: Message) -> str:
    return Message.objects.get(pk=message.pk).state
