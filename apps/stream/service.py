"""The ASGI application of the role `stream`: Django answers every request, and admitted ones go on as streams.

Django's own ASGI handler would keep a thread for as long as a stream lasts. Here a request is answered by the
synchronous handler in one of two threads, as by a web process, and what is left of it while the stream is open is a
coroutine and its place.
"""

import asyncio
import io
import logging
import secrets
import signal
import time
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from django.conf import settings
from django.core import signals
from django.core.handlers.asgi import ASGIRequest
from django.core.handlers.base import BaseHandler
from django.http import HttpResponse
from django.urls import set_script_prefix

from apps.stream import frames
from apps.stream.admission import Admission, Ticket
from apps.stream.hub import Hub, Stream

logger = logging.getLogger(__name__)

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

# Each thread holds a database connection: what authenticating thousands who come back at once may take.
_ADMITTING_THREADS = 2
# After how long a client that lost its stream comes back; over a range, so that a restart is not a stampede.
_RETRY_MILLISECONDS = (1_000, 3_000)


class StreamService:
    """`urlconf` names the few routes that this process answers."""

    def __init__(self, *, urlconf: str) -> None:
        self._urlconf = urlconf
        self._handler = BaseHandler()
        self._handler.load_middleware()
        self._threads = ThreadPoolExecutor(_ADMITTING_THREADS, thread_name_prefix="stream-admission")
        self._hub: Hub | None = None
        self._admitting = 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, send)

    # Life

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self._hub = Hub()
                self._hub.start()
                self._watch_signals(self._hub)
                await send({"type": "lifespan.startup.complete"})
            else:
                if self._hub is not None:
                    await self._hub.stop()
                self._threads.shutdown()
                await send({"type": "lifespan.shutdown.complete"})
                return

    @staticmethod
    def _watch_signals(hub: Hub) -> None:
        """The server says that it shuts down when all requests are over; streams have to be told before.

        Its own handler is the event loop's, which hears of a signal by a file descriptor and is not replaced by this.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(hub.close))

    # Requests

    async def _answer(self, scope: Message, receive: Receive, send: Send) -> None:
        hub = self._hub
        if hub is None:
            raise RuntimeError("the server does not speak the lifespan protocol")
        taken = len(hub.streams) + self._admitting
        admission = Admission(hub.process_id, full=taken >= settings.STREAM_CONNECTIONS)
        self._admitting += 1
        try:
            response = await asyncio.get_running_loop().run_in_executor(
                self._threads, self._ask_django, scope, admission
            )
        finally:
            self._admitting -= 1
        if admission.ticket is None:
            body = b"" if scope["method"] == "HEAD" else response.content
            await send(_start(response))
            await send({"type": "http.response.body", "body": body})
        else:
            await _stream(hub, admission.ticket, response, receive, send)

    def _ask_django(self, scope: Message, admission: Admission) -> HttpResponse:
        """As a web process would answer; in a thread of ours."""
        set_script_prefix("/")
        signals.request_started.send(sender=type(self), scope=scope)
        request = ASGIRequest(dict(scope), io.BytesIO())
        request.urlconf = self._urlconf
        request.admission = admission  # type: ignore[attr-defined]
        response = self._handler.get_response(request)
        response.close()
        if not isinstance(response, HttpResponse):
            raise TypeError(f"{request.path}: only whole answers are given here")
        return response


def _start(response: HttpResponse) -> Message:
    headers = [(name.lower().encode("ascii"), value.encode("latin-1")) for name, value in response.items()]
    headers += [
        (b"set-cookie", cookie.OutputString().encode("latin-1")) for cookie in response.cookies.values()
    ]
    return {"type": "http.response.start", "status": response.status_code, "headers": headers}


async def _stream(hub: Hub, ticket: Ticket, response: HttpResponse, receive: Receive, send: Send) -> None:
    # A middleware has counted the bytes of the view's answer, which has none.
    del response["Content-Length"]
    stream = hub.open(ticket)
    watching = asyncio.create_task(_watch(receive, stream))
    started, why = time.monotonic(), "broken"
    try:
        await send(_start(response))
        why = await _write(hub, stream, send)
    finally:
        watching.cancel()
        hub.forget(stream)
        logger.info(
            "stream closed",
            extra={
                "reason": why,
                "seconds": round(time.monotonic() - started, 1),
                "events": stream.place - ticket.place,
                "request_id": response.headers.get("X-Request-Id", ""),
            },
        )


async def _watch(receive: Receive, stream: Stream) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    stream.leave()


async def _write(hub: Hub, stream: Stream, send: Send) -> str:
    """Write until the client goes, falls behind, or is sent away; returns why it ended."""
    try:
        await _put(send, frames.greeting(place=stream.place, retry_milliseconds=_retry()))
        while True:
            # What is looked at below is looked at after this: no ring is lost.
            stream.wake.clear()
            if stream.over:
                return "gone"
            if stream.page is not None:
                await _put(send, stream.page[0])
                hub.sent(stream)
            elif stream.ending:
                goodbye = frames.farewell(reason=stream.ending, retry_milliseconds=_retry())
                await _put(send, goodbye, more=False)
                return stream.ending
            elif not await _rung(stream.wake, settings.STREAM_HEARTBEAT_SECONDS):
                await _put(send, frames.HEARTBEAT)
    except TimeoutError:
        await _abandon(hub, stream, send)
        return "slow"


async def _put(send: Send, piece: bytes, *, more: bool = True) -> None:
    """Raises `TimeoutError` when the client takes nothing off its connection for too long."""
    async with asyncio.timeout(settings.STREAM_PATIENCE_SECONDS):
        await send({"type": "http.response.body", "body": piece, "more_body": more})


async def _abandon(hub: Hub, stream: Stream, send: Send) -> None:
    """Give a client that does not read nothing more, and end its answer after what is under way.

    Until it reads that or goes the connection is there, and so it counts: otherwise a person could pile them up.
    """
    hub.starve(stream)
    ending = asyncio.ensure_future(send({"type": "http.response.body", "body": b"", "more_body": False}))
    while not (ending.done() or stream.over or stream.ending):
        stream.wake.clear()
        waking = asyncio.create_task(stream.wake.wait())
        await asyncio.wait({ending, waking}, return_when=asyncio.FIRST_COMPLETED)
        waking.cancel()
    ending.cancel()


async def _rung(bell: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await bell.wait()
    except TimeoutError:
        return False
    return True


def _retry() -> int:
    low, high = _RETRY_MILLISECONDS
    return low + secrets.randbelow(high - low)
