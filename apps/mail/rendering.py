"""From a template and a context to subject, text and HTML: one source for both forms.

A `.mail` file says what a letter says, in blocks (`subject`, `preview`, `body`) and with the tags of
`templatetags/mail.py`, each of which knows both forms. Rendering is a pure function: the same message gives the same
bytes at each try, which is what a provider's idempotency key asks for.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from django.conf import settings
from django.template import Context, Engine, Template

_ROOT = Path(__file__).resolve().parent / "templates" / "mail"
_LANGUAGE = "en"
_SUBJECT_MAX = 150
_BLANK_LINES = re.compile(r"\n\s*\n\n")


@dataclass(frozen=True)
class Rendered:
    subject: str
    text: str
    html: str


def render(
    *, template: str, context: Mapping[str, Any], language: str = _LANGUAGE, unsubscribe_url: str = ""
) -> Rendered:
    """Raises `django.template.TemplateDoesNotExist`, `TemplateSyntaxError`; a value that is missing is left out."""
    name = f"{language}/{template}.mail"
    if language != _LANGUAGE and not (_ROOT / name).is_file():
        name = f"{_LANGUAGE}/{template}.mail"
    values = {**context, "unsubscribe_url": unsubscribe_url, "platform": settings.PLATFORM_NAME}
    return Rendered(
        subject=" ".join(_render(name, "subject", values).split())[:_SUBJECT_MAX],
        text=_BLANK_LINES.sub("\n\n", _render(name, "txt", values)).strip() + "\n",
        html=_render(name, "html", values),
    )


def _render(name: str, form: str, values: Mapping[str, Any]) -> str:
    context = Context({**values, "layout": f"layout.{form}", "form": form}, autoescape=form == "html")
    return str(_template(name, form).render(context))


@cache
def _template(name: str, form: str) -> Template:
    """Parsed once per form: the parent is found at rendering, so nodes of two forms must not be shared."""
    return _engine(form).get_template(name)


@cache
def _engine(form: str) -> Engine:
    return Engine(
        dirs=[str(_ROOT)],
        autoescape=form == "html",
        libraries={"mail": "apps.mail.templatetags.mail"},
        builtins=["apps.mail.templatetags.mail"],
    )
