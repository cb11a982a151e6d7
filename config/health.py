"""Is this container's process doing its work? `python -m config.health [ROLE]` exits 0 or says why not.

Made for Docker's HEALTHCHECK, so it must be cheap: no Django, no broker, a few dozen milliseconds.

- web, stream and flower answer over HTTP, so they are asked. The path of the first two is the live one, which says
  nothing of PostgreSQL: restarting processes heals no database.
- worker, background, signer and beat have no port. They touch a file, and one that is not touched is a process that
  hangs or has lost its broker. No timer of its own touches it, which would go on in a process that is stuck:
  a worker does so when its main loop sends a heartbeat to the broker, beat at the end of each tick, whether it
  leads or stands by.
"""

import http.client
import sys
import time
from pathlib import Path
from typing import Any

from config import env

# A worker's heart beats every 2 s, beat ticks every second; a minute allows for a restart of Redis.
STALE_AFTER_SECONDS = 60
HTTP_TIMEOUT_SECONDS = 3
HTTP_ROLES = ("web", "stream", "flower")
FILE_ROLES = ("worker", "background", "signer", "beat")
WEB_PATH = "/api/v1/health"
FLOWER_PATH = "/healthcheck"


def connect() -> None:
    """Have this process's Celery worker or beat touch the heartbeat file. A no-op without HEARTBEAT_DIR."""
    if not env.text("HEARTBEAT_DIR", default=""):
        return
    from celery import signals

    def touch(**_: Any) -> None:
        heartbeat_file().touch()

    def watch_ticks(sender: Any, **_: Any) -> None:
        # Celery has no signal for a tick.
        tick = sender.scheduler.tick

        def watched(*args: Any, **kwargs: Any) -> Any:
            delay = tick(*args, **kwargs)
            touch()
            return delay

        sender.scheduler.tick = watched

    signals.heartbeat_sent.connect(touch, weak=False)
    signals.beat_init.connect(watch_ticks, weak=False)


def heartbeat_file() -> Path:
    """One name for every role: a container runs one."""
    return Path(env.text("HEARTBEAT_DIR")) / "tranche.heartbeat"


def problem(role: str) -> str:
    """What is wrong with this container's process, or nothing."""
    if role == "web":
        return _http_problem(env.integer("PORT", default=8000), WEB_PATH)
    if role == "stream":
        return _http_problem(env.integer("STREAM_PORT", default=8001), WEB_PATH)
    if role == "flower":
        return _http_problem(env.integer("FLOWER_PORT", default=5555), FLOWER_PATH)
    if role in FILE_ROLES:
        return _file_problem()
    return f"unknown role {role!r}; one of: {', '.join((*HTTP_ROLES, *FILE_ROLES))}"


def _http_problem(port: int, path: str) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=HTTP_TIMEOUT_SECONDS)
    try:
        connection.request("GET", path, headers={"Host": _own_host()})
        status = connection.getresponse().status
    except OSError as error:
        return f"GET {path} at port {port}: {error}"
    finally:
        connection.close()
    return "" if status == http.client.OK else f"GET {path} at port {port} answered {status}"


def _own_host() -> str:
    """A Host that ALLOWED_HOSTS lets pass."""
    hosts = env.words("ALLOWED_HOSTS", default=["localhost"])
    return next((host.lstrip(".") for host in hosts if host != "*"), "localhost")


def _file_problem() -> str:
    if not env.text("HEARTBEAT_DIR", default=""):
        return "HEARTBEAT_DIR is not set, so no process says whether it works"
    file = heartbeat_file()
    try:
        age = time.time() - file.stat().st_mtime
    except FileNotFoundError:
        return f"{file} is not there: the process has never reached the broker"
    return "" if age < STALE_AFTER_SECONDS else f"{file} was last touched {age:.0f} s ago"


def _container_role() -> str:
    """The role this container was started with: PID 1 is tini, its last word the role."""
    words = Path("/proc/1/cmdline").read_text().rstrip("\0").split("\0")
    return words[-1]


def main() -> None:
    role = sys.argv[1] if len(sys.argv) > 1 else _container_role()
    trouble = problem(role)
    if trouble:
        sys.exit(f"{role}: {trouble}")


if __name__ == "__main__":
    main()
