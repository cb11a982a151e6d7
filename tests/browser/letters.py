"""Every letter as a phone and a desktop show it, in the light and in the dark: `python -m tests.browser.letters OUT`.

Writes one picture per letter, width and scheme, to be looked at, and says what `faults` finds.
Needs no database: the contexts are the catalogue's samples, and those of `hard`, which are as long as real ones get.
"""

import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import django
from playwright.sync_api import Page

WIDTHS = {"phone": 390, "desktop": 640}
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
_UNSUBSCRIBE = "https://api.tranche.example/mail/unsubscribe/" + "eyJhbGciOi" * 9

# Of each text that is seen: what WCAG 2.2 (1.4.3) calls the contrast to what lies behind it; and what sticks out.
_FAULTS = """() => {
    const colour = (text) => text.match(/[\\d.]+/g).map(Number);
    const light = ([r, g, b]) => [r, g, b]
        .map((value) => value / 255)
        .map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4))
        .reduce((sum, value, index) => sum + value * [0.2126, 0.7152, 0.0722][index], 0);
    const behind = (element) => {
        for (let one = element; one; one = one.parentElement) {
            const found = colour(getComputedStyle(one).backgroundColor);
            if (found.length < 4 || found[3] > 0) return found;
        }
        return [255, 255, 255];
    };
    const faults = [];
    const width = document.documentElement.clientWidth;
    if (document.documentElement.scrollWidth > width) faults.push(`${document.documentElement.scrollWidth} px wide`);
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    for (let node; (node = texts.nextNode());) {
        const element = node.parentElement;
        if (!node.data.trim() || !element.checkVisibility() || element.closest("[style*='max-height:0']")) continue;
        const style = getComputedStyle(element);
        const [one, other] = [light(colour(style.color)), light(behind(element))].sort((a, b) => b - a);
        const ratio = (one + 0.05) / (other + 0.05);
        if (ratio < 4.5) faults.push(`contrast ${ratio.toFixed(2)}: ${node.data.trim()}`);
        if (parseFloat(style.fontSize) < 12) faults.push(`${style.fontSize}: ${node.data.trim()}`);
        const range = document.createRange();
        range.selectNodeContents(node);
        for (const box of range.getClientRects())
            if (box.right > width + 0.5 || box.left < -0.5) faults.push(`out of sight: ${node.data.trim()}`);
    }
    return faults;
}"""


def hard(value: Any, name: str = "") -> Any:
    """A sample as long as real ones get: names of plans, amounts with 18 places, addresses, devices."""
    if isinstance(value, Mapping):
        return {key: hard(one, key) for key, one in value.items()}
    if isinstance(value, list):
        return [hard(one) for one in value]
    return _HARD.get(name, value)


_HARD: Mapping[str, Any] = {
    "plan_name": "Donaudampfschifffahrtsgesellschaftskapitänsmützen-Sparplan der Kinder, jeden ersten Montag im Monat",
    **dict.fromkeys(("amount", "received", "available", "planned"), "1234567890.123456789012345678"),
    **dict.fromkeys(("spent", "fee", "sent"), "98765.432109876543210987"),
    **dict.fromkeys(("asset", "bought_asset", "sold_asset"), "stETHLONGNAME"),
    "address": "2001:0db8:85a3:0000:0000:8a2e:0370:7334",
    "device": "Mozilla/5.0 (Linux; Android 15; Pixel 9 Pro XL) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/153.0.0.0"
    " Mobile Safari/537.36",
    **dict.fromkeys(
        ("from_email", "to_email"),
        "a.very.long.name.without.any.break.in.it.at.all@subdomain.of.a.university.example.ac.uk",
    ),
    "why": "The best quote was further from the reference price than your plan allows: 1.84 % against at most 1 %.",
}


def pages() -> Iterator[tuple[str, str]]:
    """(name, HTML) of every letter; of every one that has a context also the hard one."""
    from apps.mail.catalogue import TEMPLATES
    from apps.mail.rendering import render

    for name, template in TEMPLATES.items():
        url = _UNSUBSCRIBE if template.kind else ""
        yield name, render(template=name, context=template.sample, unsubscribe_url=url).html
        if (long := hard(template.sample)) != template.sample:
            yield f"{name}-hard", render(template=name, context=long, unsubscribe_url=url).html


def faults(page: Page, html: str) -> list[str]:
    """What is wrong with a letter as `page` shows it: too wide, too pale (under 4.5:1), too small (under 12 px)."""
    page.set_content(html)
    found: list[str] = page.evaluate(_FAULTS)
    return found


def main(out: Path) -> None:
    from tests.browser.chromium import chromium_open

    out.mkdir(parents=True, exist_ok=True)
    shown = list(pages())
    with chromium_open() as browser:
        for device, width in WIDTHS.items():
            for scheme in SCHEMES:
                page = browser.new_page(viewport={"width": width, "height": 700}, color_scheme=scheme)
                for name, html in shown:
                    for fault in faults(page, html):
                        print(f"{name}, {device}, {scheme}: {fault}")
                    page.screenshot(path=out / f"{name}-{device}-{scheme}.png", full_page=True)
                page.close()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python -m tests.browser.letters OUT")
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings.local")
    django.setup()
    main(Path(sys.argv[1]))
