"""The admin's pages for people, keys and assets: they open, and they cannot do what must not be done there."""

import pytest
from django.test import Client

from apps.accounts.audit.models import AuditRecord
from apps.accounts.models import ApiKey, User
from apps.accounts.services import api_key_create, user_create
from apps.core.models import Asset

pytestmark = pytest.mark.django_db


@pytest.fixture
def staff() -> Client:
    user = User.objects.create_superuser("root@example.org", "correct horse battery")
    client = Client()
    client.force_login(user)
    return client


PAGES = ["", "accounts/user/", "accounts/apikey/", "core/asset/", "accounts/user/add/", "core/asset/add/"]


@pytest.mark.parametrize("page", PAGES)
def test_page_opens(staff: Client, page: str) -> None:
    response = staff.get(f"/admin/{page}")
    assert response.status_code == 200
    assert "unsafe-eval" in response["Content-Security-Policy"]


def test_people_who_are_not_staff_stay_outside() -> None:
    client = Client()
    client.force_login(user_create(email="ann@example.org"))
    response = client.get("/admin/accounts/user/")
    assert (response.status_code, response["Location"].split("?")[0]) == (302, "/admin/login/")


def test_login_by_email_leads_to_the_second_factor() -> None:
    user_create(email="ann@example.org", password="correct horse battery", is_staff=True)
    client = Client()
    login = {"username": "Ann@Example.org", "password": "correct horse battery"}
    answer = client.post("/admin/login/?next=/admin/", login)
    assert (answer.status_code, answer["Location"]) == (302, "/admin/second-factor/enrol/")
    assert client.get("/admin/").status_code == 302


def test_person_is_added_lower_case_and_never_deleted(staff: Client) -> None:
    values = {
        "email": "New@Example.org",
        "usable_password": "true",
        "password1": "correct horse battery",
        "password2": "correct horse battery",
    }
    response = staff.post("/admin/accounts/user/add/", values)
    assert response.status_code == 302, response.content.decode()[:2000]
    user = User.objects.get(email="new@example.org")
    assert user.check_password("correct horse battery")
    # The log outlives the account, and nothing in it can be erased.
    record = AuditRecord.objects.get(action="admin.accounts.user.add", target_id=str(user.pk))
    assert (record.after or {})["email"] == "N…@Example.org"
    assert staff.get(f"/admin/accounts/user/{user.pk}/change/").status_code == 200
    assert staff.post(f"/admin/accounts/user/{user.pk}/delete/", {"post": "yes"}).status_code == 403
    assert User.objects.count() == 2


def test_an_email_is_changed_by_its_person_alone(staff: Client) -> None:
    """It is what they sign in with and are written to: it is proved by a code before it changes, and they are told."""
    user = user_create(email="ann@example.org")
    place = f"/admin/accounts/user/{user.pk}/change/"
    page = staff.get(place).content.decode()
    assert "ann@example.org" in page
    assert 'name="email"' not in page

    posted = {"email": "eve@example.org", "fee_tier": "gold", "is_active": "on"}
    assert staff.post(place, posted).status_code == 302

    user.refresh_from_db()
    assert (user.email, user.fee_tier) == ("ann@example.org", "gold")
    record = AuditRecord.objects.get(action="admin.accounts.user.change", target_id=str(user.pk))
    assert (record.before, record.after) == ({"fee_tier": "standard"}, {"fee_tier": "gold"})


def test_key_is_looked_at_and_revoked_but_not_made(staff: Client) -> None:
    user = user_create(email="ann@example.org")
    created = api_key_create(user_id=user.id, name="n", scopes=["plans:read"])
    page = staff.get(f"/admin/accounts/apikey/{created.api_key.pk}/change/")
    assert created.api_key.prefix in page.content.decode()
    assert created.api_key.secret_hash not in page.content.decode()
    assert staff.get("/admin/accounts/apikey/add/").status_code == 403
    action = {"action": "revoke", "_selected_action": [str(created.api_key.pk)]}
    assert staff.post("/admin/accounts/apikey/", action).status_code == 302
    assert ApiKey.objects.get().revoked_at is not None


def test_decimals_of_an_asset_are_frozen(staff: Client) -> None:
    assert (
        staff.post("/admin/core/asset/add/", {"code": "USDC", "name": "USD Coin", "decimals": 6}).status_code
        == 302
    )
    asset = Asset.objects.get()
    change = {"code": "OTHER", "name": "Renamed", "decimals": 18}
    assert staff.post(f"/admin/core/asset/{asset.pk}/change/", change).status_code == 302
    asset.refresh_from_db()
    assert (asset.code, asset.name, asset.decimals) == ("USDC", "Renamed", 6)
    assert staff.post(f"/admin/core/asset/{asset.pk}/delete/", {"post": "yes"}).status_code == 403
