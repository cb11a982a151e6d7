"""A person whose credentials are canaries."""

import json
import re
import time
from typing import Any

from apps.mail.selectors import letters_received
from tests.accounts.signin.support import totp_at
from tests.core.canaries.cage import made
from tests.core.canaries.platform import Platform, ask
from tests.support.stack import wait_until

SIX_DIGITS = r"\b\d{6}\b"


class Walker:
    """A person who goes through the flows of signing in over HTTP; `held` is all that they were given."""

    EMAIL = "walker@example.org"

    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self.password, self.other = made("walker"), made("walkers")
        self.held: dict[str, str] = {"password": self.password, "new password": self.other}
        self.flow = self.access = ""

    def post(self, path: str, body: dict[str, Any] | None = None, *, status: int = 200) -> dict[str, Any]:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        if self.flow:
            headers["X-Session-Token"] = self.flow
        if self.access:
            headers["Authorization"] = f"Bearer {self.access}"
        text = json.dumps(body) if body is not None else ""
        # The same where everything is away, and where it crashes: neither may say what it was sent.
        for port, place in ((self.platform.broken, f"auth/{path}"), (self.platform.web, "probe/crash")):
            broken, said = ask(port, "POST", f"/api/v1/{place}", headers, text)
            assert broken >= 500 or broken in (401, 405), (place, said)
        answered, said = ask(self.platform.web, "POST", f"/api/v1/auth/{path}", headers, text)
        assert answered == status, (path, said)
        found: dict[str, Any] = json.loads(said) if said else {}
        self.flow = found.get("session_token") or self.flow
        if found.get("access_token"):
            self.access, self.flow = found["access_token"], ""
            self.keep(access=found["access_token"], refresh=found["refresh_token"])
        return found

    def keep(self, **values: str) -> None:
        self.held |= {f"{name} {len(self.held)}": value for name, value in values.items()}

    def code(self, template: str, form: str, *, to: str = EMAIL) -> str:
        """Of the letter that a worker has sent: before that it is nowhere to be read."""
        found: list[str] = []

        def arrived() -> bool:
            letters = [one.text for one in letters_received(to=to) if one.template == template]
            found.extend(code for text in letters[:1] for code in re.findall(form, text))
            return bool(found)

        wait_until(arrived, seconds=60, what=f"a letter {template}")
        return found[0]

    def walk(self) -> None:
        self.post("sign-up", {"email": self.EMAIL, "password": self.password}, status=401)
        self.keep(flow=self.flow, code=self.code("code", SIX_DIGITS))
        self.post("verify", {"code": "no code"}, status=400)
        self.post("verify", {"code": self.code("code", SIX_DIGITS)})
        secret = self.post("factors/totp")["secret"]
        right = totp_at(secret, int(time.time()) // 30)
        self.keep(totp=secret, totp_code=right)
        codes = self.post("factors/totp/confirm", {"code": right})["recovery_codes"]
        self.keep(**{f"recovery {number}": code for number, code in enumerate(codes)})
        self.post("step-up", {"code": codes[0]}, status=204)
        self.post("step-up", {"password": self.password}, status=403)
        self.post("email", {"email": "walked@example.org"}, status=202)
        self.keep(change=self.code("code", SIX_DIGITS, to="walked@example.org"))
        self.post("password", {"current_password": self.password, "new_password": self.other}, status=204)
        refresh = next(value for name, value in self.held.items() if name.startswith("refresh"))
        self.post("refresh", {"refresh_token": refresh})
        # A replay, which ends the session and is told by mail.
        self.post("refresh", {"refresh_token": refresh}, status=401)
        self.access = ""
        self.post("password/forgot", {"email": self.EMAIL}, status=401)
        reset = self.code("password_reset_code", r"\b[B-Z]{4}-[B-Z]{4}\b")
        self.keep(flow=self.flow, reset=reset)
        self.post("password/reset", {"code": "BBBB-BBBB", "password": self.password}, status=400)
        self.post("password/reset", {"code": reset, "password": self.password}, status=204)
        self.flow = ""
        self.post("sign-in", {"email": self.EMAIL, "password": self.password}, status=401)
        self.keep(flow=self.flow)
        self.post("sign-in/factor", {"code": codes[1]})
        self.access = ""
        self.post("sign-in/google", {"id_token": f"e30.{made('idtoken')}.x", "proof": "p"}, status=404)

    def leaks(self, searched: dict[str, str]) -> dict[str, str]:
        """Where what they were given stands, with what is around it."""
        found = {}
        for name, value in self.held.items():
            # Digits are also in other numbers: only as a word of their own.
            shape = rf"(?<![\w.\-:+]){value}(?![\w.\-:+])" if value.isdigit() else re.escape(value)
            for place, text in searched.items():
                if at := re.search(shape, text):
                    found[f"{name} in {place}"] = text[max(0, at.start() - 200) : at.end() + 60]
        return found
