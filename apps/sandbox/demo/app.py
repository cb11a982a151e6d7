"""A person's app: signs up and in as docs/api.md says, keeps what it is given, and does what the answers ask for."""

import threading
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from apps.sandbox.authenticator import Authenticator
from apps.sandbox.mailbox import Mailbox
from apps.sandbox.runtime.errors import SandboxError

_TIMEOUT_SECONDS = 30.0
# One request is answered within so many tries: a refresh, a step-up and some waits.
_TRIES = 30
_WAIT_SECONDS_MAX = 5.0


class App:
    """Speaks for one person at the API, by their session or by their API key. May be used by several threads.

    What an answer asks for is done, and the request sent again: waiting (429), refreshing, stepping up. Whatever else
    is no success raises `SandboxError`.
    """

    def __init__(self, *, url: str, email: str, password: str, mailbox: Mailbox) -> None:
        self.email = email
        self.mailbox = mailbox
        self.refreshes = self.step_ups = self.waits = self.app_codes = self.recovery_codes_used = 0
        self._password = password
        self._http = httpx.Client(base_url=f"{url}/api/v1/", timeout=_TIMEOUT_SECONDS)
        self._access = self._refresh_token = self._key = ""
        self._authenticator: Authenticator | None = None
        self._recovery_codes: list[str] = []
        # Whoever refreshes or steps up does it for all.
        self._lock = threading.RLock()
        self._pause = threading.Event()

    def close(self) -> None:
        self._http.close()

    @property
    def bearer(self) -> str:
        return self._key or self._access

    @property
    def second_factor(self) -> bool:
        return self._authenticator is not None

    @property
    def comes_with(self) -> str:
        """What this person shows, in words."""
        if self._key:
            return "API key"
        return "password, app" if self.second_factor else "password"

    # Signing up and in

    def sign_up(self) -> None:
        """Until the tokens are there: the code comes by mail."""
        self._flow("auth/sign-up", {"email": self.email, "password": self._password})

    def sign_in(self) -> None:
        self._flow("auth/sign-in", {"email": self.email, "password": self._password})

    def sign_out(self) -> None:
        self.post("auth/sign-out")
        self._access = self._refresh_token = ""

    def factor_add(self) -> None:
        """An authenticator app, and recovery codes for when it has no code to show."""
        authenticator = Authenticator(str(self.post("auth/factors/totp")["secret"]))
        made = self.post("auth/factors/totp/confirm", {"code": authenticator.code()})
        self._authenticator, self._recovery_codes = authenticator, list(made["recovery_codes"])
        self.app_codes += 1

    def factor_code(self) -> str:
        """A code that was not used yet: the app's, else one of the recovery codes."""
        code = self._authenticator.code() if self._authenticator is not None else None
        if code is None:
            self.recovery_codes_used += 1
            return self._recovery_codes.pop()
        self.app_codes += 1
        return code

    def key_make(self, *, name: str, scopes: Sequence[str]) -> None:
        """Make an API key, sign out, and go on by the key alone."""
        key = self.post("api-keys", {"name": name, "scopes": list(scopes)})["key"]
        self.sign_out()
        self._key = str(key)

    # Asking

    def get(self, path: str, **query: str) -> dict[str, Any]:
        return self._ask("GET", path, query=query)

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Every write carries an idempotency key of its own, the same at every try."""
        return self._ask("POST", path, body=body, headers={"Idempotency-Key": str(uuid.uuid4())})

    def mend(self, response: httpx.Response, *, bearer: str) -> None:
        """Do what a refusal of a request with `bearer` asks for, so that the request may be sent again.

        Raises `SandboxError` for a refusal that is final.
        """
        code = _code_of(response)
        if response.status_code == httpx.codes.TOO_MANY_REQUESTS:
            self._wait(response)
        elif code == "invalid_access_token":
            self._refresh(bearer)
        elif code == "reauthentication_required":
            self._step_up()
        else:
            said = response.text[:500]
            raise SandboxError(
                f"{response.request.method} {response.request.url}: {response.status_code} {said}"
            )

    def _ask(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        for _ in range(_TRIES):
            bearer = self.bearer
            sent = {"Authorization": f"Bearer {bearer}", **(headers or {})}
            response = self._http.request(method, path, json=body, params=query, headers=sent)
            if response.is_success:
                answer: dict[str, Any] = response.json() if response.content else {}
                return answer
            self.mend(response, bearer=bearer)
        raise SandboxError(f"{method} {path}: still refused after {_TRIES} tries: {response.text[:500]}")

    def _flow(self, path: str, body: Mapping[str, Any]) -> None:
        """From one step to the next, as the answers say, until the tokens come."""
        session_token = ""
        while True:
            response = self._public(path, body, session_token=session_token)
            if response.is_success:
                self._keep(response)
                return
            if _code_of(response) != "authentication_incomplete":
                self.mend(response, bearer="")
                continue
            said = response.json()
            session_token = said["session_token"] or session_token
            path, body = self._next_step(said["flows"][0]["id"])

    def _next_step(self, flow: str) -> tuple[str, dict[str, str]]:
        if flow == "verify_email":
            return "auth/verify", {"code": self.mailbox.code()}
        if flow == "mfa_authenticate":
            return "auth/sign-in/factor", {"code": self.factor_code()}
        raise SandboxError(f"{self.email} does not know the step {flow}")

    def _refresh(self, stale: str) -> None:
        """Whoever comes second finds that the first has put the next tokens there."""
        with self._lock:
            if self._access != stale:
                return
            while True:
                response = self._public("auth/refresh", {"refresh_token": self._refresh_token})
                if response.is_success:
                    break
                # Only waits can be repeated: a refresh token is good once.
                self.mend(response, bearer="")
            self._keep(response)
            self.refreshes += 1

    def _step_up(self) -> None:
        with self._lock:
            proof = {"code": self.factor_code()} if self.second_factor else {"password": self._password}
            self.post("auth/step-up", proof)
            self.step_ups += 1

    def _keep(self, response: httpx.Response) -> None:
        said = response.json()
        self._access, self._refresh_token = str(said["access_token"]), str(said["refresh_token"])

    def _public(self, path: str, body: Mapping[str, Any], *, session_token: str = "") -> httpx.Response:
        headers = {"X-Session-Token": session_token} if session_token else {}
        return self._http.post(path, json=dict(body), headers=headers)

    def _wait(self, response: httpx.Response) -> None:
        seconds = float(response.headers["Retry-After"])
        if seconds > _WAIT_SECONDS_MAX:
            raise SandboxError(f"told to wait {seconds:.0f} s: {response.text[:500]}")
        self.waits += 1
        self._pause.wait(seconds)


def _code_of(response: httpx.Response) -> str:
    try:
        return str(response.json().get("code", ""))
    except ValueError:
        return ""
