from apps.core.work import Work, register
from apps.notifications.digests import digests_send
from apps.notifications.models import Digest, DigestState

DIGEST_WORK: Work[Digest] = register(
    Work(
        name="notifications.digest",
        model=Digest,
        states=(DigestState.OPEN,),
        advance=digests_send,
        chunk=200,
    )
)
