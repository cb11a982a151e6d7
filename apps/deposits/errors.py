"""What is refused about deposits, and how the API says it."""

from apps.core.errors import DomainError


class DepositsUnavailable(DomainError):
    """This installation has no extended public key to make addresses from."""

    def __init__(self) -> None:
        super().__init__("deposits_unavailable", "Deposits are not set up here.", status=503)
