from typing import Any

from django.conf import settings
from rest_framework import serializers

from apps.core.api.fields import InstantField, OneOfField, TextField
from apps.core.api.serializers import StrictSerializer
from apps.launch.domain import EntryState, State
from apps.treasury.models import Activity


class SwitchesSerializer(serializers.Serializer[Any]):
    buying = serializers.BooleanField()
    withdrawing = serializers.BooleanField()
    signing_up = serializers.BooleanField()


class StatusSerializer(serializers.Serializer[Any]):
    state = serializers.ChoiceField(choices=State.choices)
    since = InstantField(allow_null=True, help_text="`null` when it has always been so.")
    message = serializers.CharField(allow_blank=True, help_text="What the operators say about it.")
    until = InstantField(allow_null=True, help_text="When it is expected to end.")
    sign_up = serializers.ChoiceField(choices=["open", "invitation", "closed"])
    waitlist = serializers.ChoiceField(choices=["open", "closed"])
    allowed = SwitchesSerializer(
        help_text="Whether each goes on as a whole; single assets may be paused beside it."
    )


class JoinSerializer(StrictSerializer):
    email = TextField(max_length=254)
    referral_code = TextField(max_length=12, required=False, default="", allow_blank=True)
    language = OneOfField(choices=settings.LANGUAGES, required=False, default="en")


class JoinedSerializer(serializers.Serializer[Any]):
    status = serializers.ChoiceField(
        choices=["code_sent"], help_text="The same whether the email was known or not."
    )
    resend_after_seconds = serializers.IntegerField()


class ProveSerializer(StrictSerializer):
    email = TextField(max_length=254)
    code = TextField(max_length=6, min_length=6)


class StandingSerializer(serializers.Serializer[Any]):
    state = serializers.ChoiceField(source="entry.state", choices=EntryState.choices)
    position = serializers.IntegerField(allow_null=True, help_text="1 is next; `null` once invited.")
    waiting = serializers.IntegerField(help_text="Everybody who waits.")
    referral_code = serializers.CharField(source="entry.referral_code")
    referrals = serializers.IntegerField(
        source="entry.referrals", help_text="People who came by your code and proved their email."
    )


class ProvedSerializer(StandingSerializer):
    ticket = serializers.CharField(
        help_text="Shows your place again (`X-Waitlist-Ticket`); seen in this answer only."
    )


SWITCHES = tuple(str(activity) for activity in Activity)
