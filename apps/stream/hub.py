"""The open streams of one process: who has news is found out for all of them at once, and each is given its next page.

One thread and so one database connection read for everybody. Two things start a look: a word through Redis, which
names people (`apps.events.wake`), and a second's end. The look itself asks the heads of all connected people in one
statement, so that with Redis gone events are a second late and nothing else. A stream holds one page at most; it is
given the next when that one is on its way, so that a slow reader costs a page, not a queue.
"""

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any, TypeVar
from uuid import UUID

import redis.asyncio
from django.conf import settings
from django.db import Error, close_old_connections
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from apps.accounts.credentials import credentials_ended
from apps.accounts.domain import Scope
from apps.core import clock
from apps.core.ids import uuid7
from apps.events import feed
from apps.events.wake import CHANNEL, people_named
from apps.stream import frames
from apps.stream.admission import Ticket
from apps.stream.services import process_forget, process_note, streams_forget

logger = logging.getLogger(__name__)

T = TypeVar("T")
# (the frames, the last sequence in them, whether there may be more)
Page = tuple[bytes, int, bool]

LOOK_SECONDS = 1.0
CHECK_SECONDS = 2.0
# Three of these are how long a process counts as alive (`apps.stream.selectors.ALIVE`).
NOTE_SECONDS = 5.0
PAGE_EVENTS = 50
# How many streams are read for in one statement; the first ones are on their way while the next are read.
BATCH_STREAMS = 200
_AGAIN_SECONDS = 1.0


class Stream:
    """One connection's place, and what is to be written next. Belongs to the event loop."""

    __slots__ = ("ending", "news", "over", "page", "place", "ticket", "wake")

    def __init__(self, ticket: Ticket) -> None:
        self.ticket = ticket
        # Up to which sequence the client has been given events, the present page's among them.
        self.place = ticket.place
        self.page: Page | None = None
        # Something has been written since the present page was read.
        self.news = False
        # Why we end it; and whether the client has gone.
        self.ending = ""
        self.over = False
        self.wake = asyncio.Event()

    def end(self, reason: str) -> None:
        self.ending = self.ending or reason
        self.wake.set()

    def leave(self) -> None:
        self.over = True
        self.wake.set()


