"""For whoever is signed in: the password, the email and the Google account that they sign in with."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from allauth.headless.account.views import (
    ChangePasswordView,
    ManageEmailView,
    ResendEmailVerificationCodeView,
    VerifyEmailView,
)
from allauth.headless.socialaccount.views import ManageProvidersView, ProviderTokenView
from allauth.socialaccount.models import SocialAccount
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.models import User
from apps.accounts.signin import google
from apps.accounts.signin.api import serializers as s
from apps.accounts.signin.api.bridge import PersonView
from apps.accounts.signin.api.schema import steps
from apps.core.errors import NotFound


class PasswordView(PersonView):
    @extend_schema(
        operation_id="auth_password_change",
        summary="Change the password, or set the first one",
        request=s.PasswordChangeSerializer,
        responses={204: None},
        examples=steps("password_change"),
    )
    def post(self, request: Request) -> Response:
        """Wants a step-up. Other sessions end."""
        values = self.read(request, s.PasswordChangeSerializer)
        self.ask(ChangePasswordView, data=values, step_up=True)
        return Response(status=204)


class EmailView(PersonView):
    @extend_schema(
        operation_id="auth_email_read",
        summary="Your email, and the one that is to replace it",
        responses=s.EmailSerializer,
        examples=steps("email"),
    )
    def get(self, request: Request) -> Response:
        self.read_query(request, s.NoneSerializer)
        said = self.ask(ManageEmailView, "GET")
        return Response(_email(said.data, self.user_id))

    @extend_schema(
        operation_id="auth_email_change",
        summary="Begin to change the email",
        request=s.EmailChangeSerializer,
        responses={202: s.EmailSerializer},
        examples=steps("email_change", "email"),
    )
    def post(self, request: Request) -> Response:
        """Wants a step-up. Sends a code to the new one; nothing changes before it is confirmed."""
        values = self.read(request, s.EmailChangeSerializer)
        said = self.ask(ManageEmailView, data=values, step_up=True)
        return Response(_email(said.data, self.user_id), status=202)


class EmailConfirmView(PersonView):
    @extend_schema(
        operation_id="auth_email_confirm",
        summary="Show the code that came to the new email",
        request=s.CodeSerializer,
        responses=s.EmailSerializer,
        examples=steps("code", "email"),
    )
    def post(self, request: Request) -> Response:
        """Five tries, ten minutes. The old email is told of it."""
        values = self.read(request, s.CodeSerializer)
        self.ask(VerifyEmailView, data={"key": values["code"]})
        # What allauth answers is the person as they came.
        return Response(_email((), self.user_id))


class EmailResendView(PersonView):
    @extend_schema(
        operation_id="auth_email_resend",
        summary="Send another code to the new email",
        request=None,
        responses={204: None},
    )
    def post(self, request: Request) -> Response:
        """At most one in 30 seconds and six an hour: 429 with `Retry-After`."""
        self.read_empty(request)
        self.ask(ResendEmailVerificationCodeView)
        return Response(status=204)


def _email(addresses: Sequence[dict[str, Any]], user_id: UUID) -> dict[str, str | None]:
    """Of allauth's list what is not the person's yet. Who was made by an operator may not be in it."""
    email = User.objects.values_list("email", flat=True).get(pk=user_id)
    pending = [row["email"] for row in addresses if not row["verified"] and row["email"] != email]
    return {"email": email, "pending": pending[-1] if pending else None}


class ConnectionsView(PersonView):
    @extend_schema(
        operation_id="auth_connections_list",
        summary="With whom else you may sign in",
        responses=s.ConnectionsSerializer,
        examples=steps("connections"),
    )
    def get(self, request: Request) -> Response:
        self.read_query(request, s.NoneSerializer)
        rows = SocialAccount.objects.filter(user_id=self.user_id).order_by("provider", "pk")
        return Response(
            {"data": [{"provider": row.provider, "email": row.extra_data.get("email")} for row in rows]}
        )


class GoogleConnectionView(PersonView):
    # Without a provider.
    also = {"POST": frozenset({404}), "DELETE": frozenset({404})}

    @extend_schema(
        operation_id="auth_google_connect",
        summary="Connect Google",
        request=s.IdTokenSerializer,
        responses={204: None},
        examples=steps("id_token"),
    )
    def post(self, request: Request) -> Response:
        """Wants a step-up."""
        values = self.read(request, s.IdTokenSerializer)
        token = google.token_given(values["id_token"], values["proof"])
        data = {"provider": google.PROVIDER, "process": "connect", "token": token}
        self.ask(ProviderTokenView, data=data, before=google.token_spend(values["proof"]))
        return Response(status=204)

    @extend_schema(operation_id="auth_google_disconnect", summary="Disconnect Google", responses={204: None})
    def delete(self, request: Request) -> Response:
        """Wants a step-up, and a password to sign in with from then on."""
        row = SocialAccount.objects.filter(user_id=self.user_id, provider=google.PROVIDER).first()
        if row is None:
            raise NotFound
        self.ask(ManageProvidersView, "DELETE", data={"provider": google.PROVIDER, "account": row.uid})
        return Response(status=204)
