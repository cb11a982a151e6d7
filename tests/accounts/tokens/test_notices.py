"""What is told of a replay and of a new device: an audit record and mails, once, with where it came from."""

import pytest

from apps.accounts.audit.models import AuditRecord
from apps.mail.models import Message
from tests.accounts.tokens.support import FIREFOX, sign_in, signed_in
from tests.core.api.support import ApiClient

pytestmark = pytest.mark.django_db
REFRESH = "/api/v1/auth/refresh"
CURL = "curl/8.9"


def test_replay_is_audited_and_mailed_once() -> None:
    user, pair, _ = signed_in()
    body = {"refresh_token": pair.refresh_token}
    assert ApiClient().post(REFRESH, body, user_agent=FIREFOX).status_code == 200
    told = AuditRecord.objects.filter(action="session.revoked")
    assert not told.exists()
    for _ in range(2):
        assert ApiClient().post(REFRESH, body, user_agent=CURL).status_code == 401
    record = told.get()
    assert (record.action, record.target_type, record.target_id) == (
        "session.revoked",
        "session",
        str(pair.session_id),
    )
    assert record.before is not None
    assert record.after is not None
    assert (record.before["device"], record.after["device"]) == (FIREFOX, CURL)
    assert (record.after["reason"], record.address) == ("refresh_reuse", "127.0.0.1")
    mail = Message.objects.get()
    assert (mail.to, mail.template, mail.essential) == (user.email, "refresh_reuse", True)
    assert mail.context["device"] == "curl"
    assert pair.refresh_token not in f"{record.before}{record.after}{mail.context}"


def test_new_device_is_mailed_and_a_known_one_is_not() -> None:
    user, _, _ = signed_in()
    sign_in(user, agent=FIREFOX.replace("128.0", "131.0"))
    assert not Message.objects.exists()
    sign_in(user, agent=CURL, address="198.51.100.7")
    mail = Message.objects.get()
    assert (mail.to, mail.template) == (user.email, "new_device")
    assert (mail.context["device"], mail.context["address"]) == ("curl", "198.51.100.7")
