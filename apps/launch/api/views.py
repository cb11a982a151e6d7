"""The platform's state for anybody, and the waitlist."""

from drf_spectacular.utils import OpenApiExample, OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.core.api.views import ApiView
from apps.launch import waitlist
from apps.launch.api.serializers import (
    SWITCHES,
    JoinedSerializer,
    JoinSerializer,
    ProvedSerializer,
    ProveSerializer,
    StandingSerializer,
    StatusSerializer,
)
from apps.launch.domain import RouteClass
from apps.launch.states import platform_now

_TICKET = "X-Waitlist-Ticket"
_STANDING = {"state": "waiting", "position": 17, "waiting": 240, "referral_code": "K7RT2MQH", "referrals": 2}
_TICKET_PARAMETER = OpenApiParameter(
    _TICKET, str, OpenApiParameter.HEADER, required=True, description="From the answer to the code."
)


class StatusView(ApiView):
    public = True
    tag = "operations"

    @extend_schema(
        operation_id="platform_status",
        summary="Is the platform open?",
        responses=StatusSerializer,
        examples=[
            OpenApiExample(
                "Maintenance",
                {
                    "state": "maintenance",
                    "since": "2026-11-21T09:00:00Z",
                    "message": "We are back in ten minutes.",
                    "until": "2026-11-21T09:10:00Z",
                    "sign_up": "closed",
                    "waitlist": "closed",
                    "allowed": {"buying": True, "withdrawing": True, "signing_up": True},
                },
                response_only=True,
            )
        ],
    )
    def get(self, request: Request) -> Response:
        """Answers in every state, from PostgreSQL alone; may be cached for a second."""
        del request
        platform = platform_now()
        open_ = platform.answers(RouteClass.WAITLIST)
        body = {
            "state": platform.state,
            "since": platform.since,
            "message": platform.message,
            "until": platform.until,
            "sign_up": platform.sign_up,
            "waitlist": "open" if open_ else "closed",
            "allowed": {name: name not in platform.stopped for name in SWITCHES},
        }
        return Response(StatusSerializer(body).data, headers={"Cache-Control": "public, max-age=1"})


class WaitlistView(ApiView):
    public = True
    tag = "waitlist"

    @extend_schema(
        operation_id="waitlist_join",
        summary="Join the waitlist",
        request=JoinSerializer,
        responses={202: JoinedSerializer},
        examples=[
            OpenApiExample(
                "With a friend's code",
                {"email": "ada@example.org", "referral_code": "K7RT2MQH"},
                request_only=True,
            ),
            OpenApiExample(
                "Whoever it is", {"status": "code_sent", "resend_after_seconds": 60}, response_only=True
            ),
        ],
    )
    def post(self, request: Request) -> Response:
        """A code of six digits is mailed, good for ten minutes and five tries; asking again within a minute sends none,
        and from the sixth on the pause doubles, up to an hour. The answer is the same for any email, so that nobody
        learns who is here."""
        waitlist.entry_join(**self.read(request, JoinSerializer))
        seconds = int(waitlist.RESEND_PAUSE.total_seconds())
        return Response({"status": "code_sent", "resend_after_seconds": seconds}, status=202)


class WaitlistConfirmView(ApiView):
    public = True
    tag = "waitlist"

    @extend_schema(
        operation_id="waitlist_confirm",
        summary="Prove the email, and take a place",
        request=ProveSerializer,
        responses=ProvedSerializer,
        examples=[
            OpenApiExample("The code", {"email": "ada@example.org", "code": "204815"}, request_only=True),
            OpenApiExample("A place", {**_STANDING, "ticket": "…"}, response_only=True),
        ],
    )
    def post(self, request: Request) -> Response:
        """Each friend who proves an email that joined with your referral code moves you one place up."""
        proved = waitlist.entry_prove(**self.read(request, ProveSerializer))
        body = {**StandingSerializer(proved.standing).data, "ticket": proved.ticket}
        return Response(body, headers={"Cache-Control": "no-store"})


class WaitlistPositionView(ApiView):
    public = True
    tag = "waitlist"
    # An unknown ticket, and a waitlist that is closed.
    also = {"GET": frozenset({404, 409}), "DELETE": frozenset({404})}

    @extend_schema(
        operation_id="waitlist_position",
        summary="Where you stand",
        parameters=[_TICKET_PARAMETER],
        responses=StandingSerializer,
        examples=[OpenApiExample("Waiting", _STANDING, response_only=True)],
    )
    def get(self, request: Request) -> Response:
        standing = waitlist.standing_read(ticket=request.headers.get(_TICKET, ""))
        return Response(StandingSerializer(standing).data, headers={"Cache-Control": "no-store"})

    @extend_schema(
        operation_id="waitlist_leave",
        summary="Leave the waitlist",
        parameters=[_TICKET_PARAMETER],
        responses={204: None},
    )
    def delete(self, request: Request) -> Response:
        """Your email is deleted here."""
        waitlist.entry_leave(ticket=request.headers.get(_TICKET, ""))
        return Response(status=204)
