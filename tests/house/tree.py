"""What the house tests read: the checkout's own files, nothing generated."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
CODE = ("config", "workers", "apps")


def read(path: str) -> str:
    return (ROOT / path).read_text()


def modules(*folders: str) -> Iterator[tuple[str, ast.Module]]:
    """(path relative to the checkout, syntax tree) of every Python file below the folders."""
    for folder in folders:
        for file in sorted((ROOT / folder).rglob("*.py")):
            if "node_modules" not in file.parts:
                yield file.relative_to(ROOT).as_posix(), ast.parse(file.read_text())
