"""Signing up, in, and back in: the steps that need no access token."""

from allauth.headless.account.views import (
    LoginView,
    RequestPasswordResetView,
    ResendEmailVerificationCodeView,
    ResetPasswordView,
    SessionView,
    VerifyEmailView,
)
from allauth.headless.mfa.views import AuthenticateWebAuthnView, LoginWebAuthnView
from allauth.headless.socialaccount.views import ProviderTokenView
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts import signup_gate
from apps.accounts.signin import google
from apps.accounts.signin.api import serializers as s
from apps.accounts.signin.api.bridge import SECRET, SignInView, problem_of
from apps.accounts.signin.api.flows import SignInFactor, SignUp
from apps.accounts.signin.api.schema import NEXT, SESSION_TOKEN, TRANSPORT, steps


class SignUpView(SignInView):
    @extend_schema(
        operation_id="auth_sign_up",
        summary="Sign up",
        request=s.SignUpSerializer,
        responses=NEXT,
        examples=steps("sign_up"),
    )
    def post(self, request: Request) -> Response:
        """Always answered with `verify_email`, also for an email that is known: its owner is told by mail."""
        values = self.read(request, s.SignUpSerializer)
        invitation = values.pop("invitation", "")
        signup_gate.current().check(email=values["email"], invitation=invitation)
        request._request.invitation = invitation  # type: ignore[attr-defined]
        return self.signed_in(self.ask(SignUp, data=values))


class VerifyView(SignInView):
    @extend_schema(
        operation_id="auth_verify",
        summary="Show the code that came by mail",
        request=s.CodeSerializer,
        responses={200: s.SignedInSerializer, **NEXT},
        parameters=[SESSION_TOKEN, TRANSPORT],
        examples=steps("code", "signed_in"),
    )
    def post(self, request: Request) -> Response:
        """Five tries, ten minutes; then sign in again for a new code."""
        values = self.read(request, s.CodeSerializer)
        return self.signed_in(self.ask(VerifyEmailView, data={"key": values["code"]}))


class ResendView(SignInView):
    @extend_schema(
        operation_id="auth_verify_resend",
        summary="Send another code",
        request=None,
        responses={204: None},
        parameters=[SESSION_TOKEN],
    )
    def post(self, request: Request) -> Response:
        """The one before is worthless then. At most one in 30 seconds and six an hour: 429 with `Retry-After`."""
        self.read_empty(request)
        self.ask(ResendEmailVerificationCodeView)
        return Response(status=204)


class PasswordSignInView(SignInView):
    @extend_schema(
        operation_id="auth_sign_in",
        summary="Sign in with email and password",
        request=s.SignInSerializer,
        responses={200: s.SignedInSerializer, **NEXT},
        parameters=[TRANSPORT],
        examples=steps("sign_in", "signed_in"),
    )
    def post(self, request: Request) -> Response:
        """An unknown email and a wrong password are one answer. Five lock this email from this address (429)."""
        return self.signed_in(self.ask(LoginView, data=self.read(request, s.SignInSerializer)))


class FactorView(SignInView):
    @extend_schema(
        operation_id="auth_sign_in_factor",
        summary="Show the second factor: a code",
        request=s.CodeSerializer,
        responses={200: s.SignedInSerializer, **NEXT},
        parameters=[SESSION_TOKEN, TRANSPORT],
        examples=steps("code", "signed_in"),
    )
    def post(self, request: Request) -> Response:
        """Of the authenticator app, or a recovery code. A code works once."""
        return self.signed_in(self.ask(SignInFactor, data=self.read(request, s.CodeSerializer)))


class FactorPasskeyOptionsView(SignInView):
    @extend_schema(
        operation_id="auth_sign_in_factor_passkey_options",
        summary="Begin to show the second factor: a passkey",
        request=None,
        responses={200: s.OptionsSerializer, **NEXT},
        parameters=[SESSION_TOKEN],
        examples=steps("request_options"),
    )
    def post(self, request: Request) -> Response:
        self.read_empty(request)
        said = self.ask(AuthenticateWebAuthnView, "GET")
        return Response({"options": said.data["request_options"]})


class FactorPasskeyView(SignInView):
    @extend_schema(
        operation_id="auth_sign_in_factor_passkey",
        summary="Show the second factor: a passkey",
        request=s.CredentialSerializer,
        responses={200: s.SignedInSerializer, **NEXT},
        parameters=[SESSION_TOKEN, TRANSPORT],
        examples=steps("assertion", "signed_in"),
    )
    def post(self, request: Request) -> Response:
        values = self.read(request, s.CredentialSerializer)
        return self.signed_in(self.ask_passkey(AuthenticateWebAuthnView, data=values))


