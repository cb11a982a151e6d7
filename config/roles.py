"""One image, many roles: `python -m config.roles web|stream|worker|signer|beat|flower` becomes that process.

The sandbox's supervisor, the Dockerfile, docker-compose and railway.toml all start processes through here, so
that what runs in development is what runs in production.
"""

import os
import resource
import shutil
import sys
from pathlib import Path

from config import env

QUEUES = ("plans", "chain", "default", "mail")
SIGNING_QUEUE = "signing"


def command(role: str) -> list[str]:
    """The argument list of a role; raises `SystemExit` for an unknown one."""
    python = sys.executable
    concurrency = str(env.integer("WORKER_CONCURRENCY", default=2))
    celery = [python, "-m", "celery", "--app", "config.celery", "--quiet"]
    worker = [*celery, "worker", "--without-mingle", "--loglevel", env.text("LOG_LEVEL", default="INFO")]
    commands = {
        "web": [
            python, "-m", "granian", "--interface", "wsgi", "config.wsgi:application",
            "--host", env.text("HOST", default="127.0.0.1"),
            "--port", str(env.integer("PORT", default=8000)),
            "--workers", str(env.integer("WEB_WORKERS", default=2)),
            "--blocking-threads", str(env.integer("WEB_THREADS", default=4)),
            "--no-ws", "--respawn-failed-workers",
            "--workers-kill-timeout", "10",
        ],
        "stream": [
            python, "-m", "granian", "--interface", "asgi", "config.stream:application",
            "--host", env.text("HOST", default="127.0.0.1"),
            "--port", str(env.integer("STREAM_PORT", default=8001)),
            "--workers", str(env.integer("STREAM_WORKERS", default=1)),
            # A connection waits for its turn when a worker has so many; room is left for who only asks for health.
            "--backpressure", str(env.integer("STREAM_CONNECTIONS", default=2_000) + 100), "--backlog", "4096",
            # A connection is one stream: idle ones kept alive would hold up the shutdown.
            "--no-http1-keep-alive", "--no-ws", "--respawn-failed-workers",
            "--workers-kill-timeout", "10",
        ],
        "worker": [*worker, "--queues", ",".join(QUEUES), "--concurrency", concurrency, "--hostname", "worker-%n@%h"],
        "signer": [*worker, "--queues", SIGNING_QUEUE, "--concurrency", "1", "--hostname", "signer-%n@%h"],
        "beat": [
            *celery, "beat", "--scheduler", "workers.beat:SingleScheduler", "--pidfile=",
            "--loglevel", env.text("LOG_LEVEL", default="INFO"),
        ],
        "flower": [
            *celery, "flower",
            "--address=" + env.text("HOST", default="127.0.0.1"),
            "--port=" + str(env.integer("FLOWER_PORT", default=5555)),
        ],
    }  # fmt: skip
    if role not in commands:
        raise SystemExit(f"unknown role {role!r}; one of: {', '.join(commands)}")
    return commands[role]


def metrics_directory(place: Path) -> Path:
    """A new, empty folder in which the processes of one web container add up their request metrics."""
    folder = place / "metrics"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def files_allow(count: int) -> None:
    """Let this process have so many files open, as far as the system does: each connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def main() -> None:
    if len(sys.argv) != 2:
        raise SystemExit("usage: python -m config.roles web|stream|worker|signer|beat|flower")
    arguments = command(sys.argv[1])
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings.local")
    os.environ.setdefault("SERVICE_NAME", sys.argv[1])
    # SIGTERM then means Celery's soft shutdown: finish for `worker_soft_shutdown_timeout`, hand back what is left.
    # Without it a worker waits for its task to the hard limit, and the platform kills it first.
    os.environ.setdefault("REMAP_SIGTERM", "SIGQUIT")
    if sys.argv[1] == "stream":
        files_allow(env.integer("STREAM_CONNECTIONS", default=2_000) + 200)
    place = env.text("HEARTBEAT_DIR", default="")
    if sys.argv[1] == "web" and place:
        # Read by prometheus_client itself, when it is imported.
        os.environ.setdefault("PROMETHEUS_MULTIPROC_DIR", str(metrics_directory(Path(place))))
    os.execv(arguments[0], arguments)  # noqa: S606


if __name__ == "__main__":
    main()
