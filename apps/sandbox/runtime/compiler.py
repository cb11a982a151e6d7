"""Solidity sources to bytecode with npm's `solc`, and the artifacts that Uniswap publishes."""

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apps.sandbox.runtime.errors import SandboxError
from apps.sandbox.runtime.files import content_hash, file_lock, json_read, json_write
from apps.sandbox.runtime.node import node_ensure, node_modules_ensure
from apps.sandbox.runtime.paths import CACHE_DIR, CONTRACTS_DIR


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """A contract that can be deployed: its interface and its creation code."""

    name: str
    abi: list[dict[str, Any]]
    bytecode: bytes


def contract_sources() -> list[Path]:
    """Our own Solidity files."""
    return sorted(CONTRACTS_DIR.glob("*.sol"))


def contracts_compile(sources: Sequence[Path] = ()) -> dict[str, Artifact]:
    """Our contracts (or those of `sources`) by name, compiled once per content and version of the compiler."""
    sources = sources or contract_sources()
    modules = node_modules_ensure()
    key = content_hash([*sources, CONTRACTS_DIR / "package-lock.json"])
    cached = CACHE_DIR / f"contracts-{key}.json"
    with file_lock(CACHE_DIR / "solc.lock"):
        compiled = json_read(cached)
        if compiled is None:
            compiled = _solc(modules, sources)
            json_write(cached, compiled)
    return {
        name: Artifact(name=name, abi=entry["abi"], bytecode=bytes.fromhex(entry["bytecode"]))
        for name, entry in compiled.items()
    }


def artifact_published(*parts: str) -> Artifact:
    """An artifact out of an npm package. Raises `SandboxError` when it needs a library linked into it."""
    path = node_modules_ensure().joinpath(*parts)
    content = json.loads(path.read_text())
    bytecode = str(content["bytecode"]).removeprefix("0x")
    if "_" in bytecode:
        raise SandboxError(f"{path.name} needs a linked library")
    return Artifact(name=path.stem, abi=content["abi"], bytecode=bytes.fromhex(bytecode))


def _solc(modules: Path, sources: Sequence[Path]) -> dict[str, dict[str, Any]]:
    request = {
        "language": "Solidity",
        "sources": {path.name: {"content": path.read_text()} for path in sources},
        "settings": {
            "evmVersion": "shanghai",
            "optimizer": {"enabled": True, "runs": 200},
            "outputSelection": {"*": {"*": ["abi", "evm.bytecode.object"]}},
        },
    }
    result = subprocess.run(
        [str(node_ensure().node), str(CONTRACTS_DIR / "compile.cjs")],
        input=json.dumps(request),
        cwd=modules.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode != 0:
        raise SandboxError(f"solc did not run:\n{result.stderr[-2000:]}")
    answer = json.loads(result.stdout)
    complaints = [entry["formattedMessage"] for entry in answer.get("errors", [])]
    if complaints:
        raise SandboxError("solc complains:\n" + "\n".join(complaints))
    return {
        name: {"abi": contract["abi"], "bytecode": contract["evm"]["bytecode"]["object"]}
        for contracts in answer["contracts"].values()
        for name, contract in contracts.items()
    }
