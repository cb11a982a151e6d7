"""Fill an empty database with the sandbox's network, wallet, venues, markets, feeds and fees.

Everything is safe to run again. What real operators do once with commands and the admin, through the same services.
"""

from dataclasses import dataclass
from typing import Any

from django.db import transaction

from apps.chain import services as chain
from apps.chain.models import Network, Wallet
from apps.core.models import Asset
from apps.deposits.models import DepositRule
from apps.deposits.scanning import scans_ensure
from apps.deposits.setup import collecting_allow
from apps.fees.models import FeeSchedule
from apps.fees.services import fee_schedule_set
from apps.ledger.models import Journal
from apps.providers import services as providers
from apps.providers.models import Market, PriceFeed, Venue
from apps.sandbox.runtime.deployment import Deployment
from apps.treasury.services import equity_fund
from apps.withdrawals.models import WithdrawalRule
from apps.withdrawals.services import payouts_allow

ETHER = 10**18
# The least deposit is a whole unit's ten-thousandth.
_MINIMUM_PARTS = 10_000
# What a withdrawal's quote counts with, in units of gas; what is not burned goes back.
_NATIVE_GAS, _TOKEN_GAS = 21_000, 65_000
_V3_SINGLE = "exactInputSingle((address,address,uint24,address,uint256,uint256,uint256,uint160))"
_V2_SWAP = "swapExactTokensForTokens(uint256,uint256,address[],address,uint256)"

# sold, bought, smallest buy in whole units of the sold asset (as a string of its decimals)
MARKETS = (
    ("USDC", "WETH", 1_000_000),
    ("USDC", "WBTC", 1_000_000),
    ("USDC", "LINK", 1_000_000),
    ("WETH", "WBTC", 10**15),
)


@dataclass(frozen=True)
class Seeded:
    """What the seed made, for those who go on from it."""

    network: Network
    wallet: Wallet
    assets: dict[str, Asset]
    markets: dict[tuple[str, str], Market]


def seed(
    deployment: Deployment, *, rpc_url: str, confirmations: int = 2, block_time_seconds: int = 1
) -> Seeded:
    """Make the platform ready to trade on the sandbox's chain; asks the chain for the tokens' decimals."""
    native, _ = Asset.objects.get_or_create(code="ETH", defaults={"name": "Ether", "decimals": 18})
    network = chain.network_create(
        chain_id=deployment.chain_id,
        name="Sandbox",
        native_asset_id=native.pk,
        confirmations=confirmations,
        block_time_seconds=block_time_seconds,
    )
    chain.endpoint_add(network_id=network.pk, name="anvil", url=rpc_url)
    assets = {"ETH": native}
    for symbol, info in deployment.tokens.items():
        token = chain.token_register(
            network_id=network.pk, asset_code=symbol, name=info.name, address=info.address
        )
        assets[symbol] = token.asset
    wallet = Wallet.objects.filter(role="swap").first() or chain.wallet_create(role="swap", name="Swaps")
    with transaction.atomic():
        _feeds(network, assets, deployment)
        markets = _markets(network, assets, deployment)
        _limits(network, wallet, assets, deployment)
        gas_wallet = Wallet.objects.filter(role="gas").first() or chain.wallet_create(role="gas", name="Gas")
        chain.wallet_cap_set(
            wallet_id=gas_wallet.pk,
            asset_id=native.pk,
            per_transaction_units=ETHER,
            daily_units=50 * ETHER,
        )
        collecting_allow(network_id=network.pk)
        if not FeeSchedule.objects.exists():
            fee_schedule_set(tier="standard", bps=50)
            fee_schedule_set(tier="premium", bps=20)
    return Seeded(network, wallet, assets, markets)


