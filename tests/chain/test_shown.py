"""What people and operators see of the chain: the API, the admin, the command. Never a key, never an URL."""

import io
import json

import pytest
from django.core.management import call_command
from django.test import Client

from apps.accounts.models import User
from apps.chain import abi, services
from apps.chain.models import Network, RpcEndpoint, Token
from apps.chain.selectors import attempt_newest
from apps.core.errors import NotFound
from tests.chain.conftest import Chain
from tests.core.api.support import ApiClient, user_with_key


@pytest.fixture
def operator(transactional_db: None) -> Client:
    user = User.objects.create_superuser(email="op@example.org", password="a long enough phrase")
    client = Client()
    client.force_login(user)
    return client


def test_networks_show_their_public_facts_and_tokens(chain: Chain, token: Token) -> None:
    _, client = user_with_key()
    response = client.get("/api/v1/networks")
    assert response.status_code == 200
    assert json.loads(response.content) == {
        "data": [
            {
                "id": str(chain.network.pk),
                "name": "anvil",
                "chain_id": 31_337,
                "native_asset": "ETH",
                "confirmations": 3,
                "block_time_seconds": 1,
                "explorer_url": "",
                "status": "running",
                "tokens": [
                    {
                        "asset": "USDC",
                        "name": "USD Coin",
                        "decimals": 6,
                        "address": abi.checksum(token.address),
                    }
                ],
            }
        ]
    }


def test_networks_need_a_key_and_refuse_writing(chain: Chain) -> None:
    _, client = user_with_key()
    assert ApiClient().get("/api/v1/networks").status_code == 401
    assert client.post("/api/v1/networks", {}).status_code == 405


def test_the_admin_shows_every_page_without_key_or_url(chain: Chain, operator: Client) -> None:
    row = chain.sent()
    pages = ["network", "rpcendpoint", "token", "wallet", "signerrule", "outboundtransaction"]
    shown = [operator.get(f"/admin/chain/{page}/") for page in pages]
    shown += [
        operator.get(f"/admin/chain/network/{chain.network.pk}/change/"),
        operator.get(f"/admin/chain/rpcendpoint/{chain.endpoint.pk}/change/"),
        operator.get(f"/admin/chain/wallet/{chain.wallet.pk}/change/"),
        operator.get(f"/admin/chain/outboundtransaction/{row.pk}/change/"),
    ]
    assert [page.status_code for page in shown] == [200] * len(shown)
    text = "".join(page.content.decode() for page in shown)
    assert attempt_newest(row).hash in text
    assert chain.proxy.url not in text
    assert "key_ciphertext" not in text
    assert bytes(attempt_newest(row).raw).hex() not in text


def test_operators_halt_resume_and_cancel(chain: Chain, operator: Client) -> None:
    def act(model: str, action: str, pk: object) -> None:
        answer = operator.post(f"/admin/chain/{model}/", {"action": action, "_selected_action": [str(pk)]})
        assert answer.status_code == 302

    act("network", "halt", chain.network.pk)
    assert Network.objects.get().halted_reason.startswith("halted by")
    act("network", "resume", chain.network.pk)
    assert Network.objects.get().halted_at is None
    row = chain.request()
    act("outboundtransaction", "cancel", row.pk)
    assert chain.read(row).state == "cancelled"
    with pytest.raises(NotFound):
        attempt_newest(chain.read(row))


def test_an_endpoint_s_url_is_changed_in_the_admin_and_kept_when_left_empty(
    chain: Chain, operator: Client
) -> None:
    path = f"/admin/chain/rpcendpoint/{chain.endpoint.pk}/change/"
    form = {"network": str(chain.network.pk), "name": "main", "priority": "3", "enabled": "on", "url": ""}
    before = bytes(RpcEndpoint.objects.get().url_ciphertext)
    assert operator.post(path, form).status_code == 302
    kept = RpcEndpoint.objects.get()
    assert (bytes(kept.url_ciphertext), kept.priority) == (before, 3)
    assert operator.post(path, {**form, "url": "http://127.0.0.1:1/"}).status_code == 302
    assert bytes(RpcEndpoint.objects.get().url_ciphertext) != before


def test_the_command_lists_networks_and_resumes_one(chain: Chain) -> None:
    services.network_halt(network_id=chain.network.pk, reason="to see")
    out = io.StringIO()
    call_command("chain", "networks", "--json", stdout=out)
    (listed,) = json.loads(out.getvalue())
    assert (listed["halted_reason"], listed["endpoints"][0]["health"]) == ("to see", "healthy")
    assert chain.proxy.url not in out.getvalue()
    call_command("chain", "resume", "anvil", stdout=io.StringIO())
    assert Network.objects.get().halted_at is None
