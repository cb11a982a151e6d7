"""What can go wrong while parts start; each message says what to do next."""


class SandboxError(RuntimeError):
    """A part of the sandbox did not start or stop as it should; the message holds the end of its log."""


class SandboxBusyError(SandboxError):
    """Another process runs a sandbox in the same directory."""
