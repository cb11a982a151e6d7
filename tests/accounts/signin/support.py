"""A frontend in a test: it keeps the flow's token and the access token, and reads its mail."""

import json
import time
from typing import TYPE_CHECKING, Any

from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value

from apps.mail.models import SECRET, Message
from tests.core.api.support import ApiClient, problem

if TYPE_CHECKING:
    from django.test.client import _MonkeyPatchedWSGIResponse as Answer

AUTH = "/api/v1/auth/"
EMAIL, PASSWORD, OTHER = "ann@example.org", "plough-Ganymede-46", "harbour-Thimble-93"


def mails(to: str = EMAIL) -> list[tuple[str, dict[str, Any]]]:
    """Template and context of what was queued for an address, the oldest first."""
    found = []
    for message in Message.objects.filter(to=to).order_by("created_at", "id"):
        secret = message.secret and json.loads(SECRET.decrypt(bytes(message.secret), pk=message.pk))
        found.append((message.template, {**message.context, **(secret or {})}))
    return found


def code_sent(template: str = "code", to: str = EMAIL) -> str:
    """The code of the newest such mail."""
    return str([context["code"] for name, context in mails(to) if name == template][-1])


class Person:
    """One device."""

    def __init__(self, address: str = "198.51.100.7") -> None:
        self.client = ApiClient()
        self.client.client.defaults["REMOTE_ADDR"] = address
        self.flow = ""
        self.access = ""
        self.secret = ""

    def send(self, method: str, path: str, body: Any = None) -> "Answer":
        headers = {"x-session-token": self.flow} if self.flow else {}
        if self.access:
            headers["authorization"] = f"Bearer {self.access}"
        answer = self.client.send(method, AUTH + path, body=body, headers=headers)
        if answer.content and "json" in answer["Content-Type"]:
            said = answer.json()
            self.flow = said.get("session_token") or self.flow
            if said.get("access_token"):
                self.access, self.flow = said["access_token"], ""
        return answer

    def post(self, path: str, body: Any = None) -> "Answer":
        return self.send("POST", path, body)

    def get(self, path: str) -> "Answer":
        return self.send("GET", path)

    def delete(self, path: str) -> "Answer":
        return self.send("DELETE", path)

    def sign_up(self, email: str = EMAIL, password: str = PASSWORD) -> "Person":
        """Signed up, verified, and signed in."""
        incomplete(self.post("sign-up", {"email": email, "password": password}), "verify_email")
        assert self.post("verify", {"code": code_sent(to=email)}).status_code == 200
        assert self.access
        return self

    def sign_in(self, email: str = EMAIL, password: str = PASSWORD) -> "Answer":
        return self.post("sign-in", {"email": email, "password": password})

    def totp_add(self) -> list[str]:
        """With an authenticator app from now on; its recovery codes."""
        self.secret = self.post("factors/totp").json()["secret"]
        # Of the step before, so that the present one's code is left for the test; again if the step is just over.
        for _ in range(2):
            answer = self.post("factors/totp/confirm", {"code": self.totp(-1)})
            if answer.status_code == 200:
                break
        assert answer.status_code == 200, answer.content
        return list(answer.json()["recovery_codes"])

    def totp(self, steps: int = 0) -> str:
        return totp_at(self.secret, int(time.time()) // 30 + steps)


def totp_at(secret: str, counter: int) -> str:
    return str(format_hotp_value(hotp_value(secret, counter)))


def incomplete(answer: "Answer", flow: str) -> dict[str, Any]:
    """Assert that the answer wants the step `flow`, and nothing else; the document."""
    document = problem(answer, 401, "authentication_incomplete", errors=[])
    assert [(step["id"], step["is_pending"]) for step in document["flows"]] == [(flow, True)], document
    return document
