"""What operators look at before a letter goes out: each template with the newest real context, or a made-up one."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from apps.mail.catalogue import TEMPLATES, template_get
from apps.mail.domain import Template
from apps.mail.models import Letter, Message
from apps.mail.rendering import Rendered, render
from apps.mail.selectors import ReceivedLetter, letter_open
from apps.mail.unsubscribing import unsubscribe_url

_SAMPLE_ID = UUID(int=0)


@dataclass(frozen=True)
class Shown:
    """`real_at` says when the message of the context was queued; None for a made-up context."""

    template: Template
    rendered: Rendered
    real_at: datetime | None


def letters() -> list[Shown]:
    return [letter(name) for name in TEMPLATES]


def letter(name: str, *, sample: bool = False) -> Shown:
    """Raises `ValueError` for an unknown name. Secrets are always the sample's: real ones are not shown to anybody."""
    template = template_get(name)
    row = None if sample else Message.objects.filter(template=name).order_by("-created_at").first()
    secret = {key: value for key, value in template.sample.items() if key in template.secrets}
    context = {**(row.context if row else template.sample), **secret}
    url = unsubscribe_url(_SAMPLE_ID) if template.kind else ""
    rendered = render(
        template=name, context=context, language=row.language if row else "en", unsubscribe_url=url
    )
    return Shown(template, rendered, row.created_at if row else None)


def opened(row: Letter) -> ReceivedLetter:
    return letter_open(row)
