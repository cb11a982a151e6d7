"""What goes in and what comes out. The names are ours; `views` gives allauth its own."""

from typing import Any

from rest_framework import serializers

from apps.accounts.managers import email_normalise
from apps.accounts.tokens.api.serializers import TokensSerializer
from apps.core.api.fields import FlagField, InstantField, TextField
from apps.core.api.schema import ProblemSerializer, code_fixed
from apps.core.api.serializers import StrictSerializer

PASSWORD_MAX = 128
FACTOR_TYPES = ["recovery_codes", "totp", "webauthn"]
# Steps that wait to be done, proofs for a step-up, and where one may begin when nothing is under way.
FLOWS = [
    *("verify_email", "mfa_authenticate", "password_reset_by_code"),
    *("reauthenticate", "mfa_reauthenticate", "provider_reauthenticate"),
    *("login", "signup", "provider_token", "mfa_login_webauthn"),
]


class EmailField(serializers.EmailField):
    """An email, lower-case from here on."""

    default_error_messages = {"not_ascii": "Write a domain with other letters in its xn-- form."}

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(max_length=254, **kwargs)

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        if not data.isascii():
            self.fail("not_ascii")
        return email_normalise(super().to_internal_value(data))


class PasswordField(TextField):
    """Taken as it is: spaces at its ends belong to it."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(max_length=PASSWORD_MAX, trim_whitespace=False, **kwargs)


class CodeField(TextField):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(max_length=20, **kwargs)


class CredentialField(serializers.DictField):
    """`PublicKeyCredential.toJSON()`, whole: what is in it is the browser's to say and allauth's to check."""


class SignUpSerializer(StrictSerializer):
    email = EmailField()
    password = PasswordField(help_text="At least ten characters, none that was in a breach.")
    invitation = TextField(
        max_length=200, required=False, help_text="While signing up is by invitation: its token."
    )


class SignInSerializer(StrictSerializer):
    email = EmailField()
    password = PasswordField()


class CodeSerializer(StrictSerializer):
    code = CodeField()


class CredentialSerializer(StrictSerializer):
    credential = CredentialField()


class ForgotSerializer(StrictSerializer):
    email = EmailField()


class ResetSerializer(StrictSerializer):
    code = CodeField(help_text="From the mail.")
    password = PasswordField(help_text="The new one.")


class PasswordChangeSerializer(StrictSerializer):
    current_password = PasswordField(
        required=False, help_text="Left out by people who have none yet (they came with Google)."
    )
    new_password = PasswordField()


class EmailChangeSerializer(StrictSerializer):
    email = EmailField()


class StepUpSerializer(StrictSerializer):
    """One of the two: the password for people without a second factor, a code for all others."""

    password = PasswordField(required=False)
    code = CodeField(required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if len(attrs) != 1:
            raise serializers.ValidationError("Send either password or code.", code="one_of")
        return attrs


class IdTokenSerializer(StrictSerializer):
    id_token = TextField(max_length=8_000, help_text="The ID token that Google gave the frontend.")
    proof = TextField(
        max_length=200, help_text="Of `GET sign-in/google`, whose `nonce` Google was given. Good once."
    )


class GoogleSerializer(IdTokenSerializer):
    invitation = TextField(max_length=200, required=False)


class PasskeyOptionsSerializer(StrictSerializer):
    passwordless = FlagField(
        required=False,
        default=True,
        help_text="Whether it shall sign in by itself (a discoverable credential with user verification).",
    )


class PasskeyAddSerializer(StrictSerializer):
    name = TextField(max_length=100)
    credential = CredentialField()


class PasskeyRenameSerializer(StrictSerializer):
    name = TextField(max_length=100)


class UserSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    email = serializers.EmailField()


class SignedInSerializer(TokensSerializer):
    user = UserSerializer()


class FlowSerializer(serializers.Serializer[Any]):
    id = serializers.ChoiceField(choices=FLOWS, help_text="Which page to show.")
    is_pending = serializers.BooleanField(required=False)
    types = serializers.ListField(
        child=serializers.ChoiceField(choices=FACTOR_TYPES), required=False, help_text="Of factors."
    )
    providers = serializers.ListField(child=serializers.CharField(), required=False)


class OptionsSerializer(serializers.Serializer[Any]):
    options = serializers.DictField(
        help_text="For `navigator.credentials`, by `PublicKeyCredential.parse…OptionsFromJSON(options.publicKey)`."
    )


class OptionsWithTokenSerializer(OptionsSerializer):
    session_token = serializers.CharField(help_text="Send it back as `X-Session-Token`.")


class FlowsSerializer(serializers.Serializer[Any]):
    flows = FlowSerializer(many=True)


class NoneSerializer(StrictSerializer):
    """No query parameters."""


class TotpSecretSerializer(serializers.Serializer[Any]):
    secret = serializers.CharField(help_text="Base32, for typing in.")
    uri = serializers.CharField(help_text="`otpauth://…`, for a QR code.")
    qr_svg = serializers.CharField(help_text="That QR code, an SVG document.")


class RecoveryCodesSerializer(serializers.Serializer[Any]):
    recovery_codes = serializers.ListField(
        child=serializers.CharField(), help_text="Each works once. Shown in this answer and never again."
    )


class FactorsSerializer(serializers.Serializer[Any]):
    totp = serializers.BooleanField()
    passkeys = serializers.IntegerField()
    recovery_codes_left = serializers.IntegerField()


class PasskeySerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    name = serializers.CharField()
    passwordless = serializers.BooleanField(
        help_text="Whether it signs in by itself; `false` as well when the browser did not say."
    )
    created_at = InstantField()
    last_used_at = InstantField(allow_null=True)


class PasskeysSerializer(serializers.Serializer[Any]):
    data = PasskeySerializer(many=True)  # type: ignore[assignment]


class PasskeyAddedSerializer(PasskeySerializer):
    recovery_codes = serializers.ListField(
        child=serializers.CharField(),
        help_text="Filled when this is the first factor. Shown in this answer and never again.",
    )


class OneTimeCodeSerializer(serializers.Serializer[Any]):
    code = serializers.CharField(help_text="Stands in once for a code of the second factor.")
    expires_in = serializers.IntegerField(help_text="Seconds.")


class GoogleConfigSerializer(serializers.Serializer[Any]):
    client_id = serializers.CharField()
    issuer = serializers.CharField()
    nonce = serializers.CharField(help_text="Give it to Google: it comes back in the ID token.")
    proof = serializers.CharField(
        help_text="Give it to nobody else, and send it with the ID token. For one token, within an hour."
    )


class EmailSerializer(serializers.Serializer[Any]):
    email = serializers.EmailField()
    pending = serializers.EmailField(
        allow_null=True, help_text="The one that replaces it once its code is entered in the same session."
    )


class ConnectionSerializer(serializers.Serializer[Any]):
    provider = serializers.CharField()
    email = serializers.EmailField(allow_null=True)


class ConnectionsSerializer(serializers.Serializer[Any]):
    data = ConnectionSerializer(many=True)  # type: ignore[assignment]


class IncompleteProblemSerializer(ProblemSerializer):
    """A problem document (RFC 9457) that says what to do next."""

    code = code_fixed("authentication_incomplete")
    flows = FlowSerializer(many=True, help_text="What to do next: the first of them.")
    session_token = serializers.CharField(
        allow_null=True,
        help_text="Send it back as `X-Session-Token` with the next step; `null`: go on with the one you have.",
    )


class ReauthenticationProblemSerializer(ProblemSerializer):
    """A problem document (RFC 9457): show once more who you are, then send the same again (RFC 9470)."""

    code = code_fixed("reauthentication_required")
    max_age = serializers.IntegerField(help_text="Seconds that a proof is good for.")
    flows = FlowSerializer(many=True, help_text="Which proof is wanted.")


# `ApiView.problems` of a view whose writing methods want a step-up.
STEP_UP_PROBLEMS = {
    method: {401: (ReauthenticationProblemSerializer,)} for method in ("POST", "PATCH", "DELETE")
}
# Of those that hand over to allauth: its session may have ended before ours.
PERSON_PROBLEMS: dict[str, dict[int, tuple[type[ProblemSerializer], ...]]] = {
    "GET": {401: (IncompleteProblemSerializer,)},
    **{
        method: {401: (ReauthenticationProblemSerializer, IncompleteProblemSerializer)}
        for method in ("POST", "PATCH", "DELETE")
    },
}
