"""`.env.example` and the code name the same variables, and only `config/env.py` reads them."""

import ast
import re

from tests.house.tree import CODE, modules, read

READERS = {"text", "integer", "flag", "words", "database", "keyring"}
ENTRY = re.compile(r"^(?:# )?([A-Z][A-Z0-9_]+)=", re.MULTILINE)
# The sandbox hands environments to the processes it starts; config/env.py is the reader.
MAY_TOUCH_ENVIRON = ("config/env.py", "apps/sandbox/")


def variables_read() -> dict[str, set[str]]:
    """Variable name to the files of config/ that read it through config.env."""
    found: dict[str, set[str]] = {}
    for path, tree in modules("config"):
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in READERS
                and isinstance(node.func.value, ast.Name)
                and node.func.value.id == "env"
                and isinstance(node.args[0], ast.Constant)
            ):
                found.setdefault(str(node.args[0].value), set()).add(path)
    return found


def variables_explained() -> dict[str, str]:
    """Variable name to the comment above it (which may stand above several)."""
    explained: dict[str, str] = {}
    comment: list[str] = []
    for line in read(".env.example").splitlines():
        if entry := ENTRY.match(line):
            explained[entry[1]] = " ".join(comment)
        elif line.startswith("#"):
            comment.append(line.lstrip("# "))
        else:
            comment = []
    return explained


def of_others(comment: str) -> bool:
    return "[compose]" in comment or "[flower]" in comment


def test_every_variable_that_is_read_is_explained() -> None:
    assert {
        name: files for name, files in variables_read().items() if name not in variables_explained()
    } == {}


def test_every_variable_that_is_explained_is_read() -> None:
    ours = {name for name, comment in variables_explained().items() if not of_others(comment)}

    assert ours - set(variables_read()) == set()


def test_every_variable_has_a_sentence_of_explanation() -> None:
    assert [name for name, comment in variables_explained().items() if len(comment.split()) < 2] == []


def test_no_variable_is_listed_twice() -> None:
    names = ENTRY.findall(read(".env.example"))

    assert len(names) == len(set(names))


def test_variables_of_compose_and_flower_are_used_by_compose() -> None:
    compose = read("docker-compose.yml")
    theirs = [name for name, comment in variables_explained().items() if of_others(comment)]

    assert theirs == ["POSTGRES_PASSWORD", "FLOWER_BASIC_AUTH"]
    assert [name for name in theirs if f"${{{name}" not in compose] == []


def test_what_production_requires_is_marked_required() -> None:
    required = set()
    for path, tree in modules("config/settings"):
        if not path.endswith(("production.py", "common.py")):
            continue
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in READERS
            ):
                default = [word for word in node.keywords if word.arg == "default"]
                passed_on = default and isinstance(default[0].value, ast.Name)
                if (not default or passed_on) and isinstance(node.args[0], ast.Constant):
                    required.add(node.args[0].value)

    assert required == {name for name, comment in variables_explained().items() if "[required]" in comment}


def test_nobody_else_reads_the_environment() -> None:
    readers = [
        f"{path}:{line}"
        for path, tree in modules(*CODE)
        if not path.startswith(MAY_TOUCH_ENVIRON)
        for line in environment_reads(tree)
    ]

    assert readers == []


def environment_reads(tree: ast.Module) -> list[int]:
    """Lines that touch `os.environ` or `os.getenv`; `os.environ.setdefault` is a write and passes."""
    written = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr == "setdefault"
    }
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and node.attr in {"environ", "getenv"}
        and isinstance(node.value, ast.Name)
        and node.value.id == "os"
        and id(node) not in written
    ]
