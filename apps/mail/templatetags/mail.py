"""The parts of a letter. Each knows both forms: HTML that phones and dark screens show well, and plain text."""

import textwrap
from typing import Any

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe

register = template.Library()

_WIDTH = 72
_SHORT = 9
_LABEL_WHOLE = 14
_FONT = "font-family:-apple-system,BlinkMacSystemFont,'Segoe UI',Roboto,Helvetica,Arial,sans-serif;"
_MONO = "font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;"
# What people typed may be one long word: it breaks where nothing else helps, and never widens the letter.
_BREAKS = "overflow-wrap:anywhere;"


def _is_html(context: template.Context) -> bool:
    return bool(context["form"] == "html")


def _safe(text: str) -> SafeString:
    return mark_safe(text)  # noqa: S308 — autoescaped by the engine, or plain text


def _plain(value: Any) -> str:
    """One line: what somebody typed must not look like a part of the letter."""
    return " ".join(str(value).split())


@register.simple_block_tag(takes_context=True)
def heading(context: template.Context, content: str) -> SafeString:
    text = content.strip()
    if not _is_html(context):
        return _safe(f"{_plain(text)}\n\n")
    return _safe(
        f'<h1 class="ink" style="{_FONT}{_BREAKS}margin:0 0 16px;font-size:22px;line-height:1.3;font-weight:600;'
        f'color:#14181f;">{text}</h1>\n'
    )


@register.simple_block_tag(takes_context=True)
def paragraph(context: template.Context, content: str) -> SafeString:
    text = content.strip()
    if not _is_html(context):
        return _safe(
            textwrap.fill(_plain(text), _WIDTH, break_long_words=False, break_on_hyphens=False) + "\n\n"
        )
    return _safe(
        f'<p class="ink" style="{_FONT}{_BREAKS}margin:0 0 16px;font-size:16px;line-height:1.55;color:#14181f;">'
        f"{text}</p>\n"
    )


@register.simple_block_tag(takes_context=True)
def note(context: template.Context, content: str) -> SafeString:
    """What is true but not the point: smaller and paler."""
    text = content.strip()
    if not _is_html(context):
        return _safe(
            textwrap.fill(_plain(text), _WIDTH, break_long_words=False, break_on_hyphens=False) + "\n\n"
        )
    return _safe(
        f'<p class="pale" style="{_FONT}{_BREAKS}margin:0 0 16px;font-size:14px;line-height:1.5;color:#5b6472;">'
        f"{text}</p>\n"
    )


@register.simple_tag(takes_context=True)
def code(context: template.Context, value: Any) -> SafeString:
    """A one-time code: large, easily copied, never a link."""
    if not _is_html(context):
        return _safe(f"    {_plain(value)}\n\n")
    return format_html(
        '<p class="code" style="{}margin:0 0 16px;padding:16px 8px;font-size:{};line-height:1.2;font-weight:600;'
        "letter-spacing:{};text-align:center;color:#14181f;background:#f2f4f7;border-radius:8px;"
        'word-break:break-all;">{}</p>\n',
        _safe(_MONO),
        # Six digits, or eight letters, breathe; a token must fit.
        *(("30px", "6px") if len(str(value)) <= _SHORT else ("18px", "0")),
        value,
    )


@register.simple_block_tag(takes_context=True)
def facts(context: template.Context, content: str) -> SafeString:
    """A table of `fact`s."""
    if not _is_html(context):
        return _safe("\n".join(line for line in content.splitlines() if line.strip()) + "\n\n")
    return _safe(
        '<table role="presentation" class="facts" width="100%" cellpadding="0" cellspacing="0" border="0"'
        f' style="margin:0 0 20px;border-collapse:collapse;">{content.strip()}</table>\n'
    )


@register.simple_tag(takes_context=True)
def fact(context: template.Context, label: str, *parts: Any, mono: bool = False) -> SafeString:
    """One line of a table, its parts joined by a space; nothing when the first of them is missing."""
    if not parts or parts[0] is None or parts[0] == "":
        return _safe("")
    value = _plain(" ".join(map(str, parts)))
    if not _is_html(context):
        return _safe(f"  {label}: {value}\n")
    if mono:
        # Addresses and hashes get the whole width: 42 characters are one line on a phone, and end where they end.
        return format_html(
            '<tr><td class="pale line" colspan="2" style="{font}padding:8px 0;font-size:14px;line-height:1.4;'
            'color:#5b6472;border-bottom:1px solid #e4e7ec;">{label}<br><span class="ink" style="{mono}'
            'font-size:12px;line-height:1.5;color:#14181f;word-break:break-all;">{value}</span></td></tr>',
            font=_safe(_FONT),
            mono=_safe(_MONO),
            label=label,
            value=value,
        )
    return format_html(
        '<tr><td class="pale line" valign="top" style="{font}{whole}padding:8px 12px 8px 0;font-size:14px;'
        'line-height:1.4;color:#5b6472;border-bottom:1px solid #e4e7ec;">{label}</td>'
        '<td class="ink line" valign="top" align="right" style="{font}{breaks}padding:8px 0;font-size:15px;'
        'line-height:1.4;color:#14181f;border-bottom:1px solid #e4e7ec;">{value}</td></tr>',
        font=_safe(_FONT),
        # “IP address” stays on one line beside a long value; what would take half of a phone may break.
        whole="white-space:nowrap;" if len(label) <= _LABEL_WHOLE else "",
        breaks=_safe(_BREAKS),
        label=label,
        value=value,
    )


@register.simple_tag(takes_context=True)
def subheading(context: template.Context, text: Any) -> SafeString:
    if not _is_html(context):
        return _safe(f"{_plain(text)}\n")
    return format_html(
        '<p class="ink" style="{}margin:4px 0 2px;font-size:15px;line-height:1.4;font-weight:600;color:#14181f;">'
        "{}</p>\n",
        _safe(_FONT + _BREAKS),
        _plain(text),
    )
