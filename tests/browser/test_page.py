"""A page of another origin in a real browser: cookie transport, passkeys, the live stream. Settings of production."""

import time
from typing import Any

import pytest
from django.db import transaction
from playwright.sync_api import Page, expect

from apps.accounts.models import User
from apps.events.models import Event
from apps.events.services import EventDraft, events_publish
from tests.accounts.signin.support import PASSWORD, code_sent
from tests.browser.stage import CSRF_COOKIE, HOME, REFRESH_COOKIE, Stage, Watched, watched
from tests.support.web import committed

# django_db only so that the tests' database is there to be copied.
pytestmark = [pytest.mark.django_db, pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(900)]

EMAIL = "ann@example.org"


def test_a_person_lives_in_the_browser(stage: Stage) -> None:
    with watched(stage) as ann:
        page = ann.page()
        authenticator_add(page)

        # given somebody who signs up on the page, and types the code of the mail
        page.goto(stage.app)
        expect(state(page)).to_have_text("signed out")
        page.get_by_label("Email", exact=True).fill(EMAIL)
        page.get_by_label("Password", exact=True).fill(PASSWORD)
        page.get_by_role("button", name="Sign up").click()
        expect(page.get_by_role("alert")).to_have_text("next: verify_email")
        page.get_by_label("Code").fill(code_sent(to=EMAIL))
        page.get_by_role("button", name="Verify").click()
        expect(state(page)).to_have_text("signed in")

        # then the refresh token is where no script comes
        cookies = {cookie["name"]: cookie for cookie in ann.context.cookies()}
        kept = cookies[REFRESH_COOKIE]
        assert (kept["httpOnly"], kept["secure"], kept["sameSite"]) == (True, True, "Strict")
        assert (kept["domain"], kept["path"]) == (f".{HOME}", "/api/v1/auth")
        assert kept["value"].startswith("trr_")
        assert page.evaluate("document.cookie") == f"{CSRF_COOKIE}={cookies[CSRF_COOKIE]['value']}"
        stored = page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}])")
        assert "trr_" not in stored
        assert "eyJ" not in stored

        # and it is refreshed with the header of the other cookie, or not at all
        assert refresh_by_hand(page, "") == [403, "csrf_failed"]
        assert refresh_by_hand(page, cookies[CSRF_COOKIE]["value"][:-1] + "x") == [403, "csrf_failed"]
        assert cookie_of(ann, REFRESH_COOKIE) == kept["value"]
        page.get_by_role("button", name="Refresh").click()
        expect(page.get_by_role("alert")).to_be_empty()
        page.wait_for_function(
            "before => !document.cookie.includes(before)", arg=cookies[CSRF_COOKIE]["value"]
        )
        assert cookie_of(ann, REFRESH_COOKIE) != kept["value"]

        # when a passkey is added, then the open stream tells of it
        expect(page.locator("#live")).to_have_text("yes")
        page.get_by_role("button", name="Add a passkey").click()
        expect(events(page).filter(has_text="person.factor_added")).to_have_count(1)
        expect(page.get_by_role("alert")).to_be_empty()

        # and what happens elsewhere arrives live
        started = time.monotonic()
        tell(2)
        expect(events(page).filter(has_text="execution.settled")).to_have_count(2)
        assert time.monotonic() - started < 10

        # when the page is away while things happen, and loaded anew
        page.goto("about:blank")
        tell(3)
        page.goto(stage.app)

        # then it is still signed in, and has every event once, in order
        expect(state(page)).to_have_text("signed in")
        expect(events(page).filter(has_text="execution.settled")).to_have_count(5)
        tell(1)
        expect(events(page).filter(has_text="execution.settled")).to_have_count(6)
        numbers = [int(text.split()[0]) for text in events(page).all_inner_texts()]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        assert numbers[-1] == Event.objects.filter(subject_id=User.objects.get(email=EMAIL).pk).count()

        # when they sign out, nothing is left; then they sign in by the passkey alone
        page.get_by_role("button", name="Sign out", exact=True).click()
        expect(state(page)).to_have_text("signed out")
        expect(page.locator("#live")).to_have_text("no")
        assert ann.context.cookies() == []
        page.get_by_role("button", name="Sign in with a passkey").click()
        expect(state(page)).to_have_text("signed in")
        expect(page.locator("#live")).to_have_text("yes")
        # the stream is a step-up's witness, too
        page.get_by_role("button", name="Show it is me").click()
        expect(page.get_by_role("alert")).to_be_empty()

        # when they sign out everywhere, then the other tab's stream ends as well, and it knows
        other = ann.page()
        other.goto(stage.app)
        expect(other.locator("#live")).to_have_text("yes")
        page.get_by_role("button", name="Sign out everywhere").click()
        expect(state(page)).to_have_text("signed out")
        expect(other.locator("#live")).to_have_text("no")
        expect(state(other)).to_have_text("signed out")
        page.reload()
        expect(state(page)).to_have_text("signed out")


