"""Every letter there is. A name stands for `templates/mail/<language>/<name>.mail`."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from apps.mail.domain import Template

_CODE = frozenset({"code"})
_TEN_MINUTES = timedelta(minutes=10)
_FROM_WHERE: Final[Mapping[str, Any]] = {
    "address": "203.0.113.7",
    "device": "Firefox on Linux",
    "at": "21 November 2026, 09:41 UTC",
}
_WITHDRAWAL: Final[Mapping[str, Any]] = {
    "amount": "250",
    "asset": "USDC",
    "fee": "0.35",
    "sent": "249.65",
    "destination": "0x52908400098527886E0F7030069857D2E4169EE7",
    "step": "sent",
    "reason": "",
    "transaction_hash": "0x9fc76417374aa880d4449a1f7f31ec597f00b1f6f3dd2d66f4c9c6c445836d8b",
}
_BUY: Final[Mapping[str, Any]] = {
    "plan_name": "Ether every Monday",
    "number": 14,
    "spent": "50",
    "sold_asset": "USDC",
    "fee": "0.25",
    "received": "0.0213984",
    "bought_asset": "WETH",
    "at": "Monday 16 November 2026, 09:00 CET",
    "transaction_hash": "0x9fc76417374aa880d4449a1f7f31ec597f00b1f6f3dd2d66f4c9c6c445836d8b",
}

_ALL = (
    # People prove that an address is theirs.
    Template(
        "code",
        "A code that proves an email address",
        secrets=_CODE,
        lifetime=_TEN_MINUTES,
        sample={"code": "402913", "minutes": 10},
    ),
    Template(
        "password_reset_code",
        "A code to set a new password",
        secrets=_CODE,
        lifetime=_TEN_MINUTES,
        sample={"code": "KZTW-QBRM", "minutes": 10},
    ),
    Template(
        "waitlist_code",
        "A code to join the waitlist",
        secrets=_CODE,
        lifetime=_TEN_MINUTES,
        sample={"code": "402913", "minutes": 10},
    ),
    Template("unknown_account", "Somebody tried an address that has no account", sample=_FROM_WHERE),
    Template("account_exists", "Somebody tried to sign up a second time", sample=_FROM_WHERE),
    Template("welcome", "The account is open"),
    # Somebody's account changed: always sent.
    Template("new_device", "A sign-in from a new device", sample=_FROM_WHERE),
    Template("refresh_reuse", "A used token came back: the session was ended", sample=_FROM_WHERE),
    Template("password_changed", "The password was changed", sample=_FROM_WHERE),
    Template("password_reset", "The password was reset", sample=_FROM_WHERE),
    Template(
        "email_changed",
        "The email address was changed",
        sample={"from_email": "old@example.com", "to_email": "new@example.com", **_FROM_WHERE},
    ),
    Template("factor_added", "A second factor was added", sample={"factor": "passkey", **_FROM_WHERE}),
    Template("factor_removed", "A second factor was removed", sample={"factor": "totp", **_FROM_WHERE}),
    Template("recovery_code_used", "A recovery code was used", sample={"codes_left": 9, **_FROM_WHERE}),
    Template("recovery_codes_made", "New recovery codes were made", sample=_FROM_WHERE),
    Template(
        "provider_connected", "A Google account was connected", sample={"provider": "Google", **_FROM_WHERE}
    ),
    Template(
        "provider_removed", "A Google account was disconnected", sample={"provider": "Google", **_FROM_WHERE}
    ),
    # Money and plans: each of a kind that can be muted.
    Template(
        "deposit_credited",
        "A deposit arrived",
        kind="deposit_credited",
        sample={
            "amount": "1250.5",
            "asset": "USDC",
            "network": "Base",
            "transaction_hash": _BUY["transaction_hash"],
        },
    ),
    Template("buy_done", "A buy was made", kind="buy_done", sample=_BUY),
    Template(
        "buy_digest",
        "The buys of a day",
        kind="buy_done",
        sample={
            "day": "Monday 16 November 2026",
            "buys": [
                dict(_BUY),
                {
                    **_BUY,
                    "plan_name": "Bitcoin daily",
                    "spent": "20",
                    "received": "0.00031",
                    "bought_asset": "WBTC",
                },
            ],
            "count": 2,
            "skipped": [
                {"plan_name": "Bitcoin daily", "number": 31, "why": "The price was above your limit."}
            ],
        },
    ),
    Template(
        "buy_skipped",
        "A buy was skipped, and why",
        kind="buy_skipped",
        sample={
            "plan_name": "Ether every Monday",
            "number": 15,
            "amount": "50",
            "asset": "USDC",
            "why": "The price was above the limit that you set.",
            "next": "The plan goes on at its next date.",
            "at": "Monday 23 November 2026, 09:00 CET",
        },
    ),
    Template(
        "plan_paused",
        "A plan was paused",
        kind="plan_paused",
        sample={"plan_name": "Ether every Monday", "reason": "insufficient_funds"},
    ),
    Template(
        "funds_low",
        "Funds run low",
        kind="funds_low",
        sample={
            "assets": [
                {
                    "asset": "USDC",
                    "available": "85.5",
                    "planned": "190",
                    "lasts": "about 3 days",
                    "next_at": "Monday 23 November 2026, 09:00 UTC",
                    "short_at": "Tuesday 24 November 2026, 09:00 UTC",
                }
            ]
        },
    ),
    Template(
        "withdrawal_requested",
        "A withdrawal was asked for",
        sample={name: _WITHDRAWAL[name] for name in ("amount", "asset", "fee", "destination")},
    ),
    Template("withdrawal_step", "A withdrawal went one step on", kind="withdrawal_steps", sample=_WITHDRAWAL),
    # Launch and one's own data.
    Template(
        "waitlist",
        "A place on the waitlist",
        sample={"position": 128, "referral_code": "K7QX2M"},
    ),
    Template(
        "invitation",
        "An invitation to sign up",
        secrets=_CODE,
        lifetime=timedelta(days=14),
        sample={"code": "7mQ0vJc3uXf2Zk9sTn4bRw1yLh6dGa8eVp5iOxC-uBE", "days": 14},
    ),
    Template(
        "export_ready",
        "One's data can be downloaded",
        sample={"days": 7, "expires_at": "28 November 2026, 09:41 UTC"},
    ),
    Template("account_closed", "The account was closed"),
)

TEMPLATES: Final[Mapping[str, Template]] = {template.name: template for template in _ALL}


def template_get(name: str) -> Template:
    """Raises `ValueError`: what is not here cannot be sent, and its caller should hear so at once."""
    try:
        return TEMPLATES[name]
    except KeyError:
        raise ValueError(f"there is no mail template {name!r}") from None
