"""The base of every API view."""

from collections.abc import Collection, Mapping
from typing import Any, ClassVar, cast
from uuid import UUID

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.core.api import limits
from apps.core.api.client_address import address_group, client_address
from apps.core.api.exceptions import QueryError
from apps.core.api.fields import QueryNumberField, TextField
from apps.core.api.pagination import LIMIT_DEFAULT, LIMIT_MAX, Page, PageQuery, cursor_decode, cursor_encode
from apps.core.api.serializers import StrictSerializer

_HANDLERS = ("get", "post", "put", "patch", "delete")
_WITH_BODY = ("POST", "PUT", "PATCH")


class CountedView(APIView):
    """Counts its requests (`apps.core.api.limits`): by key, else by person, and by address who shows neither.

    All are counted under the policy `api`, a method that `limits` names under that policy of `API_LIMITS` as well, by
    person. `counted = False` is for what must answer whoever asks however often: the probes of this very process.
    """

    limits: ClassVar[Mapping[str, str]] = {}
    counted: ClassVar[bool] = True

    def perform_authentication(self, request: Request) -> None:
        try:
            super().perform_authentication(request)
        except Exception:
            # A credential that is none has cost a look-up.
            self._count(request, person="", subject="")
            raise
        person = f"person:{request.user.pk}" if request.auth is not None else ""
        self._count(request, person=person, subject=getattr(request.auth, "limit_subject", person))

    def _count(self, request: Request, *, person: str, subject: str) -> None:
        """Raises `ProblemError` `throttled`. The answer, whatever it will be, says how much is left."""
        if not self.counted:
            return
        address = f"address:{address_group(client_address(request._request))}"
        policies = {"api": subject or address}
        if str(request.method) in self.limits:
            policies[self.limits[str(request.method)]] = person or address
        verdicts: list[limits.Verdict] = []
        for policy, counted in policies.items():
            verdicts.append(limits.hit(policy, counted))
            self.headers.update(limits.headers(verdicts))
            if not verdicts[-1].allowed:
                raise limits.refusal(verdicts[-1])


class ApiView(CountedView):
    """One resource (or one action on it).

    `scopes` says for each method what an API key must hold (`None`: any valid key); a session holds all of them.

    A method without an entry is refused when the class is made, so that nothing is open by oversight;
    `public` views take no key. `sessions_only` views take no API key, only a person who signed in. `step_up` names
    methods for which a session's person must have shown who they are within the last minutes. A view calls one service
    or selector and says how its result looks.
    """

    # No OPTIONS: what can be done stands in the OpenAPI document; CORS preflights end in their middleware.
    http_method_names = [*_HANDLERS, "head"]
    scopes: ClassVar[Mapping[str, str | None]] = {}
    public: ClassVar[bool] = False
    sessions_only: ClassVar[bool] = False
    # Statuses of problems that the OpenAPI document could not tell from the rest of the view.
    refusals: ClassVar[Collection[int]] = ()
    step_up: ClassVar[frozenset[str] | set[str]] = frozenset()
    tag: ClassVar[str] = ""
    # Problems of a method that its path and body do not tell: for the OpenAPI document.
    also: ClassVar[Mapping[str, frozenset[int]]] = {}
    # Problems with members of their own: serializers by method and status, for the OpenAPI document.
    problems: ClassVar[Mapping[str, Mapping[int, tuple[type[Any], ...]]]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.public:
            cls.authentication_classes = ()
            cls.permission_classes = ()
            return
        missing = [name for name in _HANDLERS if hasattr(cls, name) and name.upper() not in cls.scopes]
        if missing:
            raise TypeError(f"{cls.__name__}.scopes says nothing about {', '.join(missing)}")

    @property
    def user_id(self) -> UUID:
        """Whose key it is. Only for views that are not public: there nobody comes this far without one."""
        return cast("UUID", self.request.user.pk)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        # Even where a method looks at no body, one that cannot be read is refused, not ignored.
        if request.method in _WITH_BODY and hasattr(self, request.method.lower()):
            _ = request.data

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        """What people have is theirs: no cache on the way keeps an answer, unless the view says that it may."""
        answer = super().finalize_response(request, response, *args, **kwargs)
        answer.headers.setdefault("Cache-Control", "no-store")
        return answer

    def read(
        self, request: Request, serializer_class: type[StrictSerializer], **context: Any
    ) -> dict[str, Any]:
        """The validated body; raises `ValidationError`, answered as 400 with pointers."""
        serializer = serializer_class(data=request.data, context={"request": request, **context})
        serializer.is_valid(raise_exception=True)
        return dict(serializer.validated_data)

    def read_empty(self, request: Request) -> None:
        """For actions without a body: nothing, or an empty object."""
        if request.data != {}:
            self.read(request, StrictSerializer)

    def read_query(
        self, request: Request, serializer_class: type[StrictSerializer], **context: Any
    ) -> dict[str, Any]:
        """The validated query string; unknown, repeated and unreadable parameters are a 400."""
        values = {}
        for name, given in request.query_params.lists():
            if len(given) > 1:
                raise QueryError({name: [serializers.ErrorDetail("Given more than once.", code="repeated")]})
            values[name] = given[0]
        serializer = serializer_class(data=values, context={"request": request, **context})
        try:
            serializer.is_valid(raise_exception=True)
        except serializers.ValidationError as error:
            raise QueryError(error.detail) from error
        return dict(serializer.validated_data)

    def read_page(
        self, request: Request, serializer_class: type["PageQuerySerializer"] | None = None, **context: Any
    ) -> tuple[PageQuery, dict[str, Any]]:
        """Limit and cursor, and the list's other parameters (its filters)."""
        values = self.read_query(request, serializer_class or PageQuerySerializer, **context)
        text = values.pop("cursor", None)
        cursor = cursor_decode(text, scope=self._cursor_scope()) if text is not None else None
        return PageQuery(limit=values.pop("limit"), cursor=cursor), values

    def answer_page(
        self, page: Page[Any], serializer_class: type[serializers.BaseSerializer[Any]], **context: Any
    ) -> Response:
        """`{"data": […], "next_cursor": …}`."""
        next_cursor = cursor_encode(page.next, scope=self._cursor_scope()) if page.next else None
        data = serializer_class(page.rows, many=True, context=context).data
        return Response({"data": data, "next_cursor": next_cursor})

    def _cursor_scope(self) -> str:
        match = self.request.resolver_match
        return f"{match.route} {sorted(match.kwargs.items())}" if match else ""


class PageQuerySerializer(StrictSerializer):
    """Subclass with a list's filters."""

    limit = QueryNumberField(min_value=1, max_value=LIMIT_MAX, default=LIMIT_DEFAULT)
    cursor = TextField(max_length=100, required=False)
