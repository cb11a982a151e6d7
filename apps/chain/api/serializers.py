"""What anybody with a key may know about networks and their tokens: public facts only."""

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from apps.chain.abi import checksum
from apps.chain.models import Network, Token

NETWORK_STATUSES = ["running", "halted"]


class TokenSerializer(serializers.Serializer[Token]):
    asset = serializers.CharField(source="asset.code", help_text="The asset's code.")
    name = serializers.CharField(source="asset.name")
    decimals = serializers.IntegerField()
    address = serializers.SerializerMethodField(help_text="The contract, with its EIP-55 checksum.")

    def get_address(self, token: Token) -> str:
        return checksum(token.address)


class NetworkSerializer(serializers.Serializer[Network]):
    id = serializers.UUIDField()
    name = serializers.CharField()
    chain_id = serializers.IntegerField()
    native_asset = serializers.CharField(source="native_asset.code")
    confirmations = serializers.IntegerField(
        help_text="Depth at which a transaction is final; the tip counts as 1."
    )
    block_time_seconds = serializers.IntegerField()
    explorer_url = serializers.CharField(allow_blank=True)
    status = serializers.SerializerMethodField()
    tokens = TokenSerializer(many=True)

    @extend_schema_field(serializers.ChoiceField(choices=NETWORK_STATUSES))
    def get_status(self, network: Network) -> str:
        """`running`, or `halted` while an operator looks into it."""
        return "halted" if network.halted_at else "running"


class NetworksSerializer(serializers.Serializer[Any]):
    data = NetworkSerializer(many=True)  # type: ignore[assignment]
