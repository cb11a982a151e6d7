"""How a request becomes a stream: an ordinary view decides, the stream service only writes the body.

The service hands each request to Django as a web process would, with an `Admission` on it. Authentication, scopes,
limits, CORS, headers and problem documents are so the same as everywhere; the view fills in the ticket.
"""

from dataclasses import dataclass
from uuid import UUID

from apps.accounts.credentials import Credential


@dataclass(frozen=True, slots=True)
class Ticket:
    """A stream that may begin: whose, from where (the last sequence that the client has), and on what credential."""

    stream_id: UUID
    user_id: UUID
    credential: Credential
    place: int


@dataclass(slots=True)
class Admission:
    """`process_id` is the process that would serve the stream; `full` when it can take no more."""

    process_id: UUID
    full: bool = False
    ticket: Ticket | None = None
