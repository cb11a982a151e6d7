"""The catalogue of problem codes has every code that the code raises, and none that is never raised."""

import ast
import re
from collections.abc import Iterator
from functools import cache

from apps.core.api.codes import DOMAIN_CODES, EXTENDED_CODES, PROBLEM_CODES
from apps.core.api.problems import KINDS
from tests.house.tree import modules

# Only operators meet these, in the admin and in commands: no route of the API comes there.
OF_OPERATORS = {
    *(
        "already_reversed",
        "amount_not_positive",
        "amount_out_of_range",
        "approved_already",
        "asset_not_meant",
    ),
    *("batch_cancelled", "batch_size", "batch_state", "decimals_differ", "decimals_out_of_range"),
    *(
        "fee_bounds",
        "fee_bps",
        "fee_schedule_exists",
        "fee_tier",
        "fee_valid_from",
        "invalid_key",
        "invalid_range",
    ),
    *("invalid_url", "last_administrator", "network_not_watched", "not_a_staff_role", "not_a_token"),
    *("not_awaiting_approval", "not_covered", "not_final", "not_rejectable", "not_requested", "not_stopped"),
    *(
        "nothing_to_decide",
        "own_roles",
        "own_withdrawal",
        "range_in_future",
        "reason_missing",
        "reference_reused",
    ),
    *("same_person", "state_changed", "state_holds", "stopped_already", "token_not_registered"),
    *("transaction_not_open", "unknown_permission", "unknown_role", "until_in_the_past", "wallet_exists"),
}
_WORD = re.compile(r"[a-z]+(_[a-z]+)*")


def _called(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


@cache
def _refusing() -> frozenset[str]:
    """Names of `DomainError`, of what is made of it, and of what makes one."""
    bases: dict[str, set[str]] = {}
    for _, tree in modules("apps"):
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                bases.setdefault(node.name, set()).update(_called(base) for base in node.bases)
    found = {"DomainError", "ScheduleError"}
    while more := {name for name, of in bases.items() if of & found} - found:
        found |= more
    return frozenset(found | {"refused"})


def _constants(call: ast.Call, assigned: dict[str, ast.expr]) -> Iterator[str]:
    for given in [*call.args[:1], *(word.value for word in call.keywords if word.arg == "code")]:
        value = given.value if isinstance(given, ast.Starred) else given
        if isinstance(value, ast.Name):
            value = assigned.get(value.id, value)
        if isinstance(value, ast.Tuple):
            value = value.elts[0]
        for one in [value.body, value.orelse] if isinstance(value, ast.IfExp) else [value]:
            if isinstance(one, ast.Constant) and _WORD.fullmatch(str(one.value)):
                yield str(one.value)


def raised() -> set[str]:
    """The codes of all domain errors that are made somewhere in `apps`."""
    found: set[str] = set()
    for path, tree in modules("apps"):
        if path.startswith("apps/sandbox/"):
            continue
        assigned = {
            target.id: node.value
            for node in tree.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and node.name in _refusing():
                calls = [one for one in ast.walk(node) if isinstance(one, ast.Call)]
                for call in calls:
                    if _called(call.func) == "__init__":
                        found |= set(_constants(call, assigned))
            if isinstance(node, ast.Call) and _called(node.func) in _refusing():
                found |= set(_constants(node, assigned))
    return found


def test_every_code_is_in_the_catalogue_or_only_an_operator_meets_it() -> None:
    assert raised() - set(KINDS) - set(DOMAIN_CODES) - OF_OPERATORS == set()


def test_nothing_is_in_the_catalogue_that_is_never_raised() -> None:
    assert (set(DOMAIN_CODES) | OF_OPERATORS) - raised() == set()
    assert set(DOMAIN_CODES) & set(KINDS) == set()
    assert len(DOMAIN_CODES) == len(set(DOMAIN_CODES))


def test_a_code_has_one_schema() -> None:
    assert set(EXTENDED_CODES) <= set(KINDS)
    assert set(PROBLEM_CODES) & set(EXTENDED_CODES) == set()
