"""The base of every API view, and the pages that show the API's own documentation."""

from collections.abc import Mapping
from typing import Any, ClassVar, cast
from uuid import UUID

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import BaseThrottle
from rest_framework.views import APIView

from apps.core.api.exceptions import QueryError
from apps.core.api.fields import QueryNumberField, TextField
from apps.core.api.pagination import LIMIT_DEFAULT, LIMIT_MAX, Page, PageQuery, cursor_decode, cursor_encode
from apps.core.api.serializers import StrictSerializer

_HANDLERS = ("get", "post", "put", "patch", "delete")
_WITH_BODY = ("POST", "PUT", "PATCH")


class ApiView(APIView):
    """One resource (or one action on it).

    `scopes` says for each method what an API key must hold (`None`: any valid key).

    A method without an entry is refused when the class is made, so that nothing is open by oversight;
    `public` views take no key. `throttles` limits methods. A view calls one service or selector and says how
    its result looks.
    """

    # No OPTIONS: what can be done stands in the OpenAPI document; CORS preflights end in their middleware.
    http_method_names = [*_HANDLERS, "head"]
    scopes: ClassVar[Mapping[str, str | None]] = {}
    public: ClassVar[bool] = False
    throttles: ClassVar[Mapping[str, type[BaseThrottle]]] = {}
    tag: ClassVar[str] = ""

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

    def get_throttles(self) -> list[BaseThrottle]:
        throttle = self.throttles.get(str(self.request.method))
        return [throttle()] if throttle else []

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        # Even where a method looks at no body, one that cannot be read is refused, not ignored.
        if request.method in _WITH_BODY and hasattr(self, request.method.lower()):
            _ = request.data

    def read(
        self, request: Request, serializer_class: type[StrictSerializer], **context: Any
    ) -> dict[str, Any]:
        """The validated body; raises `ValidationError`, answered as 400 with pointers."""
        serializer = serializer_class(data=request.data, context={"request": request, **context})
        serializer.is_valid(raise_exception=True)
        return dict(serializer.validated_data)

    def read_empty(self, request: Request) -> None:
        """For actions without a body: nothing, or an empty object."""
        if request.data:
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
