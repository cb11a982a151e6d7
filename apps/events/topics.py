"""What a person may be told, topic by topic: the catalogue behind docs/api.md.

A test finds the topics in the code and compares; so a new one is described here before it can be told.
"""

from collections.abc import Mapping

PERSON_TOPICS: Mapping[str, str] = {
    "plan.created": "a plan was made",
    "plan.updated": "its terms changed; `changed` names them",
    "plan.paused": "it buys no more until it is resumed; `reason` says why",
    "plan.resumed": "it buys again",
    "plan.cancelled": "it is over, by your wish",
    "plan.completed": "it is over: budget spent, or the last run done",
    "execution.settled": "a slot bought: what was sold, the fee, what was received",
    "execution.skipped": "a slot did not buy, by rule or for want of funds; `reason` says why",
    "execution.failed": "a slot should have bought and could not; nothing was spent",
    "deposit_address.opened": "you have a deposit address",
    "deposit.seen": "a deposit is in a block",
    "deposit.confirming": "it was checked, and waits to be final",
    "deposit.credited": "it is in your balance",
    "deposit.ignored": "it is below the minimum, and waits for more",
    "deposit.unsupported": "it is not credited by itself; `reason` says why",
    "deposit.orphaned": "its block was taken back before the credit",
    "deposit.reversed": "its block was taken back after the credit, and so was the credit",
    "deposit.frozen": "it was taken back when it was spent already: you owe it",
    "debt.written_off": "an operator let you off what you owed",
    "balance.credited": "an operator credited you",
    "withdrawal_destination.added": "a withdrawal address was added; `usable_at` says from when it counts",
    "withdrawal_destination.removed": "it was removed",
    "withdrawal.requested": "a withdrawal was asked for, and its amount is held",
    "withdrawal.awaiting_confirmation": "it waits for your second factor",
    "withdrawal.awaiting_approval": "it waits for operators",
    "withdrawal.approved": "it is to be sent",
    "withdrawal.sent": "it is on its way on chain",
    "withdrawal.confirmed": "it has arrived, finally",
    "withdrawal.failed": "nothing left; the amount is available again",
    "withdrawal.cancelled": "you took it back",
    "withdrawal.rejected": "an operator refused it; `reason` says why",
    "person.frozen": "nothing is bought or withdrawn for you until `person.unfrozen`",
    "person.unfrozen": "buying and withdrawing go on",
    "session.opened": "somebody signed in as you; `new_device` says whether from a device that never did",
    "session.revoked": "a session was ended; `reason` says why",
}
