"""The OpenAPI document is valid, complete about problems, and shown by pages that load nothing from elsewhere."""

import re
from typing import Any

import pytest
import yaml
from django.test import Client
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.validation import validate_schema

from tests.core.api.support import ApiClient, problem


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    generator = SchemaGenerator()  # type: ignore[no-untyped-call]
    found: dict[str, Any] = generator.get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    return found


# Problems with members of their own, each with a `code` of its own.
EXTENDED = {
    "401": {"ReauthenticationProblem"},
    "409": {"AccountInUseProblem"},
    "503": {"NotReadyProblem", "StalledProblem"},
}


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [(path, method, operation) for path, methods in document["paths"].items()
            for method, operation in methods.items()]  # fmt: skip


def test_document_is_valid_3_1(document: dict[str, Any]) -> None:
    validate_schema(document)  # type: ignore[no-untyped-call]
    assert document["openapi"].startswith("3.1")
    assert document["components"]["securitySchemes"]["ApiKey"]["scheme"] == "bearer"


def test_every_operation_says_what_can_go_wrong(document: dict[str, Any]) -> None:
    for path, method, operation in operations(document):
        expected = {"500", "503"}
        if operation.get("security") != [{}] and "security" in operation:
            expected |= {"401", "403"}
        if method in ("post", "put", "patch"):
            expected |= {"400", "409", "413", "415"}
        if "{" in path:
            expected.add("404")
        responses = operation["responses"]
        assert expected <= set(responses), (method, path)
        for status, response in responses.items():
            if int(status) >= 400:
                schema = response["content"]["application/problem+json"]["schema"]
                names = {one["$ref"].rpartition("/")[2] for one in schema.get("anyOf", [schema])}
                # A problem; or one that says which step of a sign-in comes next; or those that have more to say.
                step = status == "401" and path.startswith("/api/v1/auth/")
                extended = names - {"Problem"} - ({"IncompleteProblem"} if step else set())
                assert names in [{"Problem"}, {"IncompleteProblem"}] or "Problem" in names, (method, path)
                assert names != {"IncompleteProblem"} or step, (method, path, status)
                assert extended <= EXTENDED.get(status, set()), (method, path, status, names)
                assert response["description"]


def test_every_operation_is_named_and_described(document: dict[str, Any]) -> None:
    found = operations(document)
    names = [operation["operationId"] for _, _, operation in found]
    assert len(set(names)) == len(names) >= 6
    for path, method, operation in found:
        assert operation["summary"], (method, path)
        assert operation["tags"] != ["core"], (method, path)
        assert "A method without an entry" not in operation.get("description", "")


def test_an_answer_has_all_its_members_always(document: dict[str, Any]) -> None:
    """A client that reads one need not ask whether it is there; `null` says that there is nothing."""
    now_and_then = {
        "Flow": {"is_pending", "providers", "types"},
        "ProblemErrorEntry": {"parameter", "pointer"},
    }
    for name, schema in document["components"]["schemas"].items():
        if not name.endswith("Request") and schema.get("type") == "object":
            missing = set(schema["properties"]) - set(schema.get("required", []))
            assert missing == now_and_then.get(name, set()), name


def test_what_is_sent_has_no_default_that_would_be_refused(document: dict[str, Any]) -> None:
    for name, schema in document["components"]["schemas"].items():
        for member, said in schema.get("properties", {}).items():
            if "default" in said and "minLength" in said:
                assert len(said["default"]) >= said["minLength"], (name, member)


def test_names_and_words_are_for_callers(document: dict[str, Any]) -> None:
    """No numbered or patched names, and no notes to whoever writes serializers."""
    schemas = document["components"]["schemas"]
    assert [name for name in schemas if re.search(r"Enum|Patched|[0-9]|WriteRequest", name)] == ["BlankEnum"]
    said = [schema.get("description", "") for schema in schemas.values()]
    assert [text for text in said if re.search(r"context|serializer|base units once|Wants `", text)] == []


def test_every_tag_is_described(document: dict[str, Any]) -> None:
    used = {tag for _, _, operation in operations(document) for tag in operation["tags"]}
    assert used == {tag["name"] for tag in document["tags"]}
    assert all(tag["description"] for tag in document["tags"])


def test_whoever_is_asked_to_wait_is_told_how_long(document: dict[str, Any]) -> None:
    for path, method, operation in operations(document):
        for status in operation["responses"].keys() & {"429", "503"}:
            assert "Retry-After" in operation["responses"][status]["headers"], (method, path)


def test_idempotent_operations_name_the_header(document: dict[str, Any]) -> None:
    parameters = document["paths"]["/api/v1/api-keys"]["post"]["parameters"]
    assert [(item["name"], item["in"], item.get("required", False)) for item in parameters] == [
        ("Idempotency-Key", "header", False)
    ]
    assert {"409", "422", "429"} <= set(document["paths"]["/api/v1/api-keys"]["post"]["responses"])


def test_health_takes_no_key_and_me_does(document: dict[str, Any]) -> None:
    assert "security" not in document["paths"]["/api/v1/health"]["get"]
    assert document["paths"]["/api/v1/me"]["get"]["security"] == [{"AccessToken": []}, {"ApiKey": []}]


def test_schema_is_public_yaml_or_json() -> None:
    response = ApiClient().get("/api/v1/schema")
    assert response.status_code == 200
    assert response["Content-Type"].startswith("application/vnd.oai.openapi")
    from_yaml = yaml.safe_load(response.content)
    response = ApiClient().get("/api/v1/schema", accept="application/json")
    assert response["Content-Type"] == "application/json"
    assert response.json() == from_yaml
    problem(ApiClient().get("/api/v1/schema", accept="image/png"), 406, "not_acceptable")


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/api/v1/docs", "/api/v1/redoc"])
def test_page_fits_its_own_policy(path: str) -> None:
    response = Client().get(path)
    html, policy = response.content.decode(), response["Content-Security-Policy"]
    assert response.status_code == 200
    directives = dict(part.split(" ", 1) for part in policy.split("; "))
    assert directives["default-src"] == "'none'"
    assert directives["script-src"] == "'self'"
    # No inline script and nothing from another host, or the policy would stop it.
    assert re.findall(r"<script(?![^>]*\bsrc=)", html) == []
    loaded = re.findall(r'(?:src|href|spec-url)="([^"]+)"', html)
    assert loaded
    for address in loaded:
        assert address.startswith("/"), address
        answer = Client().get(address.replace("&amp;", "&"))
        assert answer.status_code == 200, address
        answer.close()


def test_other_answers_have_the_strict_policy() -> None:
    policy = Client().get("/api/v1/health")["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_docs_pages_answer_problems_too() -> None:
    problem(ApiClient().post("/api/v1/docs", {"a": 1}), 405, "method_not_allowed")


@pytest.mark.django_db
def test_admin_login_page_has_its_own_policy() -> None:
    response = Client().get("/admin/login/")
    assert response.status_code == 200
    assert "script-src 'self' 'unsafe-inline' 'unsafe-eval'" in response["Content-Security-Policy"]
