"""A person's view: the REST API through their own key, and nothing else."""

import uuid
from collections.abc import Iterator
from typing import Any

import httpx

from apps.sandbox.demo.scenario import PlanSpec
from apps.sandbox.runtime.errors import SandboxError


class Person:
    """One person at the API. Every write carries an idempotency key."""

    def __init__(self, *, name: str, email: str, url: str, key: str) -> None:
        self.name = name
        self.email = email
        self._http = httpx.Client(
            base_url=f"{url}/api/v1/", headers={"Authorization": f"Bearer {key}"}, timeout=30
        )

    def close(self) -> None:
        self._http.close()

    def plan_create(self, plan: PlanSpec) -> dict[str, Any]:
        """The plan as the API made it."""
        schedule = {
            "kind": plan.kind,
            "time_zone": "Europe/Berlin",
            "start_at": plan.starts_at.isoformat(),
            "end_at": plan.ends_at.isoformat(),
            "at": None if plan.kind == "hourly" else "09:00",
            "day": plan.day,
            "max_runs": plan.max_runs,
        }
        body = {
            "name": plan.name,
            "market": plan.market,
            "amount": plan.amount,
            "price_max": plan.price_max,
            "schedule": _given(schedule),
        }
        return self._write("plans", _given(body))

    def plan(self, plan_id: str) -> dict[str, Any]:
        return self._said(self._http.get(f"plans/{plan_id}"))

    def slots(self, plan_id: str) -> list[dict[str, Any]]:
        """All slots of a plan, in the order of their numbers."""
        return sorted(self._pages(f"plans/{plan_id}/slots"), key=lambda slot: int(slot["number"]))

    def slot(self, slot_id: str) -> dict[str, Any]:
        """One slot with its decision record."""
        return self._said(self._http.get(f"slots/{slot_id}"))

    def balances(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._said(self._http.get("balances"))["data"]
        return sorted(found, key=lambda balance: str(balance["asset"]))

    def deposit_address(self) -> str:
        """Where to send money, as the API tells it. Raises `SandboxError` unless there is exactly one."""
        found: list[dict[str, Any]] = self._said(self._http.get("deposit-addresses"))["data"]
        if len(found) != 1:
            raise SandboxError(f"{self.name} has {len(found)} deposit addresses")
        return str(found[0]["address"])

    def deposits(self) -> list[dict[str, Any]]:
        return list(self._pages("deposits"))

    def destination_add(self, *, address: str, label: str) -> dict[str, Any]:
        return self._write("withdrawal-destinations", {"address": address, "label": label})

    def withdraw(self, *, asset: str, amount: str, destination: str) -> dict[str, Any]:
        """Ask for a withdrawal at the fee quoted now."""
        quote = self._said(self._http.post("withdrawals/quote", json={"asset": asset, "amount": amount}))
        body = {"asset": asset, "amount": amount, "destination": destination, "max_fee": quote["fee"]}
        return self._write("withdrawals", body)

    def withdrawals(self) -> list[dict[str, Any]]:
        return list(self._pages("withdrawals"))

    def reserves(self) -> list[dict[str, Any]]:
        """The platform's proof of reserves; anybody may ask."""
        found: list[dict[str, Any]] = self._said(self._http.get("platform/reserves"))["data"]
        return found

    def _write(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return self._said(self._http.post(path, json=body, headers={"Idempotency-Key": str(uuid.uuid4())}))

    def _pages(self, path: str) -> Iterator[dict[str, Any]]:
        cursor: str | None = None
        while True:
            parameters = {"limit": "100", **({"cursor": cursor} if cursor else {})}
            page = self._said(self._http.get(path, params=parameters))
            yield from page["data"]
            cursor = page["next_cursor"]
            if cursor is None:
                return

    @staticmethod
    def _said(response: httpx.Response) -> dict[str, Any]:
        if response.is_error:
            raise SandboxError(f"{response.request.method} {response.request.url}: {response.text}")
        answer: dict[str, Any] = response.json()
        return answer


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
