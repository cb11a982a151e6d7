"""Dockerfile, compose, Railway and workflow say the same thing as the code, checked without a Docker engine.

That the files are well-formed is the business of the linters in `make check` (hadolint, the compose and workflow
schemas, zizmor). Here: what they name exists, they agree with each other, and secrets go where they may.
"""

import fnmatch
import json
import re
import tomllib
from typing import Any

import pytest
import yaml

from apps.sandbox import supervisor
from config import health, roles
from config.roles import command
from tests.house.tree import ROOT, read

ROLES = ["web", "stream", "worker", "background", "signer", "beat", "flower"]
RAILWAY = {role: "railway.toml" if role == "web" else f"railway/{role}.toml" for role in ROLES}


def compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(read("docker-compose.yml"))
    return document


def service(name: str) -> dict[str, Any]:
    found: dict[str, Any] = compose()["services"][name]
    return found


def workflow() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(read(".github/workflows/ci.yml"))
    return document


def railway(role: str) -> dict[str, Any]:
    return tomllib.loads(read(RAILWAY[role]))


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's (instruction, arguments), continuation lines joined, comments dropped."""
    lines = [line for line in read("Dockerfile").splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(line.split()[0], line.partition(" ")[2].strip()) for line in joined.splitlines() if line.strip()]


def final_stage() -> list[tuple[str, str]]:
    every = instructions()
    last = max(index for index, (name, _) in enumerate(every) if name == "FROM")
    return every[last:]


def image_environment() -> dict[str, str]:
    words = " ".join(arguments for name, arguments in final_stage() if name == "ENV").split()
    return dict(word.split("=", 1) for word in words)


def in_image(path: str) -> bool:
    """Whether .dockerignore lets the path into the build: the last pattern that matches decides."""
    inside = True
    for line in read(".dockerignore").splitlines():
        pattern = line.strip()
        if not pattern or pattern.startswith("#"):
            continue
        wanted = pattern.lstrip("!")
        parts = path.split("/")
        ancestors = ["/".join(parts[:depth]) for depth in range(1, len(parts) + 1)]
        if any(
            fnmatch.fnmatch(name, wanted.removeprefix("**/")) or fnmatch.fnmatch(name, wanted)
            for name in ancestors
        ) or (wanted.startswith("**/") and any(fnmatch.fnmatch(part, wanted[3:]) for part in parts)):
            inside = pattern.startswith("!")
    return inside


# --- the image


def test_image_runs_as_an_unprivileged_user_under_tini() -> None:
    stage = final_stage()

    assert [arguments for name, arguments in stage if name == "USER"] == ["1001:1001"]
    assert json.loads(next(arguments for name, arguments in stage if name == "ENTRYPOINT")) == ["tini", "--"]
    assert any(
        "--uid 1001" in arguments and "install --yes --no-install-recommends tini" in arguments
        for _, arguments in stage
    )


def test_nothing_runs_as_root_after_the_user_is_set() -> None:
    names = [name for name, _ in final_stage()]

    assert set(names[names.index("USER") + 1 :]) <= {"EXPOSE", "HEALTHCHECK", "ENTRYPOINT", "CMD"}


def test_everything_the_image_copies_exists_and_is_let_in() -> None:
    sources = [
        source
        for name, arguments in instructions()
        if name == "COPY" and not arguments.startswith("--from")
        for source in arguments.split()[:-1]
    ]

    assert sources == ["requirements/base.txt", "manage.py", "config", "workers", "apps"]
    assert [source for source in sources if not (ROOT / source).exists() or not in_image(source)] == []


@pytest.mark.parametrize(
    "path",
    [".env", ".git/config", "apps/sandbox/clock.py", "tests/plugin.py", "var/sandbox/sandbox.env", "config/.env.prod",
     "requirements/dev.txt", ".venv/bin/python", "apps/core/__pycache__/ids.pyc"],
)  # fmt: skip
def test_nothing_private_or_of_development_gets_into_the_image(path: str) -> None:
    assert not in_image(path)


