"""Setting up an authenticator app in the admin, for staff who have no factor yet (`second_factor.Enrolment`)."""

from uuid import UUID

from allauth.mfa.adapter import get_adapter
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal.auth import TOTP, generate_totp_secret
from django.db import transaction

from apps.accounts.audit.origin import request_current
from apps.accounts.models import User
from apps.accounts.second_factor import Offer
from apps.accounts.signin.factor import has_factor, totp_spend
from apps.accounts.signin.facts import fact, factor_values, noted, recovery_values
from apps.accounts.signin.notices import mail_queue, notice
from apps.core.qr import qr_svg


class AllauthEnrolment:
    """TOTP with recovery codes, in allauth's own rows."""

    def offer(self, *, user_id: UUID, secret: str = "") -> Offer:
        secret = secret or generate_totp_secret()
        url = get_adapter().build_totp_url(User.objects.get(pk=user_id), secret)
        return Offer(secret, url, qr_svg(url))

    def confirm(self, *, user_id: UUID, secret: str, code: str) -> list[str] | None:
        user = User.objects.get(pk=user_id)
        if has_factor(user_id):
            return None
        with transaction.atomic():
            # Stored first, so that the code which confirms it is used up with it.
            row = TOTP.activate(user, secret).instance
            if not totp_spend(row, code):
                transaction.set_rollback(True)
                return None
            # Codes of a factor that is gone open nothing any more.
            Authenticator.objects.filter(user_id=user_id, type=Authenticator.Type.RECOVERY_CODES).delete()
            codes = RecoveryCodes.activate(user).get_unused_codes()
            fact("person.factor_added", user_id, after=factor_values(row), factor="totp")
            noted("person.recovery_codes_made", user_id, before=None, after=recovery_values(user_id))
            mail_queue("factor_added", to=user.email, context={**notice(request_current()), "factor": "totp"})
        return list(codes)
