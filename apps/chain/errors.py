"""What can go wrong between us and a chain. Messages never hold an URL, a key or a signed transaction."""

from apps.core.errors import Retryable, Terminal


class RpcUnavailable(Retryable):
    """No endpoint gave an answer. For a broadcast this means: in doubt."""


class EndpointFailure(Exception):
    """One endpoint failed in transport: time-out, refused, HTTP error, garbage. Another may do better.

    `in_doubt` is True when the request may have reached the node.
    """

    def __init__(self, message: str, *, in_doubt: bool = True, after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.in_doubt = in_doubt
        self.after_seconds = after_seconds


class RpcError(Exception):
    """The node answered with a JSON-RPC error (shortened; nodes repeat what they were sent)."""

    def __init__(self, code: int, message: str, data: bytes = b"") -> None:
        super().__init__(f"rpc error {code}: {message[:200]}")
        self.code = code
        self.message = message[:200]
        self.data = data


class AnswerTooLarge(Exception):
    """Too much was asked for in one question; `blocks` is the range that the node suggests, or 0. Not its fault."""

    def __init__(self, message: str, *, blocks: int = 0) -> None:
        super().__init__(message)
        self.blocks = blocks


class BlockUnknown(Exception):
    """An endpoint does not have (or no longer has) a block that we hold: behind, on a fork, or pruned.

    Unknown is not absent, and no failure either: another endpoint is asked, or the same one later.
    """


class EndpointsDisagree(Retryable):
    """Two endpoints tell different histories: nothing is concluded from either."""


class SignerRefused(Terminal):
    """The signer's own rules forbid this transaction."""


class DerivationError(Exception):
    """An extended key or an index is not usable. Says nothing about the key."""


class NetworkHalted(Retryable):
    """An operator must look at the network before anything more is signed or concluded."""