def test_image_installs_only_wheels_whose_hash_is_locked() -> None:
    installs = [
        arguments
        for name, arguments in instructions()
        if name == "RUN" and "install" in arguments and "pip" in arguments
    ]

    assert len(installs) == 1
    assert "--require-hashes --only-binary :all: -r requirements/base.txt" in installs[0]


def test_image_holds_no_secret() -> None:
    assert image_environment().keys() == {
        "PATH", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE", "DJANGO_SETTINGS_MODULE", "RELEASE", "HOST", "PORT",
        "HEARTBEAT_DIR",
    }  # fmt: skip
    assert image_environment()["DJANGO_SETTINGS_MODULE"] == "config.settings.production"


def test_web_listens_outside_the_container_at_the_port_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOST", "PORT"):
        monkeypatch.setenv(name, image_environment()[name])
    monkeypatch.setenv("PORT", "4321")

    arguments = command("web")

    assert arguments[arguments.index("--host") + 1] == "0.0.0.0"  # noqa: S104
    assert arguments[arguments.index("--port") + 1] == "4321"


def test_health_check_knows_every_role() -> None:
    check = next(arguments for name, arguments in final_stage() if name == "HEALTHCHECK")

    assert check.endswith('CMD ["python", "-m", "config.health"]')
    assert sorted((*health.HTTP_ROLES, *health.FILE_ROLES)) == sorted(ROLES)


# --- compose


def test_compose_has_a_service_for_each_role_running_that_role() -> None:
    for role in ROLES:
        assert service(role)["command"] == ["python", "-m", "config.roles", role]
        assert command(role)[0].endswith(("python", "python3", "python3.11", "python3.12", "python3.13"))


@pytest.mark.parametrize("secret", ["SIGNER_KEYS", "SIGNER_DEPOSIT_XPRV"])
def test_only_the_signer_sees_its_keys(secret: str) -> None:
    holders = [name for name, one in compose()["services"].items() if secret in json.dumps(one)]

    assert holders == ["signer"]
    assert [role for role in ROLES if secret in read(RAILWAY[role]).partition("[build]")[2]] == []


