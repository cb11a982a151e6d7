"""A person's balances and statements. Read-only: money moves through what other apps offer."""

from typing import Any, ClassVar
from uuid import UUID

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.exceptions import NotAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response

from apps.core.api.pagination import PAGE_PARAMETERS, Page, paged
from apps.core.api.views import ApiView
from apps.ledger import selectors
from apps.ledger.api.serializers import (
    BalanceQuerySerializer,
    BalancesSerializer,
    StatementLineSerializer,
    StatementQuerySerializer,
)
from apps.ledger.domain import AccountKey, AccountKind


def _person_id(request: Request) -> UUID:
    """Whose key it is; who has none was refused before."""
    if request.user.pk is None:
        raise NotAuthenticated
    return request.user.pk


class BalancesView(ApiView):
    scopes: ClassVar[dict[str, str | None]] = {"GET": "balances:read"}

    @extend_schema(
        operation_id="balances_list",
        summary="Balances per asset",
        description="Available, held and total of every asset: now, or after the last posting at `as_of`.",
        parameters=[
            OpenApiParameter(
                "as_of", {"type": "string", "format": "date-time"}, description="An RFC 3339 instant."
            )
        ],
        responses=BalancesSerializer,
    )
    def get(self, request: Request) -> Response:
        at = self.read_query(request, BalanceQuerySerializer).get("as_of")
        balances = selectors.balances_for_owner(owner_id=_person_id(request), at=at)
        return Response(BalancesSerializer({"as_of": at, "data": balances}).data)


class StatementView(ApiView):
    scopes: ClassVar[dict[str, str | None]] = {"GET": "balances:read"}

    @extend_schema(
        operation_id="statement_list",
        summary="Statement of one asset",
        description="Every entry of the person's available (or held) account of an asset, newest first.",
        parameters=[
            OpenApiParameter("asset", str, required=True, description="The asset's code."),
            OpenApiParameter(
                "account", {"type": "string", "enum": ["available", "held"], "default": "available"}
            ),
            *PAGE_PARAMETERS,
        ],
        responses=paged(StatementLineSerializer),
    )
    def get(self, request: Request) -> Response:
        query, values = self.read_page(request, StatementQuerySerializer)
        key = AccountKey(AccountKind(values["account"]), values["asset"].id, _person_id(request))
        account_id = selectors.account_find(key=key)
        page: Page[Any] = Page([], None)
        if account_id is not None:
            page = selectors.statement_page(account_id=account_id, query=query)
        return self.answer_page(page, StatementLineSerializer, asset=values["asset"])
