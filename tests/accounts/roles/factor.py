"""A second factor at the seam, for tests of who is asked for one: codes are `<secret>-<n>`, each good once."""

from collections.abc import Collection
from uuid import UUID

from apps.accounts.second_factor import Offer

SECRET = "JBSWY3DPEHPK3PXP"


class Authenticators:
    """Both seams of `apps.accounts.second_factor`, in memory."""

    def __init__(self) -> None:
        self.secrets: dict[UUID, str] = {}
        self.used: set[tuple[UUID, str]] = set()
        self.asked: list[str] = []

    def enrolled(self, *, user_ids: Collection[UUID]) -> set[UUID]:
        return self.secrets.keys() & set(user_ids)

    def verify(self, *, user_id: UUID, code: str, purpose: str) -> bool:
        self.asked.append(purpose)
        right = code.startswith(f"{self.secrets.get(user_id, '?')}-") and (user_id, code) not in self.used
        if right:
            self.used.add((user_id, code))
        return right

    def offer(self, *, user_id: UUID, secret: str = "") -> Offer:
        secret = secret or SECRET
        return Offer(secret, f"otpauth://totp/Tranche?secret={secret}", "<svg></svg>")

    def confirm(self, *, user_id: UUID, secret: str, code: str) -> list[str] | None:
        if user_id in self.secrets or not code.startswith(f"{secret}-"):
            return None
        self.secrets[user_id] = secret
        return ["recovery-1", "recovery-2"]
