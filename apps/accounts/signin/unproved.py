"""People who signed up and never proved their email: after a week they are gone, and may sign up anew."""

from datetime import timedelta

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount
from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet

from apps.accounts import signup_gate
from apps.accounts.audit import audit_record
from apps.accounts.models import ApiKey, Session, User
from apps.core import clock
from apps.events.models import Event

KEPT = timedelta(days=7)


def unproved_purge(*, limit: int = 500) -> int:
    """Delete up to `limit` people who signed up `KEPT` ago, never proved an email, and so never got in; how many.

    What was told of them stays in the event log and the audit log, under an id that is nobody's. Who was made by
    somebody else (an operator, a command) is theirs to judge. Rows that somebody holds are left for the next run.
    """
    with transaction.atomic():
        # In the order in which a proof takes them: the email's row, then the person's.
        unproved = EmailAddress.objects.select_for_update(skip_locked=True, of=("self",)).filter(
            verified=False, user__created_at__lte=clock.now() - KEPT
        )
        ids = set(_never_in(unproved).values_list("user_id", flat=True)[:limit])
        people = User.objects.select_for_update(skip_locked=True).filter(pk__in=ids).order_by("pk")
        ids = {user.pk for user in people}
        signup_gate.current().given_back(user_ids=ids)
        for user_id in sorted(ids):
            audit_record(
                actor=None,
                action="person.deleted",
                target_type="user",
                target_id=user_id,
                before={"email_verified": False},
                after=None,
            )
        User.objects.filter(pk__in=ids).delete()
    return len(ids)


def _never_in(unproved: QuerySet[EmailAddress]) -> QuerySet[EmailAddress]:
    """Of people who signed up by themselves, and have nothing but that email."""
    whose = OuterRef("user_id")
    held = (Session, ApiKey, SocialAccount, Authenticator)
    signed_up = Event.objects.filter(subject_type="person", subject_id=whose, topic="person.signed_up")
    return unproved.filter(
        Exists(signed_up),
        ~Exists(EmailAddress.objects.filter(user_id=whose, verified=True)),
        *(~Exists(model.objects.filter(user_id=whose)) for model in held),
        user__is_staff=False,
        user__is_superuser=False,
    )
