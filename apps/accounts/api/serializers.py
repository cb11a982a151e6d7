from typing import Any

from rest_framework import serializers

from apps.accounts.domain import Scope
from apps.accounts.services import NETWORKS_MAX
from apps.core.api.fields import InstantField, OneOfField, TextField
from apps.core.api.serializers import StrictSerializer

SCOPES = [scope.value for scope in Scope]


class ApiKeyCreateSerializer(StrictSerializer):
    name = TextField(max_length=80)
    scopes = serializers.ListField(child=OneOfField(choices=SCOPES), min_length=1, max_length=len(SCOPES))
    expires_at = InstantField(required=False, allow_null=True, default=None)
    networks = serializers.ListField(
        child=TextField(max_length=43),
        required=False,
        max_length=NETWORKS_MAX,
        default=list,
        help_text="From where the key may be used: addresses or CIDR, IPv4 and IPv6. Empty: from anywhere.",
    )


class ApiKeySerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    name = serializers.CharField()
    prefix = serializers.CharField(help_text="The part of the key that may be shown.")
    scopes = serializers.ListField(child=serializers.ChoiceField(choices=SCOPES))
    networks = serializers.ListField(
        child=serializers.CharField(), help_text="From where the key may be used; empty: from anywhere."
    )
    created_at = InstantField()
    last_used_at = InstantField(allow_null=True, help_text="To the minute.")
    expires_at = InstantField(allow_null=True)
    revoked_at = InstantField(allow_null=True)


class ApiKeyCreatedSerializer(ApiKeySerializer):
    key = serializers.CharField(
        allow_null=True,
        help_text="The key itself: shown in this answer only, `null` when the answer is replayed.",
    )
