"""What sign-in knows of a person, for who asks elsewhere, and what goes when their account is closed."""

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount

from apps.accounts.closing import eraser_register
from apps.accounts.me import profile
from apps.accounts.models import User
from apps.accounts.tokens.models import EndReason
from apps.accounts.tokens.services import sessions_revoke

# Our names of allauth's kinds.
FACTOR_NAMES = {
    Authenticator.Type.TOTP: "totp",
    Authenticator.Type.WEBAUTHN: "passkey",
    Authenticator.Type.RECOVERY_CODES: "recovery_codes",
}


def facts(user: User) -> tuple[bool, tuple[str, ...]]:
    """Whether the email that the person has now was proved, and the kinds of factor that are set up. Two queries."""
    verified = EmailAddress.objects.filter(user=user, email=user.email, verified=True).exists()
    kinds = set(Authenticator.objects.filter(user=user).values_list("type", flat=True))
    return verified, tuple(name for kind, name in FACTOR_NAMES.items() if kind in kinds)


def erase(user: User) -> None:
    """Sign them out everywhere, and forget how they signed in: the email and the Google account are free again."""
    sessions_revoke(user_id=user.pk, reason=EndReason.ACCOUNT_CLOSED)
    for model in (EmailAddress, SocialAccount, Authenticator):
        model.objects.filter(user=user).delete()


eraser_register("signin", erase)
profile.facts_install(facts)