class Database:
    """One thread, and so one connection."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="stream-database")

    async def run(self, work: Callable[..., T], **arguments: Any) -> T:
        def connected() -> T:
            close_old_connections()
            return work(**arguments)

        return await asyncio.get_running_loop().run_in_executor(self._thread, connected)

    def close(self) -> None:
        def disconnect() -> None:
            from django.db import connections

            connections.close_all()

        self._thread.submit(disconnect)
        self._thread.shutdown()


class Hub:
    """Opens and ends streams, and gives them their pages. All methods belong to one event loop."""

    def __init__(self) -> None:
        self.process_id = uuid7()
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        self.closing = False
        self.streams: set[Stream] = set()
        self._people: dict[bytes, set[Stream]] = {}
        # In the order in which they asked: nobody is passed over.
        self._news: dict[Stream, None] = {}
        self._closed: list[UUID] = []
        self._bell = asyncio.Event()
        self._database = Database()
        self._look_at = self._check_at = self._note_at = 0.0
        self._tasks: list[asyncio.Task[None]] = []
        self._troubled = False

    # Life

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._pump()), asyncio.create_task(self._listen())]

    def close(self) -> None:
        """End all streams, and those that are still being admitted; their clients come back elsewhere."""
        self.closing = True
        for stream in self.streams:
            stream.end("restart")

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        try:
            await self._database.run(process_forget, process_id=self.process_id)
        except Error as error:
            logger.warning("stream process not forgotten", extra={"error": type(error).__name__})
        self._database.close()

    # Streams

    def open(self, ticket: Ticket) -> Stream:
        stream = Stream(ticket)
        self.streams.add(stream)
        self._people.setdefault(ticket.user_id.bytes, set()).add(stream)
        self._mark(stream)
        if self.closing:
            stream.end("restart")
        return stream

    def sent(self, stream: Stream) -> None:
        """Its page is on its way."""
        more = stream.news or (stream.page is not None and stream.page[2])
        stream.page, stream.news = None, False
        if more:
            self._mark(stream)

    def starve(self, stream: Stream) -> None:
        """Give it nothing more."""
        self._news.pop(stream, None)
        key = stream.ticket.user_id.bytes
        others = self._people.get(key, set())
        others.discard(stream)
        if not others:
            self._people.pop(key, None)

    def forget(self, stream: Stream) -> None:
        """The connection is over: it counts no longer."""
        self.starve(stream)
        self.streams.discard(stream)
        self._closed.append(stream.ticket.stream_id)
        self._bell.set()

    # News

    def heard(self, message: bytes) -> None:
        """What was said through Redis."""
        named = people_named(message)
        if named is None:
            self._look_at = 0.0
            self._bell.set()
            return
        for person in named:
            for stream in self._people.get(person, ()):
                self._mark(stream)

    def _mark(self, stream: Stream) -> None:
        if stream.page is not None:
            stream.news = True
        else:
            self._news[stream] = None
            self._bell.set()

    async def _listen(self) -> None:
        """The process's one subscription. Without it events come by the look, a second later."""
        deaf = False
        while True:
            try:
                async with (
                    redis.asyncio.Redis.from_url(
                        settings.REDIS_URL, retry=Retry(NoBackoff(), 0), health_check_interval=10
                    ) as client,
                    client.pubsub(ignore_subscribe_messages=True) as channel,
                ):
                    await channel.subscribe(CHANNEL)
                    deaf = False
                    while True:
                        message = await channel.get_message(timeout=10)
                        if message is not None:
                            self.heard(message["data"])
            except (redis.RedisError, OSError) as error:
                if not deaf:
                    logger.warning("live streams are not woken", extra={"error": type(error).__name__})
                deaf = True
            await asyncio.sleep(_AGAIN_SECONDS)

    async def _pump(self) -> None:
        while True:
            try:
                async with asyncio.timeout(max(0.0, self._look_at - time.monotonic())):
                    await self._bell.wait()
            except TimeoutError:
                pass
            self._bell.clear()
            try:
                await self._round()
                self._troubled = False
            except Exception as error:
                # Once per trouble, with where it came from unless it is the database that is away.
                if not self._troubled:
                    logger.warning("live streams without news", exc_info=not isinstance(error, Error))
                self._troubled = True
                await asyncio.sleep(_AGAIN_SECONDS)

    async def _round(self) -> None:
        now = time.monotonic()
        if now >= self._look_at:
            self._look_at = now + LOOK_SECONDS
            await self._look()
        if self._news:
            await self._deliver()
        if self._closed:
            closed, self._closed = self._closed, []
            try:
                await self._database.run(streams_forget, stream_ids=closed)
            except Error:
                self._closed += closed
                raise
        if now >= self._check_at:
            await self._check()
            self._check_at = now + CHECK_SECONDS
        if now >= self._note_at:
            await self._database.run(process_note, process_id=self.process_id, name=self.name)
            self._note_at = now + NOTE_SECONDS

    async def _look(self) -> None:
        """Whoever's head is further than their stream has news. One statement."""
        if not self._people:
            return
        people = [UUID(bytes=person) for person in self._people]
        found = await self._database.run(feed.heads, user_ids=people)
        for user_id, head in found.items():
            for stream in self._people.get(user_id.bytes, ()):
                if head > stream.place:
                    self._mark(stream)

    async def _deliver(self) -> None:
        """Read the next page of some streams that have news."""
        asked = list(islice(self._news, BATCH_STREAMS))
        for stream in asked:
            del self._news[stream]
            stream.news = stream.page is not None
        batch = [stream for stream in asked if stream.page is None]
        try:
            pages = await self._database.run(
                _pages_read, places=[(stream.ticket.user_id, stream.place) for stream in batch]
            )
        except BaseException:
            self._news.update(dict.fromkeys(stream for stream in batch if stream in self.streams))
            raise
        for stream, page in zip(batch, pages, strict=True):
            if page is not None:
                stream.page, stream.place = page, page[1]
                stream.wake.set()
        if self._news:
            self._bell.set()

    async def _check(self) -> None:
        """End the streams whose credential would not be let in any more. One statement per kind of credential."""
        if not self.streams:
            return
        held = {stream.ticket.credential for stream in self.streams}
        ended = await self._database.run(credentials_ended, credentials=held, scope=Scope.EVENTS_READ)
        now = clock.now()
        for stream in self.streams:
            credential = stream.ticket.credential
            if credential in ended:
                expired = credential.expires_at is not None and credential.expires_at <= now
                stream.end("expired" if expired else "revoked")


def _pages_read(places: Sequence[tuple[UUID, int]]) -> list[Page | None]:
    """The next page of each place; None where nothing is new."""
    return [
        (frames.events(rows), rows[-1].sequence, len(rows) == PAGE_EVENTS) if rows else None
        for rows in feed.events_following(places=places, limit=PAGE_EVENTS)
    ]
