"""The best way to fill an amount now: every route asked in one batch, compared after gas."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from apps.core.errors import Terminal
from apps.providers import selectors
from apps.providers.adapters import adapter_for
from apps.providers.breaker import breaker_admit, breaker_record
from apps.providers.client import ChainView, chain_view
from apps.providers.domain import Fill, Quote, ReferencePrice, RouteQuote, RouteSpec, SwapCall
from apps.providers.errors import NoRoute, QuoteUnusableError
from apps.providers.fills import fill_from_logs
from apps.providers.services.reference import answers_of, feed_calls, feeds_of, reference_of

_RETRY_SECONDS = 15.0


def quotes_best(*, market_id: UUID, amount_in_units: int) -> Quote:
    """The route that leaves the most bought units for `amount_in_units` after its gas is paid for.

    All routes of healthy venues and the price feeds are read at one block in one batch, so that the quote and
    its reference agree about "now". Ties go to the older route. Five queries at most and two round trips to
    the chain: keep it out of transactions. Raises `NoRoute` or `ReferenceUnavailable` (both retryable), and
    chain's own retryable errors.
    """
    if amount_in_units <= 0:
        raise Terminal("a quote wants a positive amount")
    market = selectors.market_spec_get(market_id=market_id)
    routes = selectors.routes_usable(market_id=market_id)
    admitted = breaker_admit(venue_ids=sorted({route.venue_id for route in routes})) if routes else set()
    asked = [route for route in routes if route.venue_id in admitted]
    if not asked:
        raise NoRoute(f"no healthy venue serves {market.name}", after_seconds=_RETRY_SECONDS)

    wanted = feeds_of(market)
    calls = [adapter_for(route.kind).quote_call(route, amount_in_units) for route in asked]
    view = chain_view(network_id=market.network_id, calls=[*calls, *feed_calls(wanted)])
    answered = _answers_read(asked, view)
    _health_note(answered)
    reference = reference_of(
        market, answers_of(wanted, view, offset=len(calls)), block_number=view.block_number
    )
    return _best(market_id, amount_in_units, answered, view=view, reference=reference)


def swap_build(*, quote: Quote, min_out_units: int, recipient: str, deadline: int) -> SwapCall:
    """The call that executes a quote, with the floor and the deadline enforced on chain.

    `deadline` is in seconds since the epoch, chain's clock. Raises `Terminal` for a floor below 1: a swap
    without a floor is never built.
    """
    if min_out_units < 1:
        raise Terminal("a swap needs a minimum out")
    return adapter_for(quote.route.kind).swap_call(
        quote.route,
        amount_in_units=quote.amount_in_units,
        min_out_units=min_out_units,
        recipient=recipient,
        deadline=deadline,
        gas_units=quote.gas_units,
    )


def fill_read(
    *, market_id: UUID, recipient: str, logs: Sequence[Mapping[str, Any]], venue_id: UUID | None = None
) -> Fill:
    """What a mined swap really moved for `recipient` (who also paid), from its receipt's logs.

    `venue_id` is accepted for venues whose fills would read differently; none does. Raises `FillMissing`.
    """
    del venue_id
    market = selectors.market_spec_get(market_id=market_id)
    return fill_from_logs(
        sold_token=market.sold_token, bought_token=market.bought_token, holder=recipient.lower(), logs=logs
    )


def _answers_read(
    asked: Sequence[RouteSpec], view: ChainView
) -> list[tuple[RouteSpec, RouteQuote | QuoteUnusableError]]:
    read: list[tuple[RouteSpec, RouteQuote | QuoteUnusableError]] = []
    for route, data in zip(asked, view.answers, strict=False):
        answer: RouteQuote | QuoteUnusableError
        try:
            if data is None:
                raise QuoteUnusableError("the venue's contract reverted", faulty=True)
            answer = adapter_for(route.kind).quote_read(route, data)
        except QuoteUnusableError as error:
            answer = error
        except ValueError:
            answer = QuoteUnusableError("the venue's contract answered something else", faulty=True)
        read.append((route, answer))
    return read


def _health_note(answered: Sequence[tuple[RouteSpec, RouteQuote | QuoteUnusableError]]) -> None:
    """A venue fails when all its routes misbehave: one bad pool, or too large an amount, is not its fault."""
    faults = {
        route.venue_id: str(answer)
        for route, answer in answered
        if isinstance(answer, QuoteUnusableError) and answer.faulty
    }
    succeeded = {
        route.venue_id for route, answer in answered if isinstance(answer, RouteQuote) or not answer.faulty
    }
    failed = {venue_id: fault for venue_id, fault in faults.items() if venue_id not in succeeded}
    breaker_record(succeeded=sorted(succeeded), failed=failed)


def _best(
    market_id: UUID,
    amount_in_units: int,
    answered: Sequence[tuple[RouteSpec, RouteQuote | QuoteUnusableError]],
    *,
    view: ChainView,
    reference: ReferencePrice,
) -> Quote:
    considered: list[dict[str, Any]] = []
    best: tuple[int, RouteSpec, RouteQuote] | None = None
    for route, answer in answered:
        entry: dict[str, Any] = {"route_id": str(route.route_id), "venue_id": str(route.venue_id)}
        if isinstance(answer, QuoteUnusableError):
            considered.append({**entry, "unusable": str(answer)})
            continue
        gas_cost_units = reference.native.ceil(answer.gas_units * view.gas_price_units)
        net_units = answer.amount_out_units - gas_cost_units
        considered.append(
            {
                **entry,
                "amount_out_units": str(answer.amount_out_units),
                "gas_units": str(answer.gas_units),
                "net_units": str(net_units),
            }
        )
        if best is None or net_units > best[0]:
            best = (net_units, route, answer)
    if best is None:
        reasons = "; ".join(sorted({str(entry["unusable"]) for entry in considered}))
        raise NoRoute(f"no route takes this amount: {reasons}", after_seconds=_RETRY_SECONDS)
    net_units, route, answer = best
    return Quote(
        market_id=market_id,
        route=route,
        amount_in_units=amount_in_units,
        amount_out_units=answer.amount_out_units,
        gas_units=answer.gas_units,
        gas_price_units=view.gas_price_units,
        net_units=net_units,
        quoted_block=view.block_number,
        reference=reference,
        considered=tuple(considered),
    )
