"""The demo's first half: a platform of its own in a fresh directory, the play, and nothing left behind."""

import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from apps.sandbox.mailbox import MailServer
from apps.sandbox.runtime.files import tail
from apps.sandbox.runtime.paths import ROOT_DIR, VAR_DIR
from apps.sandbox.supervisor import Supervisor

# What the play ends with when it came to its end and something does not hold.
BROKEN = 3
# Flower only watches, and two cores have enough to do.
ROLES = ("web", "stream", "worker", "background", "signer", "beat")
# Below the demo's directory: where mails arrive.
MAIL_DIR = "mail"


def demo_run(*, days: int, keep: bool, quiet: Callable[[], None]) -> int:
    """Run the demo; the exit status. `quiet` is called before stopping, so that nothing interrupts it."""
    VAR_DIR.mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="demo-", dir=VAR_DIR))
    started = time.monotonic()
    mail = MailServer(directory / MAIL_DIR)
    # Every demo has services of its own, whatever the environment names: it never touches a running sandbox.
    supervisor = Supervisor(
        directory,
        roles=ROLES,
        fsync=False,
        environment={
            "WEB_WORKERS": "1",
            "LOG_LEVEL": "INFO",
            "MAIL_TRANSPORT": "smtp",
            "SMTP_URL": mail.url,
        },
        free_ports=True,
    )
    status = 1
    play: subprocess.Popen[bytes] | None = None
    try:
        _say("Starting PostgreSQL, Valkey, an EVM node with Uniswap, then all processes of the platform …")
        mail.start()
        supervisor.start()
        _say(f"All of it answers after {time.monotonic() - started:.1f} s.\n")
        play = subprocess.Popen(
            [sys.executable, str(ROOT_DIR / "manage.py"), "sandbox", "play", "--days", str(days)],
            cwd=ROOT_DIR,
            env={**supervisor.environment(), "LOG_LEVEL": "WARNING"},
        )
        while play.poll() is None:
            supervisor.look()
            with suppress(subprocess.TimeoutExpired):
                play.wait(timeout=0.2)
        status = int(play.returncode)
    except KeyboardInterrupt:
        _say("\nInterrupted.")
        status = 130
    finally:
        quiet()
        if play is not None and play.poll() is None:
            play.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                play.wait(timeout=10)
            play.kill()
            play.wait()
        supervisor.stop()
        mail.stop()
        if status not in {0, 130, BROKEN}:
            _logs_show(directory)
        if keep or status not in {0, 130}:
            _say(f"Its data and logs are in {directory}")
        else:
            supervisor.destroy()
    verdict = "Everything holds." if status == 0 else "Not everything holds."
    _say(f"{verdict} {time.monotonic() - started:.0f} s in all." if status != 130 else "")
    return status


def _logs_show(directory: Path) -> None:
    for log in sorted((directory / "logs").glob("*.log")):
        _say(f"--- the end of {log.name}\n{tail(log, lines=15)}")


def _say(text: str) -> None:
    print(text, flush=True)
