"""Small contracts in EVM code, for what no token of the sandbox does. Each takes plain 32-byte words as call data."""

from apps.sandbox.runtime.compiler import Artifact


def _artifact(name: str, runtime: str) -> Artifact:
    """Creation code that returns `runtime`: PUSH2 size, DUP1, PUSH1 10, PUSH0, CODECOPY, PUSH0, RETURN."""
    creation = f"61{len(runtime) // 2:04x}80600a5f395ff3"
    return Artifact(name=name, abi=[], bytecode=bytes.fromhex(creation + runtime))


# Logs an ERC-20 Transfer of 1,000 from the caller to each word.
EMITTER = _artifact(
    "Emitter",
    "6103e85f525f5b80361115603c578035337fddf252ad1be2c89b69c2b068fc378daa952ba7f163c4"
    "a11628f55a4df523b3ef60205fa36020016006565b00",
)
# Logs an ERC-721 Transfer from the caller to each word: four topics, no data.
EMITTER_721 = _artifact(
    "Emitter721",
    "5f5b80361115603757808035337fddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f5"
    "5a4df523b3ef5f5fa46020016001565b00",
)
# Sends its value on to the first word's address; with a second word that is not zero it reverts afterwards.
FORWARDER = _artifact("Forwarder", "5f5f5f5f345f355af150602035601157005b5f5ffd")
# Calls the first word's contract with its value and the other words, whatever comes of it.
BEARER = _artifact("Bearer", "6020360360205f375f5f602036035f345f355af15000")


def words(*values: str | int) -> str:
    """Call data: addresses and numbers, 32 bytes each."""
    return "0x" + "".join(
        f"{value:064x}" if isinstance(value, int) else value.removeprefix("0x").zfill(64) for value in values
    )