def test_every_role_waits_for_the_migration_and_the_migration_for_the_database() -> None:
    for role in ROLES:
        assert service(role)["depends_on"] == {
            "migrate": {"condition": "service_completed_successfully"},
            "postgres": {"condition": "service_healthy"},
            "redis": {"condition": "service_healthy"},
        }
    assert service("migrate")["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    assert service("migrate")["command"] == ["python", "manage.py", "migrate", "--noinput"]
    assert service("migrate")["restart"] == "no"


def test_redis_keeps_what_it_is_told_and_evicts_nothing() -> None:
    words = service("redis")["command"]

    assert words[words.index("--appendonly") + 1] == "yes"
    assert words[words.index("--maxmemory-policy") + 1] == "noeviction"


def test_nothing_is_published_beyond_the_machine() -> None:
    ports = [port for one in compose()["services"].values() for port in one.get("ports", [])]

    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []
    assert "ports" not in service("postgres")
    assert "ports" not in service("redis")


def test_every_variable_of_compose_is_explained() -> None:
    used = set(re.findall(r"\$\{([A-Z_]+)", read("docker-compose.yml")))
    given = {name for role in [*ROLES, "migrate"] for name in service(role)["environment"]}
    explained = set(re.findall(r"(?m)^(?:# )?([A-Z_]+)=", read(".env.example")))

    assert (used | given) - explained == set()


def test_worker_has_time_to_stop_before_it_is_killed() -> None:
    """Ten seconds of soft shutdown, then what is left is handed back; compose and Railway wait longer than that."""
    for role in ("worker", "background", "signer"):
        assert int(service(role)["stop_grace_period"].removesuffix("s")) >= 30
        assert railway(role)["deploy"]["drainingSeconds"] >= 30


def test_a_worker_beside_the_background_role_takes_all_the_other_queues() -> None:
    """Named in three places; a queue that one of them forgets is read by nobody there."""
    money = ",".join(roles.MONEY_QUEUES)

    assert service("worker")["environment"]["WORKER_QUEUES"] == f"${{WORKER_QUEUES:-{money}}}"
    assert money == supervisor.MONEY_QUEUES
    assert f"`WORKER_QUEUES` = `{money}`" in read("docs/deploy.md")


def test_a_worker_refuses_a_queue_that_nobody_rings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKER_QUEUES", "plans,chian")

    with pytest.raises(SystemExit, match=r"WORKER_QUEUES: unknown queue chian; some of: plans, chain,"):
        command("worker")


# --- Railway


@pytest.mark.parametrize("role", ROLES)
def test_railway_starts_each_role_from_the_one_image(role: str) -> None:
    config = railway(role)

    assert config["build"] == {"builder": "DOCKERFILE", "dockerfilePath": "Dockerfile"}
    assert config["deploy"]["startCommand"] == f"tini -- python -m config.roles {role}"


def test_railway_knows_no_other_service() -> None:
    files = {f"railway/{file.name}" for file in (ROOT / "railway").iterdir()} | {"railway.toml"}

    assert files == set(RAILWAY.values())


def test_only_the_web_service_migrates() -> None:
    assert [role for role in ROLES if "preDeployCommand" in railway(role)["deploy"]] == ["web"]
    assert railway("web")["deploy"]["preDeployCommand"] == ["python manage.py migrate --noinput"]


def test_flower_is_asked_where_it_answers() -> None:
    assert railway("flower")["deploy"]["healthcheckPath"] == health.FLOWER_PATH


# --- versions


def test_python_is_the_same_everywhere() -> None:
    project = tomllib.loads(read("pyproject.toml"))
    images = [arguments.split()[0] for name, arguments in instructions() if name == "FROM"]
    steps = [step for job in workflow()["jobs"].values() for step in job["steps"]]
    versions = [step["with"]["python-version"] for step in steps if "setup-python" in step.get("uses", "")]

    assert project["project"]["requires-python"] == ">=3.11"
    assert set(images) == {"python:3.11-slim-bookworm"}
    assert versions == ["3.11", "3.11"]


def test_services_are_of_one_version_in_compose_and_workflow() -> None:
    services = workflow()["jobs"]["test"]["services"]

    assert services["postgres"]["image"] == service("postgres")["image"]
    assert services["redis"]["image"] == service("redis")["image"]
    assert int(service("postgres")["image"].partition("-pg")[2]) >= 16


def test_anvil_is_the_sandbox_s() -> None:
    package = json.loads(read("apps/sandbox/contracts/package.json"))
    versions = {
        version
        for kind in ("dependencies", "optionalDependencies")
        for name, version in package.get(kind, {}).items()
        if name.startswith("@foundry-rs/anvil")
    }

    assert versions == set(re.findall(r"@foundry-rs/anvil@([\d.]+)", read("docker-compose.yml")))


def test_release_is_the_project_s_version() -> None:
    version = tomllib.loads(read("pyproject.toml"))["project"]["version"]

    assert f"ARG RELEASE={version}" in read("Dockerfile")
    assert service("web")["build"]["args"]["RELEASE"] == f"${{RELEASE:-{version}}}"


# --- workflow


def test_workflow_may_only_read_and_pins_every_action() -> None:
    document = workflow()
    actions = [step["uses"] for job in document["jobs"].values() for step in job["steps"] if "uses" in step]

    assert document["permissions"] == {"contents": "read"}
    assert [action for action in actions if not re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action)] == []
    assert all(job["timeout-minutes"] <= 30 for job in document["jobs"].values())


def test_workflow_runs_what_a_person_runs() -> None:
    jobs = workflow()["jobs"]

    assert list(jobs) == ["check", "test", "image"]
    assert jobs["check"]["steps"][-1]["run"] == "make check"
    assert jobs["test"]["steps"][-1]["run"] == "make test"
    assert jobs["test"]["env"].keys() == {"DATABASE_URL", "REDIS_URL"}
