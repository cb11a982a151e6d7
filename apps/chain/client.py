"""One JSON-RPC endpoint: transport, decoding, and the names of what went wrong. The only place that connects out.

web3 gives the transport; its retries are off (it would resend `eth_sendRawTransaction` by itself) and its
formatters are not used: results are decoded here. No exception or log line of this module carries the URL, which
often holds a key.
"""

import gc
import logging
import os
import re
import time
from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any, cast

import orjson
import requests
from requests.adapters import HTTPAdapter

from apps.chain.domain import Call, Header, Receipt
from apps.chain.errors import AnswerTooLarge, EndpointFailure, RpcError

if TYPE_CHECKING:
    from web3.types import RPCEndpoint

# These log whole URLs at DEBUG, whatever level the application chose.
for _name in (
    "web3.providers.HTTPProvider",
    "web3._utils.http_session_manager.HTTPSessionManager",
    "urllib3.connectionpool",
):
    logging.getLogger(_name).setLevel(logging.ERROR)

CONNECT_TIMEOUT_SECONDS = 3.0
READ_TIMEOUT_SECONDS = 8.0
BATCH = 100
# What one answer may weigh, and how long it may trickle: decoded it takes several times as much memory.
READ_LIMIT_BYTES = 64_000_000
READ_BUDGET_SECONDS = 20.0

_BUSY_CODES = frozenset({-32005, -32097, 429})  # limit exceeded, as several providers number it


class SendOutcome(StrEnum):
    """What a node said to a broadcast."""

    ACCEPTED = "accepted"
    KNOWN = "known"  # it had these bytes already: success
    NONCE_TOO_LOW = "nonce_too_low"  # look at the receipts of every attempt before anything else
    UNDERPRICED = "underpriced"  # something else holds the nonce in the pool, or the fee is below the market
    NO_FUNDS = "no_funds"
    REFUSED = "refused"  # these bytes can never be mined


# Nodes answer in words; the first match wins. Sources: geth core/txpool/errors.go and core/error.go, anvil's
# `InvalidTransactionError`, Erigon, Nethermind and Besu.
_SEND_WORDS: tuple[tuple[SendOutcome, tuple[str, ...]], ...] = (
    (SendOutcome.KNOWN, ("already known", "already imported", "alreadyknown", "known transaction", "in mempool")),
    (SendOutcome.NONCE_TOO_LOW, ("nonce too low", "old nonce", "noncetoolow", "nonce is too low")),
    (
        SendOutcome.UNDERPRICED,
        ("underpriced", "fee too low", "gas price too low", "less than block base fee", "feetoolow", "max fee per gas"),
    ),
    (SendOutcome.NO_FUNDS, ("insufficient funds", "insufficient balance", "insufficientfunds")),
    (
        SendOutcome.REFUSED,
        (
            "intrinsic gas", "exceeds block gas limit", "gas limit too high", "gas limit reached", "invalid sender",
            "invalid chain", "wrong chain", "rlp", "oversized data", "negative value", "gas too high", "gas too low",
            "type not supported", "exceeds the configured cap", "out of gas",
        ),
    ),
)  # fmt: skip


def libraries_load() -> None:
    """Import what speaks to nodes and signs; otherwise that happens at the first use.

    It is a fifth of what starting a process takes, and most processes (web, stream, beat, commands) never
    speak to a node. Workers call this before they fork, so that their pools' processes share it.
    """
    import eth_abi.abi
    import eth_account
    import web3.providers.rpc

    del eth_abi, eth_account, web3


def send_outcome(message: str) -> SendOutcome | None:
    """Classify a node's refusal of a broadcast by its words; None when the words are not known."""
    text = message.lower()
    for outcome, words in _SEND_WORDS:
        if any(word in text for word in words):
            return outcome
    return None


