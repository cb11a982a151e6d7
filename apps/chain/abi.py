"""Contract ABI: call data, return data, topics. The only door to eth_abi and eth_utils.

Those two are imported at their first use: they take a seventh of what starting a process does.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from eth_hash.auto import keccak

_ERROR = bytes.fromhex("08c379a0")  # Error(string), Solidity's require
_PANIC = bytes.fromhex("4e487b71")  # Panic(uint256), Solidity's assert
TRANSFER_SIGNATURE = "Transfer(address,address,uint256)"


def argument_types(signature: str) -> list[str]:
    """Split `name(a,(b,c)[],d)` into its top-level types; raises `ValueError` for anything else."""
    name, bracket, rest = signature.partition("(")
    if not name or not bracket or not rest.endswith(")"):
        raise ValueError(f"not a function signature: {signature!r}")
    types, depth, start = [], 0, 0
    body = rest[:-1]
    for position, character in enumerate(body):
        depth += (character == "(") - (character == ")")
        if character == "," and depth == 0:
            types.append(body[start:position])
            start = position + 1
    return [*types, body[start:]] if body else []


@lru_cache(maxsize=512)
def selector(signature: str) -> bytes:
    """The first four bytes of the signature's hash."""
    argument_types(signature)
    return keccak(signature.encode())[:4]


@lru_cache(maxsize=512)
def topic(signature: str) -> str:
    """`topics[0]` of an event, in hex."""
    return "0x" + keccak(signature.encode()).hex()


def keccak_bytes(data: bytes) -> bytes:
    """Keccak-256, which is not SHA3-256."""
    return keccak(data)


def encode(types: Sequence[str], values: Sequence[Any]) -> bytes:
    from eth_abi.abi import encode as _encode

    return bytes(_encode(list(types), list(values)))


def call_data(signature: str, values: Sequence[Any]) -> str:
    """Hex call data: `call_data("transfer(address,uint256)", [to, units])`."""
    return "0x" + (selector(signature) + encode(argument_types(signature), values)).hex()


def decode(types: Sequence[str], data: bytes | str) -> tuple[Any, ...]:
    """Decode return data or log data; raises `ValueError` when it does not fit the types."""
    from eth_abi.abi import decode as _decode
    from eth_abi.exceptions import DecodingError

    raw = bytes.fromhex(data.removeprefix("0x")) if isinstance(data, str) else bytes(data)
    try:
        return tuple(_decode(list(types), raw))
    except (DecodingError, OverflowError) as error:
        raise ValueError(f"data of {len(raw)} bytes does not fit ({','.join(types)})") from error


def arguments(signature: str, data: bytes | str) -> tuple[Any, ...]:
    """Decode call data; it must be exactly what encoding the result gives, so that nothing hides in it.

    Raises `ValueError` for another selector, bad encoding or trailing bytes.
    """
    raw = bytes.fromhex(data.removeprefix("0x")) if isinstance(data, str) else bytes(data)
    types = argument_types(signature)
    if raw[:4] != selector(signature):
        raise ValueError("another function's selector")
    values = decode(types, raw[4:])
    if encode(types, values) != raw[4:]:
        raise ValueError("not the canonical encoding of its arguments")
    return values


def topic_address(value: str) -> str:
    """The address inside an indexed 32-byte topic, lower case."""
    return "0x" + value[-40:].lower()


def address_of_public(public: bytes) -> str:
    """The address of an uncompressed public key (65 bytes, the first is the format), lower case."""
    return "0x" + keccak_bytes(public[1:])[-20:].hex()


def checksum(address: str) -> str:
    """EIP-55, for people."""
    from eth_utils.address import to_checksum_address

    return str(to_checksum_address(address))


def revert_reason(data: bytes) -> str:
    """A short text for revert data: the require message, the panic code, or the custom error's selector."""
    try:
        if data[:4] == _ERROR:
            return str(decode(["string"], data[4:])[0])[:200]
        if data[:4] == _PANIC:
            return f"panic 0x{int(decode(['uint256'], data[4:])[0]):02x}"
    except ValueError:
        return "malformed revert data"
    return f"custom error 0x{data[:4].hex()}" if data else "no reason given"


def pick(arguments: Sequence[Any], path: str) -> Any:
    """The value at a dotted path of indexes."""
    value: Any = arguments
    for part in path.split("."):
        value = value[int(part)]
    return value