def test_a_password_asks_for_the_passkey_too(stage: Stage) -> None:
    with watched(stage) as ann:
        page = ann.page()
        authenticator_add(page)
        signed_up(page, stage, "bea@example.org")
        page.get_by_role("button", name="Add a passkey").click()
        expect(events(page).filter(has_text="person.factor_added")).to_have_count(1)
        page.get_by_role("button", name="Sign out", exact=True).click()
        expect(state(page)).to_have_text("signed out")

        page.get_by_label("Email to sign in").fill("bea@example.org")
        page.get_by_label("Password to sign in").fill(PASSWORD)
        page.get_by_role("button", name="Sign in", exact=True).click()

        expect(page.get_by_role("alert")).to_have_text("next: mfa_authenticate")
        assert ann.context.cookies() == []
        page.get_by_role("button", name="Show the second factor").click()
        expect(state(page)).to_have_text("signed in")


def test_a_page_of_somebody_else_gets_nothing(stage: Stage) -> None:
    with watched(stage) as cat:
        page = cat.page()
        signed_up(page, stage, "cat@example.org")
        csrf = cookie_of(cat, CSRF_COOKIE)

        foreign = cat.page()
        foreign.goto(stage.foreign)
        said = foreign.evaluate(
            """async ([api, csrf]) => {
                const options = {method: "POST", credentials: "include", headers: {"X-CSRF-Token": csrf}, body: "{}"};
                const simple = {method: "POST", credentials: "include", mode: "no-cors"};
                return [
                    document.cookie,
                    await fetch(`${api}/api/v1/auth/refresh`, options).catch((error) => error.message),
                    await fetch(`${api}/api/v1/auth/refresh`, simple).catch((error) => error.message),
                ];
            }""",
            [stage.api, csrf],
        )

        assert said == ["", "Failed to fetch", "Failed to fetch"]
        assert any("CORS" in complaint for complaint in cat.complaints)
        cat.complaints.clear()
        # nothing was rotated, nothing was ended
        page.get_by_role("button", name="Refresh").click()
        page.wait_for_function("before => !document.cookie.includes(before)", arg=csrf)
        expect(page.get_by_role("alert")).to_be_empty()


def signed_up(page: Page, stage: Stage, email: str) -> None:
    page.goto(stage.app)
    page.get_by_label("Email", exact=True).fill(email)
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Sign up").click()
    expect(page.get_by_role("alert")).to_have_text("next: verify_email")
    page.get_by_label("Code").fill(code_sent(to=email))
    page.get_by_role("button", name="Verify").click()
    expect(state(page)).to_have_text("signed in")
    expect(page.locator("#live")).to_have_text("yes")


def authenticator_add(page: Page) -> None:
    """A phone that recognises its owner: resident keys, user verification."""
    devices = page.context.new_cdp_session(page)
    devices.send("WebAuthn.enable")
    options = {
        "protocol": "ctap2",
        "transport": "internal",
        "hasResidentKey": True,
        "hasUserVerification": True,
        "isUserVerified": True,
        "automaticPresenceSimulation": True,
    }
    devices.send("WebAuthn.addVirtualAuthenticator", {"options": options})


def refresh_by_hand(page: Page, csrf: str) -> list[Any]:
    found: list[Any] = page.evaluate(
        """async (csrf) => {
            const headers = {"Content-Type": "application/json", ...(csrf && {"X-CSRF-Token": csrf})};
            const options = {method: "POST", credentials: "include", headers, body: "{}"};
            const answer = await fetch(`${tranche.api}/api/v1/auth/refresh`, options);
            return [answer.status, (await answer.json()).code];
        }""",
        csrf,
    )
    return found


def state(page: Page) -> Any:
    return page.locator("#state")


def events(page: Page) -> Any:
    return page.locator("#events li")


def cookie_of(person: Watched, name: str) -> str:
    return next(cookie["value"] for cookie in person.context.cookies() if cookie["name"] == name)


def tell(count: int) -> None:
    """What a worker would write, of EMAIL's owner."""

    def write() -> None:
        subject = User.objects.get(email=EMAIL).pk
        drafts = [
            EventDraft("execution.settled", "person", subject, {"n": n}, "slot", subject)
            for n in range(count)
        ]
        with transaction.atomic():
            events_publish(drafts)

    committed(write)