class PasskeyOptionsView(SignInView):
    @extend_schema(
        operation_id="auth_sign_in_passkey_options",
        summary="Begin to sign in with a passkey alone",
        request=None,
        responses={200: s.OptionsWithTokenSerializer},
        examples=steps("request_options_with_token"),
    )
    def post(self, request: Request) -> Response:
        """Says nothing of who has one. Send the session token on with the passkey's answer."""
        self.read_empty(request)
        said = self.ask(LoginWebAuthnView, "GET")
        body = {"options": said.data["request_options"], "session_token": said.meta["session_token"]}
        return Response(body, headers=SECRET)


class PasskeySignInView(SignInView):
    @extend_schema(
        operation_id="auth_sign_in_passkey",
        summary="Sign in with a passkey alone",
        request=s.CredentialSerializer,
        responses={200: s.SignedInSerializer, **NEXT},
        parameters=[SESSION_TOKEN, TRANSPORT],
        examples=steps("assertion", "signed_in"),
    )
    def post(self, request: Request) -> Response:
        """Counts as both factors: the authenticator has verified its holder."""
        values = self.read(request, s.CredentialSerializer)
        return self.signed_in(self.ask_passkey(LoginWebAuthnView, data=values))


class GoogleView(SignInView):
    # Without a provider.
    also = {"GET": frozenset({404}), "POST": frozenset({404})}

    @extend_schema(
        operation_id="auth_google_read",
        summary="What the frontend tells Google",
        responses=s.GoogleConfigSerializer,
        examples=steps("google_config"),
    )
    def get(self, request: Request) -> Response:
        """Anew for each token: the nonce is good once. 404 where the platform has no sign-in with Google."""
        self.read_query(request, s.NoneSerializer)
        provider = google.provider()
        proof = google.proof_make()
        body = {"client_id": provider.client_id, "issuer": provider.issuer}
        body |= {"nonce": google.nonce_of(proof), "proof": proof}
        return Response(body, headers=SECRET)

    @extend_schema(
        operation_id="auth_google",
        summary="Sign up or in with Google",
        request=s.GoogleSerializer,
        responses={200: s.SignedInSerializer, **NEXT},
        parameters=[TRANSPORT],
        examples=steps("google", "signed_in"),
    )
    def post(self, request: Request) -> Response:
        """Whoever has an account with that email already signs in as before, and connects Google from there."""
        values = self.read(request, s.GoogleSerializer)
        token = google.token_given(values["id_token"], values["proof"])
        request._request.invitation = values.get("invitation", "")  # type: ignore[attr-defined]
        data = {"provider": google.PROVIDER, "process": "login", "token": token}
        return self.signed_in(
            self.ask(ProviderTokenView, data=data, before=google.token_spend(values["proof"]))
        )


class ForgotView(SignInView):
    @extend_schema(
        operation_id="auth_password_forgot",
        summary="Ask for a code to set a new password",
        request=s.ForgotSerializer,
        responses=NEXT,
        examples=steps("forgot"),
    )
    def post(self, request: Request) -> Response:
        """The same answer for every email, known or not, and to each a mail. One in 30 seconds, six an hour."""
        values = self.read(request, s.ForgotSerializer)
        raise problem_of(self.ask(RequestPasswordResetView, data=values, fine=(401,)))


class ResetView(SignInView):
    @extend_schema(
        operation_id="auth_password_reset",
        summary="Set a new password with the code",
        request=s.ResetSerializer,
        responses={204: None},
        parameters=[SESSION_TOKEN],
        examples=steps("reset"),
    )
    def post(self, request: Request) -> Response:
        """Five tries, ten minutes. Nobody is signed in by it: sign in with the new password next."""
        values = self.read(request, s.ResetSerializer)
        # allauth answers 401 where it is done: nobody is signed in.
        self.ask(
            ResetPasswordView, data={"key": values["code"], "password": values["password"]}, fine=(200, 401)
        )
        return Response(status=204)


class FlowView(SignInView):
    @extend_schema(
        operation_id="auth_flow_read",
        summary="Which steps wait to be done",
        responses={200: s.FlowsSerializer},
        parameters=[SESSION_TOKEN],
        examples=steps("flows"),
    )
    def get(self, request: Request) -> Response:
        self.read_query(request, s.NoneSerializer)
        said = self.ask(SessionView, "GET", fine=(401,))
        return Response({"flows": [flow for flow in said.data["flows"] if flow.get("is_pending")]})

    @extend_schema(
        operation_id="auth_flow_abandon",
        summary="Leave a sign-in that is under way",
        responses={204: None},
        parameters=[SESSION_TOKEN],
    )
    def delete(self, request: Request) -> Response:
        """Its session token is worthless then."""
        self.ask(SessionView, "DELETE", fine=(401,))
        return Response(status=204)
