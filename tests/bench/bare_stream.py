"""The stream benchmark's floor: no Django, no database, no account of who has what. What Redis says goes to everybody.

Served by the same command as the platform's stream role (`tests.bench.stream`).
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any

import redis.asyncio

CHANNEL = "bench.stream"
_HEADERS = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")]
_queues: set["asyncio.Queue[bytes]"] = set()
_tasks: list["asyncio.Task[None]"] = []


async def _listen() -> None:
    async with redis.asyncio.Redis.from_url(os.environ["REDIS_URL"]) as client, client.pubsub() as channel:
        await channel.subscribe(CHANNEL)
        async for message in channel.listen():
            if message["type"] == "message":
                for queue in _queues:
                    queue.put_nowait(message["data"])


async def application(
    scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
) -> None:
    if scope["type"] == "lifespan":
        await receive()
        _tasks.append(asyncio.create_task(_listen()))
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
    if scope["path"] != "/stream":
        await send({"type": "http.response.body", "body": b""})
        return
    queue: asyncio.Queue[bytes] = asyncio.Queue()
    _queues.add(queue)
    await send({"type": "http.response.body", "body": b"retry: 1000\n\n", "more_body": True})
    while True:
        await send({"type": "http.response.body", "body": await queue.get(), "more_body": True})
