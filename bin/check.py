"""What `make check` runs: every static check, as many at once as there are cores, all even when one fails.

`python -m bin.check [STEP…]` narrows it; `--write-schema` writes docs/openapi.yaml anew from the code.
Nothing here needs a database, a broker or the network.
"""

import difflib
import os
import secrets
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
SCHEMA = Path("docs/openapi.yaml")
SHELL_SCRIPTS = ("bin/setup", ".ci/run")
COMPOSE = "docker-compose.yml"
WORKFLOW = ".github/workflows/ci.yml"
MANAGE = [sys.executable, "manage.py"]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    step: str
    passed: bool
    seconds: float
    output: str


Step = Callable[[], tuple[bool, str]]


def production() -> dict[str, str]:
    """An environment production accepts: valid in form, made up anew each time, good for nothing.

    The services are at a port where nobody listens, so that a check that needs one fails instead of finding
    some developer's database.
    """
    key = b64encode(secrets.token_bytes(32)).decode()
    return {
        "DJANGO_SETTINGS_MODULE": "config.settings.production",
        "SECRET_KEY": secrets.token_urlsafe(64),
        "ALLOWED_HOSTS": "tranche.example",
        "TRUSTED_PROXY_HOPS": "0",
        "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
        "REDIS_URL": "redis://127.0.0.1:1/0",
        "ENCRYPTION_KEYS": f"check:{key}",
        "ACCESS_TOKEN_KEYS": f"check:{key}",
        "MAIL_TRANSPORT": "database",
        "MAIL_FROM": "Tranche <hello@tranche.example>",
        "PUBLIC_URL": "https://tranche.example",
        "LOG_LEVEL": "WARNING",
    }


def run(command: list[str], environment: dict[str, str] | None = None) -> tuple[bool, str]:
    done = subprocess.run(
        command,
        check=False,
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return done.returncode == 0, done.stdout


def tool(name: str, *arguments: str) -> Step:
    return lambda: run([str(BIN / name), *arguments])


def module(name: str, *arguments: str) -> Step:
    return lambda: run([sys.executable, "-m", name, *arguments])


def several(*steps: Step) -> Step:
    def all_of_them() -> tuple[bool, str]:
        outcomes = [step() for step in steps]
        return all(passed for passed, _ in outcomes), "".join(output for _, output in outcomes)

    return all_of_them


def migrations() -> tuple[bool, str]:
    """Models and migrations agree.

    Whether some database has applied them is another question, so none is asked: Django's warning that it
    could not ask is the one RuntimeWarning that passes.
    """
    python = [
        sys.executable,
        "-W",
        "error::RuntimeWarning",
        "-W",
        "ignore:Got an error checking:RuntimeWarning",
    ]
    environment = {**production(), "DJANGO_SETTINGS_MODULE": "config.settings.test"}
    return run([*python, "manage.py", "makemigrations", "--check", "--dry-run"], environment)


def deployment() -> tuple[bool, str]:
    return run([*MANAGE, "check", "--deploy", "--fail-level", "WARNING"], production())


def schema() -> tuple[bool, str]:
    """The API's schema has no warning, is valid OpenAPI, and is the committed one."""
    passed, output, fresh = generate()
    if not passed:
        return False, output
    committed = (ROOT / SCHEMA).read_text() if (ROOT / SCHEMA).exists() else ""
    if fresh == committed:
        return True, output
    lines = difflib.unified_diff(
        committed.splitlines(),
        fresh.splitlines(),
        f"{SCHEMA} (committed)",
        f"{SCHEMA} (from the code)",
        lineterm="",
        n=2,
    )
    return False, "\n".join([*lines, "", f"{SCHEMA} is not what the code says. Refresh it: make schema", ""])


def generate() -> tuple[bool, str, str]:
    target = ROOT / "var" / "openapi.yaml"
    target.parent.mkdir(exist_ok=True)
    target.unlink(missing_ok=True)
    passed, output = run(
        [*MANAGE, "spectacular", "--validate", "--fail-on-warn", "--file", str(target)], production()
    )
    return passed, output, target.read_text() if target.exists() else ""


def write_schema() -> None:
    passed, output, fresh = generate()
    if not passed:
        sys.exit(output)
    (ROOT / SCHEMA).write_text(fresh)
    print(f"{SCHEMA}: {len(fresh.splitlines())} lines written")


# The longest first, so that the short ones fill the other cores.
STEPS: dict[str, Step] = {
    "types": module("mypy", "."),
    "imports": tool("lint-imports", "--no-cache"),
    "house": module(
        "pytest",
        "-q",
        "-c",
        "tests/house/alone.ini",
        "--rootdir",
        ".",
        "tests/house",
    ),
    "schema": schema,
    "deployment": deployment,
    "migrations": migrations,
    "workflow": several(
        tool("check-jsonschema", "--builtin-schema", "vendor.github-workflows", WORKFLOW),
        tool("zizmor", "--offline", "--no-progress", "--quiet", WORKFLOW),
    ),
    "compose": tool("check-jsonschema", "--builtin-schema", "vendor.compose-spec", COMPOSE),
    "dockerfile": tool("hadolint", "--no-color", "--failure-threshold", "style", "Dockerfile"),
    "shell": several(
        *[lambda script=script: run(["bash", "-n", script]) for script in SHELL_SCRIPTS],
        tool("shellcheck", *SHELL_SCRIPTS),
    ),
    "lint": module("ruff", "check", "."),
    "format": module("ruff", "format", "--check", "."),
}


def execute(step: str) -> Outcome:
    started = time.monotonic()
    passed, output = STEPS[step]()
    return Outcome(step=step, passed=passed, seconds=time.monotonic() - started, output=output.strip())


def main() -> None:
    if "--write-schema" in sys.argv:
        write_schema()
        return
    wanted = sys.argv[1:] or list(STEPS)
    unknown = [step for step in wanted if step not in STEPS]
    if unknown:
        sys.exit(f"no such step: {', '.join(unknown)}; there are {', '.join(STEPS)}")
    started = time.monotonic()
    outcomes: list[Outcome] = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for future in as_completed([pool.submit(execute, step) for step in wanted]):
            outcome = future.result()
            outcomes.append(outcome)
            if not outcome.passed:
                print(f"\n--- {outcome.step} failed:\n{outcome.output or 'it said nothing'}\n")
            print(f"{verdict(outcome):6} {outcome.step:12} {outcome.seconds:6.1f} s", flush=True)
    report(outcomes, time.monotonic() - started)


def verdict(outcome: Outcome) -> str:
    return "ok" if outcome.passed else "FAILED"


def report(outcomes: list[Outcome], seconds: float) -> None:
    failed = [outcome.step for outcome in outcomes if not outcome.passed]
    print(f"\n{'check':12} {'verdict':8} {'seconds':>8}")
    for outcome in sorted(outcomes, key=lambda one: list(STEPS).index(one.step)):
        print(f"{outcome.step:12} {verdict(outcome):8} {outcome.seconds:8.1f}")
    print(f"{'together':12} {'FAILED' if failed else 'ok':8} {seconds:8.1f}")
    if failed:
        again = f'make check ARGS="{" ".join(failed)}"'
        sys.exit(f"\n{len(failed)} of {len(outcomes)} failed. Again, only these: {again}")


if __name__ == "__main__":
    main()
