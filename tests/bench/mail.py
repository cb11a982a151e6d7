"""Mails queued and sent, in one process: ours by the chunk against one transaction per mail."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from statistics import median
from typing import Any

import requests
from django.db import transaction
from django.test import override_settings

from apps.core import bulk, clock, work
from apps.core.ids import uuid7, uuid7_many
from apps.core.work import STEPPED
from apps.mail import kinds
from apps.mail.models import LETTER, Letter, Message
from apps.mail.sending import outgoing
from apps.mail.services import MessageDraft, messages_queue
from tests.mail.resend import API_KEY, Resend, resend_run

_serial = count()
_CONTEXT = {"amount": "12.5", "asset": "USDC", "network": "Base", "transaction_hash": "0x" + "9f" * 32}


def run(*, messages: int, runs: int) -> list[dict[str, Any]]:
    """Messages a second: queued (committed), sent by the database transport, handed over to a provider by HTTP."""
    with _resend() as resend:
        sides: dict[str, tuple[Callable[[int], float], Callable[[int], float]]] = {
            "mail: messages queued": (_queue, _queue_each),
            "mail: queued messages rendered and kept (database transport)": (_keep, _keep_each),
            "mail: queued messages rendered and handed over (HTTP, stand-in in the same process)": (
                _hand_over,
                lambda many: _post_each(resend, many),
            ),
        }
        found: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in sides}
        for name, (ours, theirs) in sides.items():
            ours(20), theirs(20)
            for _ in range(runs):
                found[name][0].append(messages / ours(messages))
                found[name][1].append(messages / theirs(messages))
        Message.objects.all().delete()
    return [_row(name, *figures) for name, figures in found.items()]


def _row(name: str, ours: list[float], theirs: list[float]) -> dict[str, Any]:
    return {
        "name": name,
        "ours": round(median(ours)),
        "baseline": round(median(theirs)),
        "floor": None,
        "unit": "messages/s",
        "ratio": round(median(ours) / median(theirs), 2),
        "goal": None,
        "met": None,
        "runs": {"ours": [round(one) for one in ours], "baseline": [round(one) for one in theirs]},
    }


def _drafts(many: int) -> list[MessageDraft]:
    return [
        MessageDraft(f"p{n}@example.com", "deposit_credited", f"bench:{next(_serial)}", False, _CONTEXT)
        for n in range(many)
    ]


def _timed(step: Callable[[], object]) -> float:
    started = time.perf_counter()
    step()
    return time.perf_counter() - started


def _queue(many: int) -> float:
    drafts = _drafts(many)

    def step() -> None:
        for start in range(0, many, 1_000):
            messages_queue(drafts[start : start + 1_000])

    took = _timed(step)
    Message.objects.all().delete()
    return took


def _queue_each(many: int) -> float:
    """The baseline: a row and a commit per mail."""
    drafts = _drafts(many)

    def step() -> None:
        for draft in drafts:
            Message.objects.create(
                key=draft.key, to=draft.to, template=draft.template, essential=False, context=_CONTEXT,
                state="queued_bulk",
            )  # fmt: skip

    took = _timed(step)
    Message.objects.all().delete()
    return took


def _keep(many: int) -> float:
    messages_queue(_drafts(many))
    with override_settings(MAIL_TRANSPORT="database"):
        took = _timed(_drain_all)
    return _checked(many, took)


def _keep_each(many: int) -> float:
    """The baseline: what a task per mail does, without Celery's own time: lock, render, keep, mark, commit."""
    messages_queue(_drafts(many))
    ids = list(Message.objects.values_list("pk", flat=True))

    def step() -> None:
        for pk in ids:
            with transaction.atomic():
                row = Message.objects.select_for_update().get(pk=pk)
                mail, letter = outgoing(row), uuid7()
                Letter.objects.create(
                    pk=letter, message=row, to=row.to, body=LETTER.encrypt(mail.html.encode(), pk=letter)
                )
                row.state, row.sent_at = "sent", clock.now()
                row.save(update_fields=["state", "sent_at"])

    return _checked(many, _timed(step))


def _hand_over(many: int) -> float:
    messages_queue(_drafts(many))
    return _checked(many, _timed(_drain_all))


def _drain_all() -> None:
    """A drain leaves what its lease has no time for to the next ring: ring until nothing is left."""
    while work.drain(kinds.SEND_BULK_WORK, budget_seconds=600):
        pass


def _post_each(resend: Resend, many: int) -> float:
    """The other side: the same bodies posted over one connection, nothing rendered and nothing written down."""
    messages_queue(_drafts(many))
    bodies = [
        {
            "from": "x@example.com",
            "to": [mail.to],
            "subject": mail.subject,
            "text": mail.text,
            "html": mail.html,
        }
        for mail in map(outgoing, Message.objects.all())
    ]
    ids = uuid7_many(len(bodies))

    def step() -> None:
        with requests.Session() as session:
            session.headers["Authorization"] = f"Bearer {API_KEY}"
            for pk, body in zip(ids, bodies, strict=True):
                session.post(
                    f"{resend.url}emails", json=body, headers={"Idempotency-Key": str(pk)}, timeout=10
                )

    took = _timed(step)
    rows = list(Message.objects.values_list("pk", flat=True))
    bulk.update("mail_message", rows, {}, constants={"state": "sent", "sent_at": clock.now()}, also=STEPPED)
    return _checked(many, took)


def _checked(many: int, took: float) -> float:
    sent = Message.objects.filter(state="sent").count()
    Message.objects.all().delete()
    if sent != many:
        raise RuntimeError(f"sent {sent} of {many}")
    return took


@contextmanager
def _resend() -> Iterator[Resend]:
    with (
        resend_run() as state,
        override_settings(MAIL_TRANSPORT="resend", RESEND_API_KEY=API_KEY, RESEND_API_URL=state.url),
    ):
        yield state
