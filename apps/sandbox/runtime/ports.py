"""Free loopback ports that stay free until their server binds them."""

import random
import socket
from pathlib import Path

HOST = "127.0.0.1"
_LOWEST = 15_000
_EPHEMERAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_random = random.SystemRandom()


def port_is_free(port: int) -> bool:
    """Whether a server could listen on the loopback port right now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def port_pick() -> int:
    """A port that is free now, chosen at random below the range the kernel gives to outgoing connections.

    Inside that range a client that reconnects to a stopped server may be given the server's own port,
    connect to itself, and keep the server from coming back. Two sandboxes may still pick the same port
    between this check and their bind: whoever loses sees its server exit and picks again.
    """
    for _ in range(200):
        port = _random.randrange(_LOWEST, _ephemeral_start())
        if port_is_free(port):
            return port
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _ephemeral_start() -> int:
    try:
        start = int(_EPHEMERAL_RANGE.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return 32_768
    return start if start > _LOWEST + 1_000 else 32_768
