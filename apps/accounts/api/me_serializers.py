from typing import Any

from django.conf import settings
from rest_framework import serializers

from apps.accounts.api.serializers import SCOPES
from apps.accounts.me.domain import MAIL_KINDS, ExportState
from apps.core.api.fields import FlagField, InstantField, OneOfField, TextField, TimeZoneField
from apps.core.api.schema import ProblemSerializer, code_fixed
from apps.core.api.serializers import StrictSerializer


class LimitsSerializer(serializers.Serializer[Any]):
    api_keys = serializers.IntegerField(help_text="That may be live at a time.")
    plans = serializers.IntegerField(help_text="That may be active or paused at a time.")
    withdrawal_destinations = serializers.IntegerField()


class MeSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    email = serializers.EmailField()
    email_verified = serializers.BooleanField()
    fee_tier = serializers.CharField()
    created_at = InstantField()
    roles = serializers.ListField(child=serializers.CharField(), help_text="Empty for a customer.")
    factors = serializers.ListField(
        child=serializers.CharField(), help_text="The kinds of second factor that are set up."
    )
    scopes = serializers.ListField(
        child=serializers.ChoiceField(choices=SCOPES), help_text="Of the credential that asks."
    )
    frozen_at = InstantField(
        allow_null=True, help_text="Since when nothing is bought or withdrawn; `null`: not frozen."
    )
    api_keys = serializers.IntegerField(help_text="How many are live.")
    limits = LimitsSerializer()


def _mails(**options: Any) -> dict[str, FlagField]:
    return {kind: FlagField(**options) for kind in MAIL_KINDS}


MailsSerializer = type("MailsSerializer", (serializers.Serializer,), _mails())
MailsWriteSerializer = type("MailsWriteSerializer", (StrictSerializer,), _mails(required=False))


class PreferencesSerializer(serializers.Serializer[Any]):
    language = serializers.ChoiceField(choices=settings.LANGUAGES)
    time_zone = serializers.CharField(source="zone")
    mails = MailsSerializer(help_text="Which are wanted. Codes and warnings are always sent.")
    digest = serializers.BooleanField(help_text="One mail a day about buys instead of one each.")


class PreferencesWriteSerializer(StrictSerializer):
    language = OneOfField(choices=settings.LANGUAGES, required=False)
    time_zone = TimeZoneField(source="zone", required=False)
    mails = MailsWriteSerializer(required=False)
    digest = FlagField(required=False)


class ExportSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField(source="pk")
    state = serializers.ChoiceField(choices=ExportState.choices)
    created_at = InstantField()
    ready_at = InstantField(allow_null=True)
    expires_at = InstantField(allow_null=True, help_text="When the file is deleted.")
    size_bytes = serializers.IntegerField(allow_null=True)
    sha256 = serializers.CharField(allow_blank=True, help_text="Of the file; empty until it is ready.")
    rows = serializers.DictField(child=serializers.IntegerField(), help_text="Rows of each section.")
    failed = serializers.SerializerMethodField(help_text="Whether it was given up: ask for another one.")
    download_url = serializers.SerializerMethodField(
        help_text="Good for ten minutes, for whoever has it; read the export again for a new one."
    )

    def get_failed(self, row: Any) -> bool:
        return row.buried_at is not None

    def get_download_url(self, row: Any) -> str | None:
        url: str | None = self.context["link"](row)
        return url


class CloseSerializer(StrictSerializer):
    email = TextField(max_length=254, help_text="Your email, so that nobody closes an account by mistake.")
    give_up = serializers.DictField(
        child=TextField(max_length=116),
        required=False,
        help_text="Balances too small to be withdrawn that you leave behind: asset code to the exact amount.",
    )


class ObstacleSerializer(serializers.Serializer[Any]):
    code = serializers.CharField(help_text="What is still here, such as `plans` or `balances`.")
    detail = serializers.CharField()
    count = serializers.IntegerField()


class AccountInUseProblemSerializer(ProblemSerializer):
    """A problem document (RFC 9457): what keeps an account from being closed."""

    code = code_fixed("account_in_use")
    obstacles = ObstacleSerializer(many=True)
