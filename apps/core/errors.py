"""Three kinds of failure, told apart by type: try again, give up, or tell the caller what was wrong."""


class Retryable(Exception):
    """The same work may succeed later: a node that timed out, a lock that was busy."""

    def __init__(self, message: str, *, after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.after_seconds = after_seconds


class Terminal(Exception):
    """Trying again cannot help: the work is buried at once and shown to an operator."""


class DomainError(Exception):
    """A request that the rules refuse. The API answers it as a problem document.

    `code` is machine-readable and stable; `pointer` is a JSON Pointer into the request body (RFC 6901);
    `status` is the HTTP status that fits.
    """

    def __init__(self, code: str, detail: str, *, pointer: str = "", status: int = 400) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.pointer = pointer
        self.status = status


class NotFound(DomainError):
    """Nothing of that id, or nothing that is the caller's to see: the two are not told apart."""

    def __init__(self, detail: str = "Not found.") -> None:
        super().__init__("not_found", detail, status=404)


class Conflict(DomainError):
    """The resource is in a state that does not allow this."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(code, detail, status=409)
