"""Contracts of tests, compiled by the sandbox's compiler and kept by the content of their source."""

import json
import subprocess
from pathlib import Path

from apps.sandbox.runtime.compiler import Artifact
from apps.sandbox.runtime.files import content_hash, file_lock, json_read, json_write
from apps.sandbox.runtime.node import node_ensure, node_modules_ensure
from apps.sandbox.runtime.paths import CACHE_DIR, CONTRACTS_DIR


def compiled(source: Path) -> dict[str, Artifact]:
    """The contracts of one file, by name."""
    cached = CACHE_DIR / f"test-{content_hash([source])}.json"
    with file_lock(CACHE_DIR / "solc.lock"):
        found = json_read(cached)
        if found is None:
            found = _solc(source)
            json_write(cached, found)
    return {
        name: Artifact(name=name, abi=entry["abi"], bytecode=bytes.fromhex(entry["bytecode"]))
        for name, entry in found.items()
    }


def _solc(source: Path) -> dict[str, dict[str, object]]:
    request = {
        "language": "Solidity",
        "sources": {source.name: {"content": source.read_text()}},
        "settings": {
            "evmVersion": "shanghai",
            "optimizer": {"enabled": True, "runs": 200},
            "outputSelection": {"*": {"*": ["abi", "evm.bytecode.object"]}},
        },
    }
    result = subprocess.run(
        [str(node_ensure().node), str(CONTRACTS_DIR / "compile.cjs")],
        input=json.dumps(request),
        cwd=node_modules_ensure().parent,
        capture_output=True,
        text=True,
        check=True,
    )
    answer = json.loads(result.stdout)
    assert not answer.get("errors"), answer["errors"]
    return {
        name: {"abi": contract["abi"], "bytecode": contract["evm"]["bytecode"]["object"]}
        for name, contract in answer["contracts"][source.name].items()
    }
