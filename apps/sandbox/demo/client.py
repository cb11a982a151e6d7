"""What a person does at the REST API, through their own app, and nothing else."""

from collections.abc import Iterator
from typing import Any

from apps.sandbox.demo.app import App
from apps.sandbox.demo.scenario import PlanSpec
from apps.sandbox.runtime.errors import SandboxError


class Person:
    """One person at the API."""

    def __init__(self, *, name: str, app: App) -> None:
        self.name = name
        self.app = app

    @property
    def email(self) -> str:
        return self.app.email

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
        return self.app.post("plans", _given(body))

    def plan(self, plan_id: str) -> dict[str, Any]:
        return self.app.get(f"plans/{plan_id}")

    def slots(self, plan_id: str) -> list[dict[str, Any]]:
        """All slots of a plan, in the order of their numbers."""
        return sorted(self._pages(f"plans/{plan_id}/slots"), key=lambda slot: int(slot["number"]))

    def slot(self, slot_id: str) -> dict[str, Any]:
        """One slot with its decision record."""
        return self.app.get(f"slots/{slot_id}")

    def balances(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.app.get("balances")["data"]
        return sorted(found, key=lambda balance: str(balance["asset"]))

    def deposit_address(self) -> str:
        """Where to send money, as the API tells it. Raises `SandboxError` unless there is exactly one."""
        found: list[dict[str, Any]] = self.app.get("deposit-addresses")["data"]
        if len(found) != 1:
            raise SandboxError(f"{self.name} has {len(found)} deposit addresses")
        return str(found[0]["address"])

    def deposits(self) -> list[dict[str, Any]]:
        return list(self._pages("deposits"))

    def destination_add(self, *, address: str, label: str) -> dict[str, Any]:
        return self.app.post("withdrawal-destinations", {"address": address, "label": label})

    def withdraw(self, *, asset: str, amount: str, destination: str) -> dict[str, Any]:
        """Ask for a withdrawal at the fee quoted now."""
        quote = self.app.post("withdrawals/quote", {"asset": asset, "amount": amount})
        body = {"asset": asset, "amount": amount, "destination": destination, "max_fee": quote["fee"]}
        return self.app.post("withdrawals", body)

    def withdrawal_confirm(self, withdrawal_id: str) -> dict[str, Any]:
        """Show the second factor for it."""
        return self.app.post(f"withdrawals/{withdrawal_id}/confirm", {"code": self.app.factor_code()})

    def withdrawals(self) -> list[dict[str, Any]]:
        return list(self._pages("withdrawals"))

    def events(self) -> list[dict[str, Any]]:
        """Everything that happened to them, the oldest first."""
        return list(self._pages("events"))

    def reserves(self) -> list[dict[str, Any]]:
        """The platform's proof of reserves; anybody may ask."""
        found: list[dict[str, Any]] = self.app.get("platform/reserves")["data"]
        return found

    def _pages(self, path: str) -> Iterator[dict[str, Any]]:
        cursor: str | None = None
        while True:
            parameters = {"limit": "100", **({"cursor": cursor} if cursor else {})}
            page = self.app.get(path, **parameters)
            yield from page["data"]
            cursor = page["next_cursor"]
            if cursor is None:
                return


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
