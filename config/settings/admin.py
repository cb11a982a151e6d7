"""The admin's looks (django-unfold) and what its pages may load."""

from typing import Any

from csp.constants import NONE, SELF, UNSAFE_EVAL, UNSAFE_INLINE
from django.http import HttpRequest
from django.urls import reverse_lazy


def _item(title: str, icon: str, route: str) -> dict[str, Any]:
    """A line of the sidebar, for whoever may open its page."""
    app, _, model = route.partition("_")

    def permission(request: HttpRequest) -> bool:
        return any(request.user.has_perm(f"{app}.{verb}_{model}") for verb in ("view", "change"))

    link = reverse_lazy(f"admin:{route}_changelist")
    return {"title": title, "icon": icon, "link": link, "permission": permission}


UNFOLD: dict[str, Any] = {
    "SITE_TITLE": "Tranche",
    "SITE_HEADER": "Tranche",
    "SITE_SUBHEADER": "Every slot one outcome",
    "SITE_SYMBOL": "stacked_line_chart",
    "SHOW_HISTORY": True,
    "SHOW_VIEW_ON_SITE": False,
    "SIDEBAR": {
        "show_search": True,
        "show_all_applications": True,
        "navigation": [
            {
                "title": "People",
                "items": [
                    _item("Users", "person", "accounts_user"),
                    _item("API keys", "key", "accounts_apikey"),
                    _item("Live streams", "stream", "stream_openstream"),
                    _item("Sessions", "devices", "accounts_session"),
                    _item("Audit log", "history", "accounts_auditrecord"),
                    _item("Audit checks", "verified_user", "accounts_auditcheck"),
                    _item("Data exports", "folder_zip", "accounts_dataexport"),
                ],
            },
            {
                "title": "Launch",
                "items": [
                    _item("Platform", "toggle_on", "launch_platformstate"),
                    _item("Waitlist", "hourglass_top", "launch_waitlistentry"),
                    _item("Invitation batches", "outgoing_mail", "launch_invitationbatch"),
                    _item("Invitations", "mail", "launch_invitation"),
                ],
            },
            {
                "title": "Buying",
                "items": [
                    _item("Plans", "event_repeat", "plans_plan"),
                    _item("Slots", "checklist", "plans_slot"),
                    _item("Batches", "inventory_2", "plans_batch"),
                    _item("Markets", "storefront", "providers_market"),
                    _item("Venues", "swap_horiz", "providers_venue"),
                    _item("Price feeds", "sensors", "providers_pricefeed"),
                    _item("Fee schedules", "percent", "fees_feeschedule"),
                ],
            },
            {
                "title": "Money",
                "items": [
                    _item("Assets", "toll", "core_asset"),
                    _item("Accounts", "account_balance", "ledger_account"),
                    _item("Journals", "menu_book", "ledger_journal"),
                    _item("Reserves", "verified", "treasury_reservessnapshot"),
                    _item("Pauses", "pause_circle", "treasury_pause"),
                    _item("Sweeps", "move_to_inbox", "deposits_sweep"),
                ],
            },
            {
                "title": "Deposits",
                "items": [
                    _item("Deposits", "south_west", "deposits_deposit"),
                    _item("Addresses", "qr_code_2", "deposits_depositaddress"),
                    _item("Rules", "rule", "deposits_depositrule"),
                    _item("Holdings", "savings", "deposits_holding"),
                    _item("Monitor", "radar", "deposits_scan"),
                    _item("Rescans", "manage_search", "deposits_rescan"),
                ],
            },
            {
                "title": "Withdrawing",
                "items": [
                    _item("Withdrawals", "outbound", "withdrawals_withdrawal"),
                    _item("Withdrawal rules", "rule", "withdrawals_withdrawalrule"),
                    _item("Destinations", "contacts", "withdrawals_withdrawaldestination"),
                ],
            },
            {
                "title": "Mail",
                "items": [
                    _item("Messages", "mail", "mail_message"),
                    _item("Suppressed addresses", "block", "mail_suppression"),
                    _item("Unsubscriptions", "unsubscribe", "mail_unsubscription"),
                    _item("Provider's word", "forward_to_inbox", "mail_providerevent"),
                    _item("Digests", "calendar_today", "notifications_digest"),
                    _item("Untold events", "report", "notifications_untold"),
                    _item("Mailbox (development)", "inbox", "mail_letter"),
                ],
            },
            {
                "title": "Chain",
                "items": [
                    _item("Networks", "lan", "chain_network"),
                    _item("Endpoints", "dns", "chain_rpcendpoint"),
                    _item("Transactions", "send", "chain_outboundtransaction"),
                    _item("Rechecks", "published_with_changes", "chain_recheck"),
                    _item("Wallets", "wallet", "chain_wallet"),
                    _item("Tokens", "generating_tokens", "chain_token"),
                    _item("Signer rules", "policy", "chain_signerrule"),
                ],
            },
        ],
    },
}

# Unfold's pages evaluate Alpine expressions and carry inline scripts and styles; they frame only themselves.
ADMIN_POLICY: dict[str, Any] = {
    "default-src": [NONE],
    "base-uri": [SELF],
    "connect-src": [SELF],
    "font-src": [SELF],
    "form-action": [SELF],
    "frame-ancestors": [SELF],
    "img-src": [SELF, "data:"],
    "script-src": [SELF, UNSAFE_INLINE, UNSAFE_EVAL],
    "style-src": [SELF, UNSAFE_INLINE],
}

# For how long a second factor that was shown to the admin stands: a working day.
ADMIN_SESSION_SECONDS = 12 * 3_600