def money_open(seeded: Seeded) -> None:
    """Accept deposits of every asset, and withdrawals: terms, the monitor's place, lines for the signer.

    The terms are those of a first run; what somebody changed since in the admin stays.
    """
    scans_ensure()
    native_id = seeded.network.native_asset_id
    for asset in seeded.assets.values():
        scale = 10**asset.decimals
        DepositRule.objects.get_or_create(
            asset=asset, defaults={"minimum_units": max(1, scale // _MINIMUM_PARTS)}
        )
        WithdrawalRule.objects.get_or_create(
            asset=asset,
            defaults={
                "minimum_units": 1,
                "gas_units": _NATIVE_GAS if asset.pk == native_id else _TOKEN_GAS,
                "person_daily_units": 1_000_000 * scale,
                "platform_hourly_units": 10_000_000 * scale,
                "approval_above_units": 100_000 * scale,
            },
        )
        payouts_allow(asset_id=asset.pk)


def gas_fund(seeded: Seeded, market_maker: Any, *, ether: int = 100) -> None:
    """Give the wallets that swap and that top up gas money on chain, booked as the platform's equity; once each.

    Killed between the two, the next start finds the coin given and books it.
    """
    wei = ether * ETHER
    for wallet in Wallet.objects.filter(role__in=["swap", "gas"]).order_by("created_at"):
        reference = f"gas:{wallet.pk}"
        if Journal.objects.filter(reference=f"equity:{reference}").exists():
            continue
        market_maker.give_once(symbol="ETH", to=wallet.address, units=wei, reference=reference)
        equity_fund(
            asset_id=seeded.assets["ETH"].pk,
            amount_units=wei,
            reference=reference,
            note="gas money",
            actor="sandbox",
            wallet_id=wallet.pk,
        )


def _feeds(network: Network, assets: dict[str, Asset], deployment: Deployment) -> None:
    for symbol, address in deployment.feeds.items():
        for code in ("WETH", "ETH") if symbol == "WETH" else (symbol,):
            PriceFeed.objects.update_or_create(
                asset=assets[code],
                defaults={
                    "network": network,
                    "aggregator_address": address,
                    "quote_currency": "USD",
                    # The sandbox's feeds are pushed at each travel; its clock leaps by weeks between pushes.
                    "max_age_seconds": 2 * 86_400,
                },
            )


def _markets(
    network: Network, assets: dict[str, Asset], deployment: Deployment
) -> dict[tuple[str, str], Market]:
    contracts = deployment.contracts
    v2, _ = Venue.objects.get_or_create(
        network=network,
        name="Uniswap V2",
        defaults={
            "kind": "uniswap_v2",
            "router_address": contracts["v2_router"],
            "factory_address": contracts["v2_factory"],
        },
    )
    v3, _ = Venue.objects.get_or_create(
        network=network,
        name="Uniswap V3",
        defaults={
            "kind": "uniswap_v3",
            "router_address": contracts["v3_router"],
            "factory_address": contracts["v3_factory"],
            "quoter_address": contracts["v3_quoter"],
        },
    )
    made = {}
    for sold, bought, minimum in MARKETS:
        market, _ = Market.objects.get_or_create(
            network=network,
            sold_asset=assets[sold],
            bought_asset=assets[bought],
            defaults={"min_trade_units": minimum, "guard_bps": 200},
        )
        made[sold, bought] = market
        for pool in deployment.pools:
            if {pool.token0, pool.token1} == {sold, bought}:
                venue, fees = (v2, []) if "v2" in pool.venue else (v3, [pool.fee_pips])
                providers.route_add(market_id=market.pk, venue_id=venue.pk, pool_fees=fees)
    return made


def _limits(network: Network, wallet: Wallet, assets: dict[str, Asset], deployment: Deployment) -> None:
    """The signer's allow-list and caps: two router functions, approvals of the two routers, nothing else."""
    v2, v3 = deployment.contracts["v2_router"], deployment.contracts["v3_router"]
    chain.signer_rule_allow(
        network_id=network.pk,
        to=v2,
        signature=_V2_SWAP,
        amount_path="0",
        token_path="2.0",  # noqa: S106 — a path into call data
        recipient_path="3",
        wallet_role="swap",
    )
    chain.signer_rule_allow(
        network_id=network.pk,
        to=v3,
        signature=_V3_SINGLE,
        amount_path="0.5",
        token_path="0.0",  # noqa: S106 — a path into call data
        recipient_path="0.3",
        wallet_role="swap",
    )
    for symbol, info in deployment.tokens.items():
        for router in (v2, v3):
            chain.signer_rule_allow(
                network_id=network.pk,
                to=info.address,
                signature="approve(address,uint256)",
                amount_path="1",
                recipient_path="0",
                recipient=router,
                wallet_role="swap",
                counts_daily=False,
            )
        scale = 10**info.decimals
        chain.wallet_cap_set(
            wallet_id=wallet.pk,
            asset_id=assets[symbol].pk,
            per_transaction_units=100_000_000 * scale,
            daily_units=1_000_000_000 * scale,
        )
    chain.wallet_cap_set(
        wallet_id=wallet.pk,
        asset_id=assets["ETH"].pk,
        per_transaction_units=1_000 * ETHER,
        daily_units=10_000 * ETHER,
    )
