"""How a wallet is asked to pay: EIP-681 URIs, and their QR codes as SVG."""

import io

import segno

from apps.chain.abi import checksum


def payment_uri(*, address: str, chain_id: int, token_address: str = "") -> str:
    """An EIP-681 request without an amount: `ethereum:<address>@<chain>`, for a token its `transfer`.

    Addresses carry their EIP-55 checksum. Source: EIP-681, sections "Syntax" and "Semantics".
    """
    if not token_address:
        return f"ethereum:{checksum(address)}@{chain_id}"
    return f"ethereum:{checksum(token_address)}@{chain_id}/transfer?address={checksum(address)}"


def qr_svg(text: str) -> str:
    """A QR code (medium error correction) as a whole SVG document that scales to any size and loads nothing."""
    out = io.BytesIO()
    code = segno.make_qr(text, error="m")
    code.save(out, kind="svg", xmldecl=False, svgns=True, omitsize=True, border=4, light="#fff", nl=False)
    return out.getvalue().decode()
