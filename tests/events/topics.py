"""Finds which topics the code tells people of, by reading it: from each `EventDraft` back to the constants.

A topic that is put together at run time leaves `*` where the code does not say what stands there.
"""

import ast
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from tests.house.tree import modules

Function = ast.FunctionDef | ast.AsyncFunctionDef
UNKNOWN = {"*"}


@dataclass(frozen=True)
class Call:
    """A call, and where it stands."""

    node: ast.Call
    module: str
    function: Function | None


class Code:
    """The domain's modules, and every call in them."""

    @cached_property
    def calls(self) -> dict[str, list[Call]]:
        """By the last part of what is called."""
        found: dict[str, list[Call]] = {}
        for path, tree in modules("apps"):
            if path.startswith("apps/sandbox/"):
                continue
            for call in _calls(tree, path, None):
                called = call.node.func
                name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
                found.setdefault(name, []).append(call)
        return found

    def topics_told_to_people(self) -> set[str]:
        found: set[str] = set()
        for call in self.calls["EventDraft"]:
            subject = _argument(call.node, 1, "subject_type")
            topic = _argument(call.node, 0, "topic")
            assert topic is not None, f"{call.module}:{call.node.lineno} names no topic"
            if self._values(subject, call) == {"person"}:
                values = self._values(topic, call)
                assert values - UNKNOWN == values != set(), f"{call.module}:{call.node.lineno}: which topic?"
                found |= values
        return found

    def _values(self, node: ast.expr | None, at: Call) -> set[str]:
        """Every text that the expression may be."""
        match node:
            case ast.Constant(value=str()):
                return {str(node.value)}
            case ast.IfExp():
                return self._values(node.body, at) | self._values(node.orelse, at)
            case ast.JoinedStr():
                parts = [
                    self._values(part.value if isinstance(part, ast.FormattedValue) else part, at)
                    for part in node.values
                ]
                return {"".join(chosen) for chosen in itertools.product(*parts)}
            case ast.Name() if at.function is not None:
                return self._named(node.id, at, at.function)
            case _:
                return UNKNOWN

    def _named(self, name: str, at: Call, function: Function) -> set[str]:
        parameters = [one.arg for one in (*function.args.posonlyargs, *function.args.args)]
        if name in parameters or name in [one.arg for one in function.args.kwonlyargs]:
            place = parameters.index(name) if name in parameters else None
            found: set[str] = set()
            for call in self.calls.get(function.name, []):
                if _may_mean(call, at.module):
                    found |= self._values(_argument(call.node, place, name), call)
            return found
        assigned = [
            one.value
            for one in ast.walk(function)
            if isinstance(one, ast.Assign)
            and any(isinstance(target, ast.Name) and target.id == name for target in one.targets)
        ]
        return set().union(*(self._values(one, at) for one in assigned)) if assigned else UNKNOWN


def _calls(node: ast.AST, module: str, function: Function | None) -> Iterator[Call]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Call):
            yield Call(child, module, function)
        inner = child if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) else function
        yield from _calls(child, module, inner)


def _argument(call: ast.Call, place: int | None, name: str) -> ast.expr | None:
    for word in call.keywords:
        if word.arg == name:
            return word.value
    return call.args[place] if place is not None and place < len(call.args) else None


def _may_mean(call: Call, module: str) -> bool:
    """Whether a call of that name may be of the module's function: by its bare name, or as `module.name`."""
    called = call.node.func
    if isinstance(called, ast.Attribute):
        stem = module.rpartition("/")[2].removesuffix(".py")
        return isinstance(called.value, ast.Name) and called.value.id == stem
    return call.module == module or not getattr(called, "id", "_").startswith("_")
