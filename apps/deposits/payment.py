"""How a wallet is asked to pay: EIP-681 URIs."""

from apps.chain.abi import checksum


def payment_uri(*, address: str, chain_id: int, token_address: str = "") -> str:
    """An EIP-681 request without an amount: `ethereum:<address>@<chain>`, for a token its `transfer`.

    Addresses carry their EIP-55 checksum. Source: EIP-681, sections "Syntax" and "Semantics".
    """
    if not token_address:
        return f"ethereum:{checksum(address)}@{chain_id}"
    return f"ethereum:{checksum(token_address)}@{chain_id}/transfer?address={checksum(address)}"
