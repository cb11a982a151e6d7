"""A real HTTP proxy in front of a JSON-RPC node that can be told to misbehave.

In-process: `with RpcProxy(upstream) as proxy: proxy.fault("drop_answer", method="eth_sendRawTransaction", times=1)`.
From elsewhere: `python -m tests.support.rpc_proxy --upstream URL [--port N]`, then `POST /_control` with
`{"fault": "null", "method": "eth_getTransactionReceipt", "times": 3}` or `{"clear": true}`; `GET /_control` answers
with the faults and what was asked.

Faults of transport (before or after the node got the request):
  drop_request   the connection ends before anything is forwarded
  drop_answer    the node gets the request, the caller no answer
  delay          the node gets the request, the answer comes `seconds` later
  status         answers HTTP `status` without forwarding
  garbage        the node gets the request, the answer is no JSON
  elsewhere      the request goes to another node (`upstream`), as when a balancer switches
Faults of content, per call of a batch:
  null           the result is null
  error          an error object with `message` instead of forwarding the result
  head           the number of the latest block is `offset` off (`eth_blockNumber` and `latest`)
  hash           hashes of blocks are others, from block `offset` on
  pruned         the state of a block named by its hash is gone, unless the hash is in `keep`
  logs_drop      `eth_getLogs` shows the first `offset` logs only
  logs_cap       `eth_getLogs` refuses to show more than `offset` logs
  logs_range     `eth_getLogs` refuses to look at more than `offset` blocks
  traces_none    traces are a method that the node does not have
"""

import argparse
import http.client
import json
import socket
import threading
from dataclasses import asdict, dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import urlsplit

_TRANSPORT = frozenset({"drop_request", "drop_answer", "delay", "status", "garbage", "elsewhere"})
_LOGS = frozenset({"logs_drop", "logs_cap", "logs_range"})
_CONTENT = frozenset({"null", "error", "head", "hash", "pruned", "traces_none"}) | _LOGS


@dataclass
class Fault:
    """One thing that goes wrong, `times` times (None: until cleared), for one method or all (`*`)."""

    kind: str
    method: str = "*"
    times: int | None = None
    seconds: float = 0.0
    status: int = 503
    offset: int = 0
    message: str = "injected"
    keep: tuple[str, ...] = ()
    # A transport fault spares requests that hold this text.
    spare: str = ""
    upstream: str = ""

    def __post_init__(self) -> None:
        if self.kind not in _TRANSPORT | _CONTENT:
            raise ValueError(f"unknown fault {self.kind!r}")


