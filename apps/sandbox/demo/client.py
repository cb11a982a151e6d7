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
        return self._said(
            self._http.post("plans", json=_given(body), headers={"Idempotency-Key": str(uuid.uuid4())})
        )

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
