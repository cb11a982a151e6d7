"""The locks are whole: every package pinned with hashes, from no named index, as the .in files ask."""

import re

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.house.tree import ROOT, read

LOCKS = ["setup", "base", "dev", "lint", "node"]


def pinned(name: str) -> dict[str, Version]:
    """Package to version. Raises when a line is anything but a pin, its hashes, or a comment."""
    pins: dict[str, Version] = {}
    for block in re.split(r"(?m)^(?=[a-zA-Z0-9])", read(f"requirements/{name}.txt")):
        lines = [line.strip(" \\") for line in block.splitlines() if line.strip()]
        lines = [line for line in lines if not line.startswith("#")]
        if not lines:
            continue
        package, _, version = lines[0].split(";")[0].strip().partition("==")
        assert version, f"not a pin: {lines[0]}"
        assert lines[1:], f"no hash: {lines[0]}"
        assert [line for line in lines[1:] if not re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", line)] == []
        pins[canonicalize_name(package)] = Version(version)
    return pins


def wanted(name: str) -> list[Requirement]:
    lines = [line.split("#")[0].strip() for line in read(f"requirements/{name}.in").splitlines()]
    return [Requirement(line) for line in lines if line and not line.startswith("-")]


@pytest.mark.parametrize("name", LOCKS)
def test_lock_holds_pins_with_hashes_and_no_index(name: str) -> None:
    assert len(pinned(name)) >= 1
    assert not re.search(
        r"https?://|--(index|extra-index|find-links|trusted)", read(f"requirements/{name}.txt")
    )


@pytest.mark.parametrize("name", LOCKS)
def test_lock_satisfies_what_was_asked_for(name: str) -> None:
    pins = pinned(name)

    unmet = [str(ask) for ask in wanted(name) if pins.get(canonicalize_name(ask.name)) not in ask.specifier]  # type: ignore[operator]

    assert unmet == []


@pytest.mark.parametrize("name", ["dev", "lint"])
def test_development_runs_on_production_versions(name: str) -> None:
    """Packages that two locks share are of one version, so that both install into one environment."""
    base = pinned("base") | pinned("dev")

    assert {
        package: version for package, version in pinned(name).items() if base.get(package, version) != version
    } == {}


def test_development_holds_all_of_production() -> None:
    assert pinned("base").keys() - pinned("dev").keys() == set()


def test_every_lock_has_its_question() -> None:
    files = {file.name for file in (ROOT / "requirements").iterdir()}

    assert files == {f"{name}.{kind}" for name in LOCKS for kind in ("in", "txt")}