class RpcProxy:
    """The proxy; may be used as a context manager. `asked` lists the methods that were forwarded or refused.

    `met` counts the answers that a fault spoiled.
    """

    def __init__(self, upstream: str, *, port: int = 0) -> None:
        self.upstream = upstream
        self._port = port
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self._released = threading.Event()
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None
        self.met = 0
        self.asked: list[str] = []
        self.forwarded: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Listen (again, on the same port)."""
        self._released.clear()
        server = _Server(("127.0.0.1", self._port), self)
        self._server, self._port = server, server.server_address[1]
        self._thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop listening: connections are refused from now on, delayed answers are given up."""
        self._released.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server.connections_end()
            self._server = None

    def fault(self, kind: str, **options: Any) -> Fault:
        """Add a fault; the first that matches wins."""
        made = Fault(kind, **options)
        with self._lock:
            self._faults.append(made)
        return made

    def clear(self) -> None:
        """No faults any more; a delayed answer is let go."""
        with self._lock:
            self._faults.clear()
        self._released.set()
        self._released = threading.Event()

    def describe(self) -> dict[str, Any]:
        with self._lock:
            return {
                "faults": [asdict(fault) for fault in self._faults],
                "asked": list(self.asked),
                "forwarded": list(self.forwarded),
            }

    def _take(self, method: str, kinds: frozenset[str], request: bytes = b"") -> Fault | None:
        with self._lock:
            for fault in self._faults:
                spared = fault.spare != "" and fault.spare.encode() in request
                if fault.kind in kinds and fault.method in ("*", method) and fault.times != 0 and not spared:
                    if fault.times is not None:
                        fault.times -= 1
                    self.met += 1
                    return fault
        return None

    def answer(self, body: bytes) -> tuple[int, bytes] | None:
        """Status and body for a request; None ends the connection without an answer."""
        request = json.loads(body)
        calls = request if isinstance(request, list) else [request]
        methods = [str(call.get("method")) for call in calls]
        self.asked.extend(methods)
        fault = next((found for method in methods if (found := self._take(method, _TRANSPORT, body))), None)
        kind = fault.kind if fault else ""
        if fault is not None and kind == "status":
            return fault.status, b'{"message": "injected"}'
        if kind == "drop_request":
            return None
        answered = self._forward(body, fault.upstream if fault is not None and kind == "elsewhere" else "")
        self.forwarded.extend(methods)
        if fault is not None and kind == "delay":
            self._released.wait(fault.seconds)
        if kind == "drop_answer":
            return None
        if kind == "garbage":
            return 200, b"<html>it works</html>"
        return 200, self._twist(calls, answered, is_batch=isinstance(request, list))

    def _forward(self, body: bytes, upstream: str) -> bytes:
        parts = urlsplit(upstream or self.upstream)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
        try:
            connection.request("POST", parts.path or "/", body, {"Content-Type": "application/json"})
            return connection.getresponse().read()
        finally:
            connection.close()

    def _twist(self, calls: list[dict[str, Any]], answered: bytes, *, is_batch: bool) -> bytes:
        answers = json.loads(answered)
        by_id = {answer.get("id"): answer for answer in (answers if is_batch else [answers])}
        changed = False
        for call in calls:
            answer = by_id.get(call.get("id"))
            if answer is None:
                continue
            fault = self._take(str(call.get("method")), frozenset({"null", "error"}))
            if fault is not None:
                answer.pop("result", None)
                if fault.kind == "null":
                    answer["result"] = None
                else:
                    answer["error"] = {"code": -32000, "message": fault.message}
                changed = True
            changed = self._forget(call, answer) or self._lie(call, answer) or changed
            changed = self._logs_spoil(call, answer) or changed
        return json.dumps(answers).encode() if changed else answered

    def _forget(self, call: dict[str, Any], answer: dict[str, Any]) -> bool:
        """What a node that keeps no old states says."""
        at = (call.get("params") or [None])[-1]
        fault = self._take(str(call.get("method")), frozenset({"pruned"})) if isinstance(at, dict) else None
        if fault is None or at["blockHash"] in fault.keep:
            return False
        answer.pop("result", None)
        answer["error"] = {"code": -32000, "message": "missing trie node"}
        return True

    def _logs_spoil(self, call: dict[str, Any], answer: dict[str, Any]) -> bool:
        """Drop logs, or refuse as providers do, in their words."""
        method, found = str(call.get("method")), answer.get("result")
        if "trace" in method and self._take(method, frozenset({"traces_none"})):
            answer.pop("result", None)
            answer["error"] = {"code": -32601, "message": f"the method {method} does not exist"}
            return True
        if method != "eth_getLogs" or not isinstance(found, list):
            return False
        wanted = call["params"][0]
        blocks = int(wanted.get("toBlock", "0x0"), 16) - int(wanted.get("fromBlock", "0x0"), 16) + 1
        refusals = {
            "logs_cap": (len(found), "query returned more than {} results"),
            "logs_range": (blocks, "eth_getLogs is limited to a {} range"),
        }
        for kind, (size, words) in refusals.items():
            with self._lock:
                limit = next((fault.offset for fault in self._faults if fault.kind == kind), None)
            if limit is None or size <= limit:
                continue
            self._take(method, frozenset({kind}))
            answer.pop("result")
            answer["error"] = {"code": -32005, "message": words.format(limit)}
            return True
        if fault := self._take(method, frozenset({"logs_drop"})):
            answer["result"] = found[: fault.offset]
        return fault is not None

    def _lie(self, call: dict[str, Any], answer: dict[str, Any]) -> bool:
        """Change numbers of the head and hashes of blocks."""
        method, result = str(call.get("method")), answer.get("result")
        if method == "eth_blockNumber" and (fault := self._take(method, frozenset({"head"}))):
            answer["result"] = hex(max(0, int(str(result), 16) + fault.offset))
            return True
        if method != "eth_getBlockByNumber" or not isinstance(result, dict):
            return False
        changed = False
        if call["params"][0] == "latest" and (fault := self._take(method, frozenset({"head"}))):
            result["number"] = hex(max(0, int(str(result["number"]), 16) + fault.offset))
            changed = True
        if fault := self._take(method, frozenset({"hash"})):
            number = int(str(result["number"]), 16)
            for name, height in (("hash", number), ("parentHash", number - 1)):
                if height >= fault.offset:
                    result[name] = "0xbad" + result[name][5:]
            changed = True
        return changed


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], proxy: RpcProxy) -> None:
        self.proxy = proxy
        self._open: set[socket.socket] = set()
        super().__init__(address, _Handler)

    def get_request(self) -> Any:
        connection, address = super().get_request()
        self._open.add(connection)
        return connection, address

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def connections_end(self) -> None:
        """End kept-alive connections too: a node that is gone keeps none."""
        for connection in list(self._open):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that went away while its answer was delayed is what was asked for."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path == "/_control":
            self._control(json.loads(body))
            return
        answered = self.server.proxy.answer(body)
        if answered is None:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self._write(*answered)

    def do_GET(self) -> None:
        self._write(200, json.dumps(self.server.proxy.describe()).encode())

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 — the base class's name
        """Quiet: `asked` and `forwarded` say what happened."""

    def _control(self, order: dict[str, Any]) -> None:
        if order.pop("clear", False):
            self.server.proxy.clear()
        if "fault" in order:
            self.server.proxy.fault(order.pop("fault"), **order)
        self._write(200, json.dumps(self.server.proxy.describe()).encode())

    def _write(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    parser = argparse.ArgumentParser(description="A JSON-RPC proxy that can be told to misbehave.")
    parser.add_argument("--upstream", required=True)
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    proxy = RpcProxy(options.upstream, port=options.port)
    proxy.start()
    print(proxy.url, flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
