"""Fill .venv with what requirements/*.txt lock. Standard library only: it runs before anything is installed.

pip is the bootstrap, because it reads whatever index configuration the machine has; it installs uv, which
installs the rest about ten times faster (2 cores, empty cache: 4 s against 36 s). uv does not read pip's
configuration, so that is translated; should uv still fail, pip does all of it.
Every download is a wheel whose hash is in the lock.
"""

import ast
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / ".ready"
LOCKS = ("requirements/setup.txt", "requirements/dev.txt", "requirements/lint.txt", "requirements/node.txt")
LOCKED = ("--require-hashes", "--only-binary", ":all:")

# What pip's configuration says, in uv's words. Lists are joined with spaces, as both expect.
UV_NAMES = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "no-index": "UV_NO_INDEX",
    "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE",
    "client-cert": "SSL_CLIENT_CERT",
    "proxy": "ALL_PROXY",
    "timeout": "UV_HTTP_TIMEOUT",
    "default-timeout": "UV_HTTP_TIMEOUT",
}


def main() -> None:
    if "--is-ready" in sys.argv:
        sys.exit(0 if is_ready() else 1)
    if sys.argv[1:2] == ["--uv"]:
        sys.exit(0 if uv(*sys.argv[2:]) else 1)
    if not os.access(ROOT, os.W_OK):
        fail(f"{ROOT} is not writable by this user; clone it to a place that is.")
    (ROOT / "var").mkdir(exist_ok=True)
    # Two makes at once: the second waits here and then finds the work done.
    with (ROOT / "var" / "setup.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not is_ready():
            install()


def install() -> None:
    started = time.monotonic()
    STAMP.unlink(missing_ok=True)
    if not usable():
        create()
    say("installing uv")
    pip("install", "-qq", *LOCKED, "-r", "requirements/setup.txt")
    locks = [*LOCKS[1:3], *(() if has_npm() else LOCKS[3:])]
    say(f"installing {', '.join(locks)}")
    files = [word for name in locks for word in ("-r", name)]
    if not uv("pip", "install", "--quiet", *LOCKED, "--python", str(PYTHON), *files):
        say("uv could not; installing with pip instead, which takes about half a minute")
        pip("install", "-qq", *LOCKED, *files)
    STAMP.write_text(fingerprint())
    say(f"ready in {time.monotonic() - started:.1f} s")


def fingerprint() -> str:
    """Changes with the locks, this script, the Python, and the place of the checkout: venvs do not move."""
    digest = hashlib.sha256(repr((str(ROOT), sys.version_info[:2], has_npm())).encode())
    for name in (*LOCKS, "bin/setup.py"):
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


def is_ready() -> bool:
    return STAMP.is_file() and STAMP.read_text() == fingerprint()


def has_npm() -> bool:
    """Where the machine has no npm, the sandbox runs the one that comes in a wheel."""
    return shutil.which("npm") is not None


def usable() -> bool:
    """Whether .venv is this Python's, in this place, and complete."""
    if not PYTHON.exists():
        return False
    probe = "import sys, pip; print(sys.version_info[:2], sys.prefix)"
    done = ask([str(PYTHON), "-c", probe])
    return done.returncode == 0 and done.stdout.strip() == f"{sys.version_info[:2]} {VENV}"


def create() -> None:
    say(f"creating .venv with Python {sys.version.split()[0]}")
    if VENV.exists():
        shutil.rmtree(VENV)
    venv = ask([sys.executable, "-m", "venv", str(VENV)])
    if venv.returncode == 0 and usable():
        return
    # Debian ships Python without ensurepip unless python3-venv is installed; virtualenv carries its own pip.
    say("python -m venv does not work here; trying virtualenv")
    shutil.rmtree(VENV, ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder:
        bootstrap = [sys.executable, "-m", "pip", "install", "-qq", *LOCKED, "--target", folder]
        done = ask([*bootstrap, "-r", "requirements/setup.txt"])
        if done.returncode == 0:
            environment = {**os.environ, "PYTHONPATH": folder}
            command = [sys.executable, "-m", "virtualenv", "--quiet", "--pip", "bundle", str(VENV)]
            done = ask(command, env=environment)
    if done.returncode != 0 or not usable():
        reasons = f"  venv: {last_line(venv.stderr or venv.stdout)}\n  virtualenv: {last_line(done.stderr)}"
        fail(
            f"{sys.executable} can make no virtual environment.\n{reasons}\n"
            "  Debian, Ubuntu: apt-get install python3-venv   (or python3-pip, then run this again)"
        )


def ask(
    command: list[str], *, loud: bool = False, env: dict[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run it at the checkout; quiet unless loud, and never raising: the caller knows what a failure means."""
    return subprocess.run(command, check=False, cwd=ROOT, env=env, capture_output=not loud, text=True)


def pip(*arguments: str) -> None:
    done = ask([str(PYTHON), "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments], loud=True)
    if done.returncode != 0:
        fail(f"pip {' '.join(arguments)} failed; see above. Is a package index reachable from here?")


def uv(*arguments: str) -> bool:
    done = ask([str(VENV / "bin" / "uv"), *arguments], loud=True, env=uv_environment())
    return done.returncode == 0


def uv_environment() -> dict[str, str]:
    """The environment with pip's index configuration in it; what UV_* variables already say wins."""
    environment = dict(os.environ)
    # pip looks at all indexes alike. With hashes locked, none can slip in another file.
    environment.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")
    for key, value in pip_configuration().items():
        if key in UV_NAMES:
            environment.setdefault(UV_NAMES[key], value)
    cache = Path(environment.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    while not cache.exists() and cache != cache.parent:
        cache = cache.parent
    if not os.access(cache, os.W_OK):
        environment.setdefault("UV_NO_CACHE", "1")
    return environment


def pip_configuration() -> dict[str, str]:
    """pip's own view of its files and PIP_* variables: `install` over `global`, the environment over both."""
    shown = ask([str(PYTHON), "-m", "pip", "config", "list"]).stdout
    settings: dict[str, str] = {}
    for section in ("global.", "install.", ":env:."):
        for line in shown.splitlines():
            name, _, quoted = line.partition("=")
            if name.startswith(section) and quoted:
                settings[name.removeprefix(section)] = " ".join(str(ast.literal_eval(quoted)).split())
    for key in ("find-links", "extra-index-url"):
        # pip passes over local places that are not there; uv stops at them.
        places = [place for place in settings.pop(key, "").split() if reachable(place)]
        if places:
            separator = "," if key == "find-links" else " "
            settings[key] = separator.join(places)
    return settings


def reachable(place: str) -> bool:
    if place.startswith(("http://", "https://")):
        return True
    return Path(place.removeprefix("file://")).exists()


def last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else "no word"


def say(text: str) -> None:
    print(f"setup: {text}", file=sys.stderr, flush=True)


def fail(text: str) -> None:
    sys.exit(f"setup: {text}")


if __name__ == "__main__":
    main()
