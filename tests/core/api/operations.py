"""Every operation of the API, as the OpenAPI document has it, with a request that succeeds: its story.

`tests/core/api/test_walks.py` and `test_examples.py` ask each operation by its story and fail for one that has none
and needs one.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from drf_spectacular.generators import SchemaGenerator

from tests.core.api.support import ApiClient
from tests.core.api.town import CODE, OUTSIDE, Town

if TYPE_CHECKING:
    from django.test.client import _MonkeyPatchedWSGIResponse as Answer

ANOTHER = "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359"
_SCHEDULE = {
    "kind": "daily",
    "at": "09:00",
    "time_zone": "Europe/Berlin",
    "start_at": "2030-03-30T00:00:00+01:00",
}
_PLAN = {
    "name": "Ether every morning",
    "market": "USDC/WETH",
    "amount": "100",
    "total_budget": "5000",
    "price_max": "4000",
    "max_slippage_bps": 50,
    "schedule": _SCHEDULE,
}


@dataclass(frozen=True)
class Story:
    """What is asked. `before` brings the town to where the request makes sense, and may answer other ids."""

    body: Any = None
    query: Mapping[str, str] = field(default_factory=dict)
    before: Callable[[Town], Mapping[str, Any]] = lambda _: {}


def _paused(town: Town) -> dict[str, Any]:
    from apps.plans.services import plan_pause

    plan = town.plan()
    plan_pause(owner_id=town.ann.pk, plan_id=plan.pk)
    return {"plan_id": plan.pk}


def _unused(town: Town) -> dict[str, Any]:
    from apps.withdrawals.services import destination_add

    row = destination_add(user_id=town.ann.pk, address="0x" + "12" * 20, label="Old wallet")
    return {"destination_id": row.pk}


STORIES: dict[str, Story] = {
    "api_keys_create": Story({"name": "Accounting", "scopes": ["balances:read", "plans:read"]}),
    "fees_quote": Story({"market": "USDC/WETH", "amount": "100"}),
    "plans_create": Story(_PLAN),
    "plans_update": Story(
        {"version": 1, "amount": "150", "price_max": None, "schedule": {"at": "18:30", "max_runs": 30}},
        before=lambda town: {"plan_id": town.plan().pk},
    ),
    "plans_preview_new": Story(_PLAN, {"count": "3"}),
    "plans_preview": Story(query={"count": "3"}),
    "plans_resume": Story(before=_paused),
    "withdrawal_destinations_create": Story(
        {"address": "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359", "label": "Cold wallet"}
    ),
    "withdrawals_create": Story({"asset": "USDC", "amount": "100", "destination": OUTSIDE, "max_fee": "5"}),
    "withdrawal_destinations_delete": Story(before=_unused),
    "statement_list": Story(query={"asset": "USDC"}),
    "withdrawals_quote": Story({"asset": "USDC", "amount": "100"}),
    "withdrawals_confirm": Story({"code": CODE}),
}


@dataclass(frozen=True)
class Operation:
    """One method of one path."""

    name: str
    method: str
    path: str
    document: Mapping[str, Any]

    @property
    def parameters(self) -> list[str]:
        return re.findall(r"{(\w+)}", self.path)

    @property
    def status(self) -> str:
        """What a success is answered with."""
        return next(str(status) for status in self.document["responses"] if status.startswith("2"))

    @property
    def writes(self) -> bool:
        return self.method in ("POST", "PUT", "PATCH")

    @property
    def story(self) -> Story:
        """Its own, or none when nothing but ids is needed to ask."""
        return STORIES.get(self.name, Story())

    @property
    def needs_story(self) -> bool:
        return "requestBody" in self.document

    def send(
        self, town: Town, *, client: ApiClient | None = None, body: Any = ..., ready: bool = False
    ) -> "Answer":
        """As the story tells it. `ready` says that the ids are those of the town, whatever the story needs before."""
        ids = {**town.ids, **({} if ready else self.story.before(town))}
        path = re.sub(r"{(\w+)}", lambda found: str(ids[found[1]]), self.path)
        sent = self.story.body if body is ... else body
        names = {item["name"] for item in self.document.get("parameters", ()) if item["in"] == "header"}
        headers = {"idempotency_key": f"story-{self.name}"} if "Idempotency-Key" in names else {}
        return (client or town.client).send(
            self.method, path, body=sent, query=dict(self.story.query) or None, headers=headers
        )


@cache
def document() -> dict[str, Any]:
    found: dict[str, Any] = SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    return found


@cache
def operations() -> list[Operation]:
    return [
        Operation(found["operationId"], method.upper(), path, found)
        for path, methods in document()["paths"].items()
        for method, found in methods.items()
    ]


def resolved(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """A schema with its reference followed."""
    while True:
        reference = schema.get("$ref") or next(
            (one["$ref"] for one in schema.get("allOf", ()) if "$ref" in one), ""
        )
        if not reference:
            return schema
        schema = document()["components"]["schemas"][reference.rpartition("/")[2]]
