from typing import Any

from rest_framework import serializers

from apps.accounts.models import Session
from apps.accounts.tokens.models import Transport
from apps.core.api.answers import AnswerSerializer
from apps.core.api.fields import InstantField, OneOfField, TextField
from apps.core.api.serializers import StrictSerializer


class RefreshSerializer(StrictSerializer):
    refresh_token = TextField(
        max_length=200, required=False, help_text="Left out by browsers: theirs is in the cookie."
    )


class TokensSerializer(serializers.Serializer[Any]):
    access_token = serializers.CharField(help_text="A JWT; sent as a bearer token.")
    token_type = serializers.ChoiceField(choices=["Bearer"])
    expires_in = serializers.IntegerField(help_text="Seconds that the access token is good for.")
    refresh_token = serializers.CharField(
        allow_null=True, help_text="Good for one refresh. `null` with the transport `cookie`."
    )
    refresh_expires_in = serializers.IntegerField(help_text="Seconds that the refresh token is good for.")
    csrf_token = serializers.CharField(
        allow_null=True,
        help_text="With the transport `cookie`: what the next refresh sends as X-CSRF-Token. `null` otherwise.",
    )
    session_id = serializers.UUIDField()


class SessionSerializer(AnswerSerializer[Session]):
    id = serializers.UUIDField()
    device = serializers.CharField(help_text="The user agent.")
    address = serializers.IPAddressField(allow_null=True, help_text="Of the sign-in or the last refresh.")
    transport = serializers.ChoiceField(choices=Transport.choices)
    factors = serializers.ListField(
        child=serializers.CharField(),
        help_text="How you showed who you are: `password`, `totp`, `webauthn` …",
    )
    created_at = InstantField()
    authenticated_at = InstantField(help_text="When you last showed it.")
    last_used_at = InstantField(help_text="To the minute.")
    expires_at = InstantField()
    current = serializers.SerializerMethodField(help_text="Whether it is the session that asks.")

    def get_current(self, session: Session) -> bool:
        return bool(session.pk == self.context.get("current"))


class SignOutAllSerializer(StrictSerializer):
    keep = OneOfField(choices=["current"], required=False)
