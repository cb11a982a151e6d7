"""For whoever is signed in: showing again that it is them."""

from allauth.headless.account.views import ReauthenticateView
from allauth.headless.mfa.views import ReauthenticateWebAuthnView
from django.http import HttpRequest
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.signin import factor, google
from apps.accounts.signin.api import serializers as s
from apps.accounts.signin.api.bridge import SECRET, PersonView
from apps.accounts.signin.api.flows import StepUpFactor, StepUpGoogle
from apps.accounts.signin.api.schema import steps
from apps.core.api.problems import ProblemError


class StepUpView(PersonView):
    @extend_schema(
        operation_id="auth_step_up",
        summary="Show again that it is you",
        request=s.StepUpSerializer,
        responses={204: None},
        examples=steps("step_up"),
    )
    def post(self, request: Request) -> Response:
        """For five minutes this session may do what wants a step-up. Whoever has a second factor shows that."""
        values = self.read(request, s.StepUpSerializer)
        if "code" in values:
            self.ask(StepUpFactor, data=values)
        elif factor.has_factor(self.user_id):
            raise ProblemError("second_factor_required")
        else:
            self.ask(ReauthenticateView, data=values)
        return Response(status=204)


class StepUpPasskeyOptionsView(PersonView):
    @extend_schema(
        operation_id="auth_step_up_passkey_options",
        summary="Begin to show a passkey",
        request=None,
        responses=s.OptionsSerializer,
        examples=steps("request_options"),
    )
    def post(self, request: Request) -> Response:
        self.read_empty(request)
        said = self.ask(ReauthenticateWebAuthnView, "GET")
        return Response({"options": said.data["request_options"]})


class StepUpPasskeyView(PersonView):
    @extend_schema(
        operation_id="auth_step_up_passkey",
        summary="Show a passkey",
        request=s.CredentialSerializer,
        responses=s.OneTimeCodeSerializer,
        examples=steps("assertion", "one_time_code"),
    )
    def post(self, request: Request) -> Response:
        """Steps up, and gives a code that may confirm one withdrawal in place of one from an authenticator app."""
        values = self.read(request, s.CredentialSerializer)
        made: list[str] = []

        def after(_: HttpRequest) -> None:
            made.append(factor.passkey_code_make(user_id=self.user_id))

        self.ask_passkey(ReauthenticateWebAuthnView, data=values, after=after)
        return Response({"code": made[0], "expires_in": factor.PASSKEY_CODE_SECONDS}, headers=SECRET)


class StepUpGoogleView(PersonView):
    # Without a provider.
    also = {"POST": frozenset({404})}

    @extend_schema(
        operation_id="auth_step_up_google",
        summary="Show again that it is you, with Google",
        request=s.IdTokenSerializer,
        responses={204: None},
        examples=steps("id_token"),
    )
    def post(self, request: Request) -> Response:
        """For people without a second factor: a token that was not used before, of the account that they connected."""
        values = self.read(request, s.IdTokenSerializer)
        if factor.has_factor(self.user_id):
            raise ProblemError("second_factor_required")
        token = google.token_given(values["id_token"], values["proof"])
        data = {"provider": google.PROVIDER, "process": "login", "token": token}
        self.ask(StepUpGoogle, data=data, before=google.token_spend(values["proof"]))
        return Response(status=204)
