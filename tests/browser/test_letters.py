"""Every letter reads well: as a phone and a desktop show it, in the light and in the dark, with long contents too.

`python -m tests.browser.letters OUT` makes pictures of the same, to be looked at.
"""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.browser.chromium import chromium_open
from tests.browser.letters import SCHEMES, WIDTHS, faults, pages

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium_open() as opened:
        yield opened


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("device", WIDTHS)
def test_every_letter_fits_and_can_be_read(browser: Browser, device: str, scheme: str) -> None:
    page = browser.new_page(viewport={"width": WIDTHS[device], "height": 700}, color_scheme=scheme)  # type: ignore[arg-type]

    found = {name: wrong for name, html in pages() if (wrong := faults(page, html))}

    assert found == {}
    page.close()


def test_a_letter_that_is_too_wide_too_pale_or_too_small_is_found(browser: Browser) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 700})
    plain = '<meta name="viewport" content="width=device-width"><body style="margin:0;background:#fff">'

    assert faults(page, f"{plain}<p>as it should be") == []
    assert [one[:12] for one in faults(page, f'{plain}<p style="color:#888">pale')] == ["contrast 3.5"]
    assert faults(page, f'{plain}<p style="font-size:11px">small') == ["11px: small"]
    wide = faults(page, f'{plain}<p style="margin:0">{"w" * 80}')
    assert [wide[0].endswith(" px wide"), wide[1][:12]] == [True, "out of sight"]
    page.close()