class Endpoint:
    """A connection pool to one URL. Not shared between processes: sockets do not survive a fork."""

    def __init__(self, url: str, *, name: str, read_timeout_seconds: float = READ_TIMEOUT_SECONDS) -> None:
        self.name = name
        self.pid = os.getpid()
        session = requests.Session()
        # The environment is read in config/env.py only; a netrc or proxy variable must not redirect us.
        session.trust_env = False
        session.max_redirects = 0
        adapter = HTTPAdapter(pool_connections=2, pool_maxsize=8, max_retries=0)
        session.mount("http://", adapter)
        session.mount("https://", adapter)
        self._session, self._url = session, url
        self._timeout = (CONNECT_TIMEOUT_SECONDS, read_timeout_seconds)
        # Late: see `libraries_load`.
        from web3.providers.rpc import HTTPProvider

        self._provider = HTTPProvider(
            url,
            request_kwargs={"timeout": self._timeout},
            session=session,
            exception_retry_configuration=None,
        )

    def __repr__(self) -> str:
        return f"<Endpoint {self.name}>"

    def request(self, method: str, params: Sequence[Any]) -> Any:
        """The `result` of one call. Raises `RpcError` (the node's answer) or `EndpointFailure` (no answer)."""
        answer = self._transport(
            lambda: self._provider.make_request(cast("RPCEndpoint", method), list(params))
        )
        return _result(answer)

    def batch(self, calls: Sequence[tuple[str, Sequence[Any]]]) -> list[Any]:
        """The results of many calls in few requests; an answer that is an error comes back as `RpcError`."""
        found: list[Any] = []
        for start in range(0, len(calls), BATCH):
            part = [
                (cast("RPCEndpoint", method), list(params)) for method, params in calls[start : start + BATCH]
            ]
            answers = self._transport(lambda part=part: self._provider.make_batch_request(part))
            if not isinstance(answers, list):
                _result(answers)
                raise EndpointFailure("batch answered with a single object")
            if len(answers) != len(part):
                raise EndpointFailure("batch answered incompletely")
            for answer in answers:
                try:
                    found.append(_result(answer))
                except RpcError as error:
                    found.append(error)
        return found

    def read(self, calls: Sequence[tuple[str, Sequence[Any]]]) -> list[Any]:
        """The results of a few calls that may be large, in one request and without web3 in between.

        An answer that is an error comes back as `RpcError`. Raises `EndpointFailure`, and `AnswerTooLarge` when the
        node (or we) found that too much was asked for.
        """
        return results(self.fetch(calls), count=len(calls))

    def fetch(self, calls: Sequence[tuple[str, Sequence[Any]]]) -> bytes:
        """The first half of `read`: the answer as it came."""
        bodies = [
            {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
            for number, (method, params) in enumerate(calls)
        ]
        content: bytes = self._transport(
            lambda: self._post(orjson.dumps(bodies if len(bodies) > 1 else bodies[0]))
        )
        return content

    def _post(self, body: bytes) -> bytes:
        """The body of an answer, bounded in size and time. A refusal with status 400 may hold a JSON-RPC error."""
        ends = time.monotonic() + READ_BUDGET_SECONDS
        with self._session.post(
            self._url,
            data=body,
            headers={"Content-Type": "application/json"},
            timeout=self._timeout,
            stream=True,
            allow_redirects=False,
        ) as response:
            if response.status_code == 413:
                raise AnswerTooLarge("HTTP 413")
            if response.status_code not in (200, 400):
                raise requests.HTTPError(response=response)
            chunks, size = [], 0
            for chunk in response.iter_content(1 << 20):
                chunks.append(chunk)
                size += len(chunk)
                if size > READ_LIMIT_BYTES:
                    raise AnswerTooLarge(f"over {READ_LIMIT_BYTES:,} bytes")
                if time.monotonic() > ends:
                    raise requests.Timeout
            content = b"".join(chunks)
            if response.status_code == 400 and b'"error"' not in content[:10_000]:
                raise requests.HTTPError(response=response)
            return content

    def _transport(self, act: Any) -> Any:
        """Run a request; what fails is retold without the URL, outside the `except` so that no context keeps it."""
        failure: EndpointFailure
        try:
            return act()
        except requests.ConnectTimeout:
            failure = EndpointFailure("connect timed out", in_doubt=False)
        except requests.Timeout:
            failure = EndpointFailure("answer timed out")
        except requests.ConnectionError as error:
            refused = "Connection refused" in str(error) or "NameResolutionError" in str(error)
            failure = EndpointFailure(
                "connection refused" if refused else "connection lost", in_doubt=not refused
            )
        except requests.HTTPError as error:
            failure = _http_failure(error.response)
        except requests.RequestException as error:
            failure = EndpointFailure(f"transport: {type(error).__name__}")
        except (ValueError, KeyError, TypeError, AttributeError, RuntimeWarning):
            failure = EndpointFailure("answer is not JSON-RPC")
        raise failure


def results(content: bytes, *, count: int) -> list[Any]:
    """The second half of `read`: the results of `count` calls, in their order."""
    answer = _decoded(content)
    if isinstance(answer, dict) and count > 1:
        _refusal(answer)  # a batch that was refused as a whole
        raise EndpointFailure("batch answered with a single object")
    answers = {
        one.get("id"): one
        for one in (answer if isinstance(answer, list) else [answer])
        if isinstance(one, dict)
    }
    if len(answers) != count or (count > 1 and set(answers) != set(range(count))):
        raise EndpointFailure("batch answered incompletely" if answers else "answer is not JSON-RPC")
    if count == 1:
        return [_refusal(next(iter(answers.values())))]
    return [_refusal(answers[number]) for number in range(count)]


def _decoded(content: bytes) -> Any:
    """JSON as objects, None when it is none.

    The collector rests meanwhile: thousands of new objects, none of them garbage, would have it walk through all
    that the process holds several times over, which costs as much as the decoding.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        return orjson.loads(content)
    except ValueError:
        return None
    finally:
        if collecting:
            gc.enable()


def _http_failure(response: Any) -> EndpointFailure:
    status = getattr(response, "status_code", 0)
    after = str(getattr(response, "headers", {}).get("Retry-After", ""))
    return EndpointFailure(
        f"HTTP {status}",
        in_doubt=status not in (400, 401, 403, 404, 405, 413, 429),
        after_seconds=min(float(after), 120.0) if after.isdigit() else None,
    )


def _result(answer: Any) -> Any:
    if not isinstance(answer, dict):
        raise EndpointFailure("answer is not JSON-RPC")
    error = answer.get("error")
    if error is not None:
        if not isinstance(error, dict):
            raise EndpointFailure("answer is not JSON-RPC")
        code, message = error.get("code"), str(error.get("message", ""))
        if code in _BUSY_CODES:
            raise EndpointFailure(f"busy (rpc {code})", in_doubt=False)
        raise RpcError(code if isinstance(code, int) else 0, message, _revert_data(error.get("data")))
    if "result" not in answer:
        raise EndpointFailure("answer without result")
    return answer["result"]


# How nodes and providers say that a range was too wide or its answer too long, and that we ask too often. Sources:
# geth, Erigon, reth, Nethermind, Besu, Avalanche; Infura, Alchemy, QuickNode, Ankr, Chainstack, dRPC.
_OFTEN = re.compile(
    r"rate.?limit|too many requests|per second|per minute|credits|quota|capacity|throttl|try again later|daily|monthly"
)
_MUCH = re.compile(
    r"range|too (large|big|wide|long)|too many (blocks|results|logs)|more than|limited to|exceed|max(imum)? results"
    r"|smaller than|timed? ?out|cancell?ed"
)
_HINT = re.compile(r"\[(0x[0-9a-f]+),\s*(0x[0-9a-f]+)\]")


def _refusal(answer: Any) -> Any:
    """The result, or the node's error as a value; raises what is a matter of size or of rate."""
    error = answer.get("error") if isinstance(answer, dict) else None
    if isinstance(error, dict):
        code, words = error.get("code"), str(error.get("message", "")).lower()[:1_000]
        if code == 429 or _OFTEN.search(words):
            raise EndpointFailure("busy (rate limit)", in_doubt=False)
        if _MUCH.search(words):
            found = _HINT.search(words)
            hint = int(found[2], 16) - int(found[1], 16) + 1 if found else 0
            raise AnswerTooLarge(words[:200], blocks=max(hint, 0))
    try:
        return _result(answer)
    except RpcError as failure:
        return failure


def _revert_data(data: Any) -> bytes:
    """Revert data as geth, anvil (hex string) and others (nested object) give it."""
    if isinstance(data, dict):
        data = data.get("data") or data.get("result")
    if isinstance(data, str) and data.startswith("0x"):
        try:
            return bytes.fromhex(data[2:])
        except ValueError:
            return b""
    return b""


# Decoding. A malformed answer is the endpoint's failure, never a wrong value of ours.


def quantity(value: Any) -> int:
    """A JSON-RPC quantity: 0x and hex digits."""
    if not isinstance(value, str) or not value.startswith("0x"):
        raise EndpointFailure("malformed quantity")
    try:
        return int(value, 16)
    except ValueError:
        raise EndpointFailure("malformed quantity") from None


def hash32(value: Any) -> str:
    """A 32-byte hash, lower case."""
    if not isinstance(value, str) or len(value) != 66 or not value.startswith("0x"):
        raise EndpointFailure("malformed hash")
    quantity(value)
    return value.lower()


def header(block: Any) -> Header | None:
    """Decode a block; None is *unknown*, never *absent*."""
    if block is None:
        return None
    if not isinstance(block, dict):
        raise EndpointFailure("malformed block")
    return Header(
        number=quantity(block.get("number")),
        hash=hash32(block.get("hash")),
        parent_hash=hash32(block.get("parentHash")),
        timestamp=quantity(block.get("timestamp")),
        base_fee_units=quantity(block.get("baseFeePerGas") or "0x0"),
    )


def receipt(value: Any) -> Receipt | None:
    """Decode a receipt; None is *unknown*. Logs keep what a consumer needs, in the chain's order."""
    if value is None:
        return None
    if not isinstance(value, dict) or not isinstance(value.get("logs"), list):
        raise EndpointFailure("malformed receipt")
    if value.get("blockHash") is None or value.get("blockNumber") is None:
        return None  # some nodes answer with a receipt of a pending transaction
    logs = []
    for log in value["logs"]:
        topics = log.get("topics") if isinstance(log, dict) else None
        if not isinstance(topics, list) or not isinstance(log.get("address"), str):
            raise EndpointFailure("malformed log")
        logs.append(
            {
                "address": log["address"].lower(),
                "topics": [hash32(topic) for topic in topics],
                "data": log.get("data", "0x"),
            }
        )
    return Receipt(
        transaction_hash=hash32(value.get("transactionHash")),
        block_number=quantity(value["blockNumber"]),
        block_hash=hash32(value["blockHash"]),
        status=quantity(value.get("status")) == 1,
        gas_used=quantity(value.get("gasUsed")),
        effective_gas_price_units=quantity(value.get("effectiveGasPrice")),
        logs=logs,
    )


def call_params(call: Call, block: str) -> list[Any]:
    """Parameters of `eth_call`."""
    body: dict[str, str] = {"to": call.to, "data": call.data}
    if call.value_units:
        body["value"] = hex(call.value_units)
    if call.sender:
        body["from"] = call.sender
    return [body, block]


def timed(act: Any) -> tuple[Any, int]:
    """Run `act`; its result and how many milliseconds it took."""
    started = time.monotonic()
    result = act()
    return result, int((time.monotonic() - started) * 1000)
