"""allauth's headless views where the house is stricter than they are; each says why."""

from typing import Any

from allauth.account.adapter import get_adapter as get_account_adapter
from allauth.account.internal.flows.login import record_authentication
from allauth.headless.account.inputs import SignupInput
from allauth.headless.account.views import SignupView
from allauth.headless.base.response import AuthenticationResponse
from allauth.headless.internal.restkit.inputs import Input
from allauth.headless.mfa.views import AuthenticateView, ReauthenticateView
from allauth.headless.socialaccount.views import ProviderTokenView
from allauth.mfa.adapter import get_adapter
from allauth.mfa.base.forms import AuthenticateForm, BaseAuthenticateForm, ReauthenticateForm
from allauth.mfa.base.internal.flows import check_rate_limit
from allauth.mfa.models import Authenticator
from django.contrib.auth.hashers import make_password
from django.db import IntegrityError, transaction
from django.http import HttpRequest, HttpResponse

from apps.accounts.models import User
from apps.accounts.signin.factor import code_spend
from apps.core.api.problems import ProblemError


class SignUpInput(SignupInput):  # type: ignore[misc]
    """Takes as long for an email that is known, and knows one that two people sign up with at once."""

    account_already_exists: bool

    def clean_password(self) -> str:
        # allauth compares the password with nobody: there is no person yet.
        nobody = User(email=str(self.data.get("email", "")))
        return str(get_account_adapter().clean_password(self.cleaned_data["password"], user=nobody))

    def try_save(self, request: HttpRequest) -> Any:
        if self.account_already_exists:
            # What a new person's password costs.
            make_password(self.cleaned_data["password"])
            return super().try_save(request)
        try:
            with transaction.atomic():
                user, answer = super().try_save(request)
        except IntegrityError:
            self.account_already_exists = True
            return super().try_save(request)
        # Whoever has just chosen the password has shown it: no step-up right after the sign-up.
        record_authentication(request, user, method="password", email=user.email)
        return user, answer


class SignUp(SignupView):  # type: ignore[misc]
    input_class = {"POST": SignUpInput}


class OnceOnly(BaseAuthenticateForm):  # type: ignore[misc]
    """A code is used up in PostgreSQL, and with it all before it; allauth remembers it in the cache for one step."""

    def clean_code(self) -> str:
        clear = check_rate_limit(self.user)
        code: str = self.cleaned_data["code"]
        found = code_spend(user_id=self.user.pk, code=code)
        if found is None:
            main = Authenticator.objects.filter(user=self.user).order_by("-type").first()
            if main is not None:
                self._emit_authentication_failed(main)
            raise get_adapter().validation_error("incorrect_code")
        found.user = self.user
        self.authenticator = found
        clear()
        return code


class FactorInput(OnceOnly, AuthenticateForm, Input):  # type: ignore[misc]
    pass


class StepUpInput(OnceOnly, ReauthenticateForm, Input):  # type: ignore[misc]
    pass


class SignInFactor(AuthenticateView):  # type: ignore[misc]
    input_class = FactorInput


class StepUpFactor(ReauthenticateView):  # type: ignore[misc]
    input_class = StepUpInput


class StepUpGoogle(ProviderTokenView):  # type: ignore[misc]
    """allauth steps up by password and factor; whoever has neither shows the account that they sign in with."""

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        login = self.input.cleaned_data["sociallogin"]
        login.lookup()
        if not login.is_existing or login.user.pk != request.user.pk:
            raise ProblemError("token_refused")
        record_authentication(
            request,
            request.user,
            "socialaccount",
            provider=login.account.provider,
            uid=login.account.uid,
            reauthenticated=True,
        )
        answer: HttpResponse = AuthenticationResponse(request)
        return answer
