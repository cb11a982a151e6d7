"""Every lock has a test that first shows the race without it: `locks.csv` says which, and no lock may be missing there.

`tests/support/races.py` makes such tests cheap: both jobs run the real code, and the lock is cut out of its statement.
"""

import ast
import csv
import re
from collections.abc import Iterator

from tests.house.tree import modules, read

_LOCKS = re.compile(r"\bFOR (?:NO KEY )?UPDATE\b|\bpg_(?:try_)?advisory_(?:xact_)?lock\b")


def locks() -> set[str]:
    """`file:function` (or the module's constant) of whatever takes a lock in `apps` and `workers`."""
    return {
        f"{path}:{name}"
        for path, tree in modules("apps", "workers")
        if "/migrations/" not in path
        for name in _taking(tree, "")
    }


def _taking(node: ast.AST, within: str) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.ClassDef):
            yield from _taking(child, f"{within}.{child.name}".strip("."))
            continue
        if isinstance(child, ast.Assign) and not within and isinstance(child.targets[0], ast.Name):
            yield from _taking(child, child.targets[0].id)
            continue
        if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant):
            continue  # a docstring
        if isinstance(child, ast.Attribute) and child.attr == "select_for_update":
            yield within
        if isinstance(child, ast.Constant) and isinstance(child.value, str) and _LOCKS.search(child.value):
            yield within
        yield from _taking(child, within)


# Locks that alone keep nobody apart, each with what does.
ORDERLY = {
    f"apps/plans/steps/{name}": "the batch's row, which its claim locks; its slots come before plans and accounts"
    for name in (
        "pricing.py:_await_collection", "pricing.py:_send", "pricing.py:batches_without_quote", "settling.py:_settle",
        "settling.py:_unbought",
    )
}  # fmt: skip


def listed() -> dict[str, str]:
    return {row["lock"]: row["test"] for row in csv.DictReader(read("tests/house/locks.csv").splitlines())}


def test_every_lock_is_in_the_list() -> None:
    assert locks() == set(listed()) | set(ORDERLY)


def test_what_the_list_names_is_there() -> None:
    for lock, test in listed().items():
        path, _, name = test.partition("::")
        assert re.search(rf"^def {name}\(", read(path), re.MULTILINE), (lock, test)
