"""A JSON-RPC client small enough to read at a glance: the sandbox may not import web3."""

import http.client
import json
import threading
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit


class RpcError(RuntimeError):
    """The node's error object."""

    def __init__(self, *, method: str, code: int, message: str, data: Any = None) -> None:
        super().__init__(f"{method}: {message} ({code})")
        self.method = method
        self.code = code
        self.message = message
        self.data = data


class Rpc:
    """One kept-alive connection to an HTTP JSON-RPC endpoint; may be shared by threads."""

    def __init__(self, url: str, *, timeout_seconds: float = 30) -> None:
        parts = urlsplit(url)
        self.url = url
        self._host = parts.hostname or "127.0.0.1"
        self._port = parts.port or 80
        self._path = parts.path or "/"
        self._timeout_seconds = timeout_seconds
        self._connection: http.client.HTTPConnection | None = None
        self._lock = threading.Lock()

    def call(self, method: str, *params: Any) -> Any:
        """One call's result. Raises `RpcError`, or `OSError` when the node does not answer."""
        return self.batch([(method, params)])[0]

    def batch(self, calls: Sequence[tuple[str, Sequence[Any]]]) -> list[Any]:
        """Several calls in one request, results in the calls' order; the first error raises."""
        if not calls:
            return []
        requests = [
            {"jsonrpc": "2.0", "id": position, "method": method, "params": list(params)}
            for position, (method, params) in enumerate(calls)
        ]
        answers = {answer["id"]: answer for answer in json.loads(self._post(json.dumps(requests).encode()))}
        results = []
        for position, (method, _) in enumerate(calls):
            answer = answers[position]
            if "error" in answer:
                error = answer["error"]
                raise RpcError(
                    method=method,
                    code=int(error.get("code", 0)),
                    message=str(error.get("message", "")),
                    data=error.get("data"),
                )
            results.append(answer.get("result"))
        return results

    def close(self) -> None:
        with self._lock:
            self._drop()

    def __del__(self) -> None:
        self._drop()

    def _post(self, body: bytes) -> bytes:
        with self._lock:
            reused = self._connection is not None
            try:
                return self._exchange(body)
            except (ConnectionError, http.client.HTTPException):
                self._drop()
                if not reused:
                    raise
                # A restarted node leaves a dead kept-alive connection behind; a fresh one decides.
                return self._exchange(body)

    def _exchange(self, body: bytes) -> bytes:
        if self._connection is None:
            self._connection = http.client.HTTPConnection(
                self._host, self._port, timeout=self._timeout_seconds
            )
        try:
            self._connection.request("POST", self._path, body, {"Content-Type": "application/json"})
            return self._connection.getresponse().read()
        except BaseException:
            self._drop()
            raise

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
