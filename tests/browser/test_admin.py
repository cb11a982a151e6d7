"""Staff at a real browser: in with a second factor, then the letters, the lists and the reference. Nothing complains.

Pictures of what was seen lie in the test's `tmp_path`.
"""

import time
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from apps.accounts import second_factor
from apps.accounts.models import User
from apps.core import clock
from apps.mail.catalogue import TEMPLATES
from apps.mail.models import Message
from tests.accounts.signin.support import PASSWORD, totp_at
from tests.browser.stage import Stage, watched
from tests.core.api.town import town_make
from tests.mail.support import code_queue, deposit_queue
from tests.support.web import committed

# django_db only so that the tests' database is there to be copied.
pytestmark = [pytest.mark.django_db, pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(900)]

STAFF = "staff@example.org"
# Path, and what stands on the page.
PAGES = {
    "plans": ("/admin/plans/plan/", "Ether every morning"),
    "slots": ("/admin/plans/slot/", "reserved"),
    "deposits": ("/admin/deposits/deposit/", "ann@example.org"),
    "withdrawals": ("/admin/withdrawals/withdrawal/", "ann@example.org"),
    "dead-letters": ("/admin/mail/message/?dead=yes", "the provider said 422"),
    "audit": ("/admin/accounts/auditrecord/", "admin.signed_in"),
}


def test_staff_look_at_letters_and_lists(stage: Stage, tmp_path: Path) -> None:
    committed(fill)
    with watched(stage, viewport={"width": 1280, "height": 900}) as staff:
        page = staff.page()

        # given somebody who shows a password, gets a second factor and keeps its recovery codes
        page.goto(f"{stage.api}/admin/")
        page.locator("#id_username").fill(STAFF)
        page.locator("#id_password").fill(PASSWORD)
        seen(page, tmp_path, "sign-in")
        page.locator("#id_password").press("Enter")
        expect(page.get_by_text("has no second factor yet")).to_be_visible()
        secret = page.locator("code").inner_text()
        picture = page.locator("div.bg-white > svg").bounding_box()
        assert picture is not None
        assert picture["width"] >= 200
        seen(page, tmp_path, "enrol")
        page.locator("#id_code").fill(totp_at(secret, int(time.time()) // 30))
        page.locator("#id_code").press("Enter")
        expect(page.locator("#recovery-codes li")).to_have_count(10)
        seen(page, tmp_path, "recovery-codes")
        page.get_by_text("I have kept them").click()
        expect(page.locator("#nav-sidebar, nav").first).to_be_visible()
        seen(page, tmp_path, "index")

        # then the lists show what there is
        for name, (path, said) in PAGES.items():
            page.goto(stage.api + path)
            expect(page.get_by_text(said).first).to_be_visible()
            seen(page, tmp_path, name)

        # and the gallery every letter, as it is sent
        page.goto(f"{stage.api}/admin/mail/message/gallery/")
        frames = page.locator("iframe")
        expect(frames).to_have_count(len(TEMPLATES))
        for index, template in enumerate(TEMPLATES.values()):
            expect(page.get_by_role("heading", name=template.title, exact=True)).to_be_visible()
            frames.nth(index).scroll_into_view_if_needed()
            title = frames.nth(index).content_frame.locator("h1").first
            expect(title).to_have_css("font-weight", "600")
        seen(page, tmp_path, "gallery")


def test_the_reference_is_there(stage: Stage, tmp_path: Path) -> None:
    with watched(stage, viewport={"width": 1280, "height": 900}) as reader:
        page = reader.page()
        page.goto(f"{stage.api}/api/v1/docs")
        expect(page.locator(".opblock").first).to_be_visible()
        seen(page, tmp_path, "swagger")
        page.locator(".opblock-summary").first.click()
        expect(page.locator(".opblock-body").first).to_be_visible()
        page.goto(f"{stage.api}/api/v1/redoc")
        expect(page.get_by_role("heading", name="Tranche API").first).to_be_visible()
        seen(page, tmp_path, "redoc")
        # Its makers' logo, from their own server: not shown, so that nobody there learns who reads. Nothing else.
        reader.complaints[:] = [
            one for one in reader.complaints if "cdn.redoc.ly/redoc/logo-mini.svg" not in one
        ]


def fill() -> None:
    """A town, mails of it, and staff."""
    factor = second_factor.current()
    try:
        town_make(lambda **_: 0)
    finally:
        second_factor.install(factor)
    code_queue()
    deposit_queue()
    Message.objects.update(buried_at=clock.now(), last_error="the provider said 422")
    user = User(email=STAFF, is_staff=True, is_superuser=True)
    user.set_password(PASSWORD)
    user.save()


def seen(page: Page, folder: Path, name: str) -> None:
    page.screenshot(path=folder / f"{name}.png", full_page=name != "redoc")
