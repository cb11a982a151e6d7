"""Every `code` that a problem document may carry: what a client may switch on.

The catalogue of `problems.KINDS`, and below it what the rules of the domain refuse. A test finds the codes in the code
and compares, so that a new one is written down here before anybody can meet it.
"""

from apps.core.api.problems import KINDS

# These documents carry members of their own, and each has its own schema.
EXTENDED_CODES = ("authentication_incomplete", "reauthentication_required", "account_in_use", "not_ready")

# From services, by `DomainError`; its status, detail and pointer say the rest.
DOMAIN_CODES = (
    # accounts
    *("email_differs", "expires_in_the_past", "export_under_way", "invalid_email", "invalid_network"),
    *("invitation_invalid", "invitation_required", "no_second_factor", "too_many_exports", "too_many_keys"),
    *(
        "too_many_networks",
        "totp_exists",
        "unknown_language",
        "unknown_mail",
        "unknown_scope",
        "weak_password",
    ),
    *("remainder_differs", "remainder_withdrawable"),
    # the waitlist
    "invalid_code",
    # deposits
    "deposits_unavailable",
    # plans
    *(
        "ambiguous_cron",
        "bad_anchor",
        "bad_cron",
        "bad_day",
        "bad_interval",
        "bad_kind",
        "bad_limit",
        "bad_time",
    ),
    *("bad_weekdays", "bad_zone", "never_fires", "not_applicable", "out_of_range", "unknown_zone"),
    *("below_minimum", "blank", "budget_below_amount", "budget_below_committed", "budget_residue"),
    *(
        "end_before_start",
        "illegal_transition",
        "invalid_character",
        "max_length",
        "never_runs",
        "nothing_left",
    ),
    *(
        "plan_ended",
        "price_limits_crossed",
        "slippage_above_guard",
        "start_in_past",
        "start_too_far",
        "too_large",
    ),
    *("too_many_plans", "too_often", "version_conflict", "zero"),
    # withdrawals
    *(
        "account_frozen",
        "asset_without_network",
        "bad_checksum",
        "burn_address",
        "contract_address",
        "daily_limit",
    ),
    *(
        "destination_exists",
        "destination_in_use",
        "destination_waiting",
        "fee_above_max",
        "insufficient_funds",
    ),
    *("invalid_address", "not_awaiting_confirmation", "not_cancellable", "own_address", "platform_limit"),
    *("too_many_destinations", "unknown_destination", "withdrawals_disabled", "withdrawals_paused"),
)

PROBLEM_CODES = sorted({*KINDS, *DOMAIN_CODES} - set(EXTENDED_CODES))
