"""A person's events: live, and page by page."""

from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.credentials import credential_of
from apps.core.api.exceptions import QueryError
from apps.core.api.pagination import PAGE_PARAMETERS, paged
from apps.core.api.problems import ProblemError
from apps.core.api.views import ApiView
from apps.stream import frames
from apps.stream.admission import Admission, Ticket
from apps.stream.api.serializers import EventSerializer, EventsQuerySerializer, StreamQuerySerializer
from apps.stream.selectors import events_page, person_head
from apps.stream.services import RETRY_AFTER_SECONDS, stream_open

_NUMBER = {"type": "integer", "minimum": 0}
# What a stream says from its beginning to its end; a test compares it with what a stream really says.
EXAMPLE = (
    "retry: 2204\nid: 0\n\n"
    "id: 1\nevent: withdrawal_destination.added\n"
    'data: {"id":"01ba9f28-01d3-77a0-a393-589181497359","sequence":1,"topic":"withdrawal_destination.added",'
    '"occurred_at":"2026-12-01T08:00:07.512000Z",'
    '"object":{"type":"withdrawal_destination","id":"01ba9f28-00c8-71c0-a296-d6ab76c056b0"},'
    '"payload":{"label":"Cold wallet","address":"0xfb6916095ca1df60bb79ce92ce3ea74c37c5d359",'
    '"usable_at":"2026-12-02T08:00:07.512000Z"}}\n\n'
    'retry: 1876\nevent: stream.closed\ndata: {"reason":"revoked"}\n\n'
)


class StreamView(ApiView):
    """Decides whether a stream may begin; `apps.stream.service` writes it (see `apps.stream.admission`)."""

    tag = "events"
    scopes = {"GET": "events:read"}
    refusals = {421, 429}

    @extend_schema(
        operation_id="stream_read",
        summary="Your events as they happen (server-sent events)",
        parameters=[
            OpenApiParameter(
                "Last-Event-ID", _NUMBER, OpenApiParameter.HEADER, description="The last `id` that you have."
            ),
            OpenApiParameter(
                "last_event_id", _NUMBER, description="The same, for clients that cannot set the header."
            ),
        ],
        responses={
            (200, "text/event-stream"): OpenApiResponse(
                OpenApiTypes.STR,
                description="Does not end by itself. `id` is the event's sequence, `event` its topic, `data` the event"
                " as `GET /events` gives it. A block that only has an `id` says where you are; comments are heartbeats;"
                " `stream.closed` says why the stream ends.",
                examples=[OpenApiExample("From beginning to end", EXAMPLE)],
            )
        },
    )
    def get(self, request: Request) -> HttpResponse:
        """Resumes after `Last-Event-ID` without gap or repeat; without one it begins now, after your latest event.

        Served by the stream service. Another server answers 421.
        """
        place = self._place(request)
        admission: Admission | None = getattr(request._request, "admission", None)
        if admission is None:
            raise ProblemError("misdirected_request")
        if request.method == "HEAD":
            return HttpResponse(headers=frames.HEADERS)
        if admission.full:
            raise ProblemError(
                "unavailable",
                "This process has as many live streams as it takes. Try again.",
                headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
            )
        head = person_head(user_id=self.user_id)
        if place is not None and place > head:
            unknown = serializers.ErrorDetail("There is no such event of yours yet.", code="event_unknown")
            raise QueryError({"last_event_id": [unknown]})
        admission.ticket = Ticket(
            stream_open(user_id=self.user_id, process_id=admission.process_id),
            self.user_id,
            credential_of(request.auth),
            head if place is None else place,
        )
        return HttpResponse(headers=frames.HEADERS)

    def _place(self, request: Request) -> int | None:
        """The header wins: a browser that reconnects repeats its first address, with the header of the last event."""
        values = self.read_query(request, StreamQuerySerializer)
        header = request.headers.get("Last-Event-ID", "")
        if header:
            serializer = StreamQuerySerializer(data={"last_event_id": header})
            if not serializer.is_valid():
                raise QueryError(serializer.errors)
            values = serializer.validated_data
        place: int | None = values.get("last_event_id")
        return place


class EventsView(ApiView):
    tag = "events"
    scopes = {"GET": "events:read"}

    @extend_schema(
        operation_id="events_list",
        summary="Your events, the oldest first",
        responses=paged(EventSerializer),
        parameters=[
            *PAGE_PARAMETERS,
            OpenApiParameter("after", _NUMBER, description="Only events with a greater `sequence`."),
        ],
    )
    def get(self, request: Request) -> Response:
        """For clients without a stream: ask again with `after` the last `sequence` that you have."""
        query, values = self.read_page(request, EventsQuerySerializer)
        page = events_page(user_id=self.user_id, query=query, after=values["after"])
        return self.answer_page(page, EventSerializer)
