"""One image, many roles: `python -m config.roles web|stream|worker|background|signer|beat|flower` becomes that process.

The sandbox's supervisor, the Dockerfile, docker-compose and railway.toml all start processes through here, so
that what runs in development is what runs in production.
"""

import os
import resource
import shutil
import sys
from pathlib import Path

from config import env

# What moves money, and what may wait for it: mails, exports, checks that read everything. A worker takes both kinds
# unless WORKER_QUEUES says otherwise; the background role takes the second alone.
MONEY_QUEUES = ("plans", "chain", "default")
BACKGROUND_QUEUES = ("mail", "background")
QUEUES = (*MONEY_QUEUES, *BACKGROUND_QUEUES)
SIGNING_QUEUE = "signing"
# Where background work shares a machine with money, money has the processor first.
BACKGROUND_NICENESS = 10


def command(role: str) -> list[str]:
    """The argument list of a role; raises `SystemExit` for an unknown one."""
    python = sys.executable
    celery = [python, "-m", "celery", "--app", "config.celery", "--quiet"]
    worker = [*celery, "worker", "--without-mingle", "--loglevel", env.text("LOG_LEVEL", default="INFO")]
    commands = {
        "web": [
            python, "-m", "granian", "--interface", "wsgi", "config.wsgi:application",
            "--host", env.text("HOST", default="127.0.0.1"),
            "--port", str(env.integer("PORT", default=8000)),
            "--workers", str(env.integer("WEB_WORKERS", default=2)),
            "--blocking-threads", str(env.integer("WEB_THREADS", default=2)),
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
        "worker": [
            *worker, "--queues", ",".join(_worker_queues()),
            "--concurrency", str(env.integer("WORKER_CONCURRENCY", default=2)), "--hostname", "worker-%n@%h",
        ],
        "background": [
            *worker, "--queues", ",".join(BACKGROUND_QUEUES),
            "--concurrency", str(env.integer("BACKGROUND_CONCURRENCY", default=2)), "--hostname", "background-%n@%h",
        ],
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


def _worker_queues() -> list[str]:
    """The queues of a worker, as WORKER_QUEUES names them; raises `SystemExit` for one that nobody rings."""
    queues = env.words("WORKER_QUEUES", default=list(QUEUES))
    unknown = sorted(set(queues) - set(QUEUES))
    if unknown or not queues:
        raise SystemExit(f"WORKER_QUEUES: unknown queue {', '.join(unknown)}; some of: {', '.join(QUEUES)}")
    return queues


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
        raise SystemExit("usage: python -m config.roles web|stream|worker|background|signer|beat|flower")
    arguments = command(sys.argv[1])
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings.local")
    os.environ.setdefault("SERVICE_NAME", sys.argv[1])
    # SIGTERM then means Celery's soft shutdown: finish for `worker_soft_shutdown_timeout`, hand back what is left.
    # Without it a worker waits for its task to the hard limit, and the platform kills it first.
    os.environ.setdefault("REMAP_SIGTERM", "SIGQUIT")
    if sys.argv[1] == "stream":
        files_allow(env.integer("STREAM_CONNECTIONS", default=2_000) + 200)
    if sys.argv[1] == "background":
        os.nice(BACKGROUND_NICENESS)
    place = env.text("HEARTBEAT_DIR", default="")
    if sys.argv[1] == "web" and place:
        # Read by prometheus_client itself, when it is imported.
        os.environ.setdefault("PROMETHEUS_MULTIPROC_DIR", str(metrics_directory(Path(place))))
    os.execv(arguments[0], arguments)  # noqa: S606


if __name__ == "__main__":
    main()
