"""What the chain room does for others. Reads of stored rows are in `apps.chain.selectors`."""

from apps.chain.domain import Call, CallReverted, Header, HeldBlock, Movement, Reading
from apps.chain.errors import AnswerTooLarge
from apps.chain.logs import blocks_read, movements_read
from apps.chain.services.booking import transactions_book
from apps.chain.services.evidence import (
    BalanceAsk,
    balances_read,
    first_block_holding,
    nonce_read,
    receipts_read,
)
from apps.chain.services.networks import (
    endpoint_add,
    network_create,
    network_halt,
    network_resume,
    token_register,
)
from apps.chain.services.reads import (
    block_number_read,
    block_read,
    calls_at_head_read,
    calls_read,
    fees_read,
    gas_estimates_read,
    max_fee_read,
    native_balance_read,
    native_balances_read,
    token_balance_read,
    token_balances_read,
)
from apps.chain.services.rechecks import recheck_settle
from apps.chain.services.transactions import (
    Intent,
    transaction_cancel,
    transaction_request,
    transaction_retry,
    transactions_request,
)
from apps.chain.services.wallets import (
    deposit_wallet_open,
    signer_rule_allow,
    wallet_cap_set,
    wallet_create,
    wallet_import,
)
from apps.chain.tracing import traces_offered

__all__ = [
    "AnswerTooLarge", "BalanceAsk", "Call", "CallReverted", "Header", "HeldBlock", "Intent", "Movement", "Reading",
    "balances_read", "block_number_read", "block_read", "blocks_read", "calls_at_head_read", "calls_read",
    "deposit_wallet_open", "endpoint_add", "fees_read", "first_block_holding", "gas_estimates_read", "max_fee_read",
    "movements_read", "native_balance_read", "native_balances_read", "network_create", "network_halt",
    "network_resume", "nonce_read", "receipts_read", "recheck_settle", "signer_rule_allow",
    "token_balance_read", "token_balances_read",
    "token_register",
    "traces_offered", "transaction_cancel", "transaction_request", "transaction_retry", "transactions_book",
    "transactions_request", "wallet_cap_set", "wallet_create", "wallet_import",
]  # fmt: skip
