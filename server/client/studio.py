"""A studio, for programs: one connection that lasts, conversations to talk in, and everything that happens, in order.

In:   where the studio is, and who this is.
Out:  what happens in the conversations that are followed, each entry once, in order, without a hole, through every lost
connection; and acknowledgements for what is said, which happens once, however often the connection is lost meanwhile.

    async with Studio("http://127.0.0.1:8000", username="bot", password="…") as studio:
        room = await studio.conversation("Welcome")
        async for message in room.messages():
            if message.text == "ping":
                await room.send("pong", reply_to=message.id)
"""

import asyncio
import random
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Literal, Self

from server.client.comeback import Addresses, Chance, in_turn
from server.client.conversation import After, Conversation
from server.client.courier import Courier, Submitted
from server.client.errors import Closed, StudioAway
from server.client.items import ConnectionChange
from server.client.link import Link, OnFrame
from server.client.rest import Rest
from server.client.sign_in import Credentials, SignIn
from server.client.streams import MAX_UNREAD, Stream
from server.client.subscriptions import Faults, Subscriptions
from server.client.web_requests import WebRequests
from server.protocol.errors import NotFound
from server.protocol.frames import (
    Ack,
    ClientFrame,
    ConversationAdded,
    ConversationRemoved,
    Cursor,
    Drain,
    Durable,
    ErrorFrame,
    Event,
    Heads,
    Reset,
    RunAct,
    ServerFrame,
    Subscribed,
    UserSummary,
    Welcome,
)
from server.protocol.ids import is_id
from server.protocol.views import Conversation as ConversationView


class Studio:
    """`addresses`: the URL of the studio; or several, of which the next is tried when one is away; or a function from
    the number of the attempt to its URL.

    Who this is: `username` and `password`, a `refresh_token` (the newest one is `studio.refresh_token`, and
    `on_refresh` hears of each), or an access `token` alone, which lasts for an hour.

    `cursors`: the `studio.cursors` of an earlier run; what is followed goes on from there.
    `follow_all`: follow all of my conversations, and those that become mine.
    `within_s`: how long a frame is brought again and again before it is `Unconfirmed`.
    `start_within_s`: how long to wait for a studio that is away when the program starts.
    `pipeline`: how many frames of one conversation are on their way at once. With 1 their order is certain; more are
    faster, and one that the server puts off may be overtaken.
    `max_outstanding`: with more frames unanswered, `send` waits for room. `max_unread`: with more items unread in a
    stream, the rest is left with the server until there is room.
    `silence_s`: how long without a byte until a socket is given up; 1.8 of the server's heartbeats unless given.
    `on_connection`, `on_frame`: hear of each change of the connection, and of each frame: "in" or "out", and its bytes.
    An error that they raise ends the connection, and everything that waits for it.
    """

    def __init__(
        self,
        addresses: Addresses,
        *,
        username: str | None = None,
        password: str | None = None,
        token: str | None = None,
        refresh_token: str | None = None,
        cursors: Mapping[str, Cursor] | None = None,
        follow_all: bool = False,
        within_s: float = 60.0,
        start_within_s: float = 30.0,
        pipeline: int = 1,
        max_outstanding: int = 256,
        max_unread: int = MAX_UNREAD,
        silence_s: float | None = None,
        on_refresh: Callable[[str], None] | None = None,
        on_connection: Callable[[ConnectionChange], None] | None = None,
        on_frame: OnFrame | None = None,
        chance: Chance = random.random,
    ) -> None:
        self._address = in_turn(addresses)
        self._credentials = Credentials(username, password, token, refresh_token)
        self._within_s = within_s
        self._start_within_s = start_within_s
        self._requests = WebRequests()
        loop = asyncio.get_running_loop()
        self._sign_in = SignIn(self._requests, self._credentials, loop.time, on_refresh)
        self._link = Link(
            self._address, self._sign_in, self, chance=chance, on_frame=on_frame, on_connection=on_connection,
            silence_s=silence_s,
        )  # fmt: skip
        self._rest = Rest(self._requests, self._sign_in, lambda n: self._address(self._link.attempt + n), chance)
        self._courier = Courier(self._link.write, chance, pipeline=pipeline, max_outstanding=max_outstanding)
        self._subscriptions = Subscriptions(
            self._link.write, self._rest, chance, follow_all=follow_all, cursors=dict(cursors or {}),
            max_unread=max_unread,
        )  # fmt: skip
        self._user: UserSummary | None = None
        self._welcomed = asyncio.Event()
        self._living: asyncio.Task[None] | None = None

    # Coming and going

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def open(self) -> None:
        """Connects. Raises `WrongPassword`, `SignedOut`, or `StudioAway` when nobody answered in time."""
        self._living = asyncio.create_task(self._live())
        welcomed = asyncio.create_task(self._welcomed.wait())
        try:
            await asyncio.wait(
                [self._living, welcomed], timeout=self._start_within_s, return_when=asyncio.FIRST_COMPLETED
            )
            if self._living.done():
                await self._living
            if not self._welcomed.is_set():
                raise StudioAway(self._link.last_failure or "nobody answered")
        except BaseException:
            await self.close()
            raise
        finally:
            welcomed.cancel()

    async def close(self) -> None:
        """Nothing waits for what is not acknowledged: await that first."""
        if self._living is not None:
            self._living.cancel()
            await asyncio.gather(self._living, return_exceptions=True)
        self._end(Closed("the studio was closed"))
        await self._subscriptions.ended()
        await self._requests.close()

    async def _live(self) -> None:
        try:
            await self._link.run()
        except Exception as error:
            # Whatever it was, a mistake in a callback of the program, too: nothing comes any more, and nobody waits.
            self._end(error)
            raise

    def _end(self, error: Exception) -> None:
        self._courier.end(error)
        self._subscriptions.end(error)

    @property
    def user(self) -> UserSummary:
        """Who this is."""
        assert self._user is not None, "not connected yet"
        return self._user

    @property
    def user_id(self) -> str:
        return self.user.id

    @property
    def is_connected(self) -> bool:
        return self._link.is_up

    @property
    def refresh_token(self) -> str | None:
        """The newest one; the one before it is used up."""
        return self._sign_in.refresh_token

    @property
    def cursors(self) -> dict[str, Cursor]:
        """How far the readers of all streams have got: an entry counts when the next one has been asked for. A program
        that keeps them, and hands them in when it starts again, misses nothing."""
        return self._subscriptions.cursors

    @property
    def outstanding(self) -> int:
        """Frames without an answer."""
        return self._courier.outstanding

    @property
    def faults(self) -> Faults:
        """What the server should not have done. Mended, and counted."""
        return self._subscriptions.faults

    # Conversations

    @property
    def rest(self) -> Rest:
        """The studio over HTTP."""
        return self._rest

    async def conversation(self, name: str) -> Conversation:
        """By its id or its exact title: one of mine, else a public room. Raises `NotFound`, or `ValueError` where
        several have that title."""
        if is_id(name):
            return Conversation(self, await self._rest.conversation(name))
        found = [one for one in await self._rest.conversations() if one.title == name]
        if not found:
            found = [one for one in await self._rest.public_rooms(name) if one.title == name]
        if not found:
            raise NotFound(f"there is no conversation with the title {name!r}")
        if len(found) > 1:
            raise ValueError(f"{len(found)} conversations have the title {name!r}; name one by its id")
        return Conversation(self, found[0])

    async def conversations(self) -> list[Conversation]:
        return [Conversation(self, about) for about in await self._rest.conversations()]

    async def join(self, name: str) -> Conversation:
        """Become a member of a public room; one who is changes nothing."""
        found = await self.conversation(name)
        if found.about.role is None:
            await found.join()
        return found

    async def create_room(
        self, title: str, *, visibility: Literal["public", "private"] = "private", members: tuple[str, ...] = ()
    ) -> Conversation:
        return await self._create({"kind": "room", "title": title, "visibility": visibility, "members": members})

    async def private_chat(self, user: str) -> Conversation:
        """With the user of this id; opened if new."""
        return await self._create({"kind": "private", "members": [user]})

    async def _create(self, draft: dict[str, object]) -> Conversation:
        about: ConversationView = await self._rest.create(draft)
        return Conversation(self, about)

    # Listening

    def events(self) -> Stream:
        """Everything in all conversations that are followed: each conversation in order, none before another by rule.
        Tells `Added` and `Removed`, too."""
        return self._subscriptions.stream(None)

    async def follow(self, conversation: str, after: After = None) -> None:
        await asyncio.shield(self._subscriptions.follow(conversation, after))

    def unfollow(self, conversation: str) -> None:
        self._subscriptions.unfollow(conversation)

    def stream_of(self, conversation: str, after: After) -> Stream:
        stream = self._subscriptions.stream(conversation)
        if after is not None or not self._subscriptions.is_followed(conversation):
            self._subscriptions.follow(conversation, after)
        return stream

    # Saying

    async def submit(self, frame: Durable | RunAct, within_s: float | None = None) -> Submitted:
        """Any frame that ends in the log, under its own id. Waits for room only; await the result for the `Ack`."""
        return await self._courier.submit(frame, self._within_s if within_s is None else within_s)

    def tell(self, frame: ClientFrame) -> bool:
        """A passing frame: written once, if somebody is connected."""
        return self._link.write(frame)

    # What the connection says

    def up(self, welcome: Welcome) -> None:
        self._user = welcome.user
        self._subscriptions.up(welcome)
        self._courier.up()
        self._welcomed.set()

    def down(self) -> None:
        self._courier.down()
        self._subscriptions.down()

    def hear(self, frame: ServerFrame) -> None:
        match frame:
            case Event():
                self._subscriptions.event(frame)
            case Ack():
                self._courier.answered(frame)
            case ErrorFrame():
                self._courier.answered(frame)
                self._subscriptions.refused(frame)
            case Subscribed():
                self._subscriptions.subscribed(frame)
            case ConversationAdded():
                self._subscriptions.added(frame.conversation)
            case ConversationRemoved():
                self._subscriptions.lost(frame)
            case Reset():
                self._subscriptions.reset(frame)
            case Heads():
                self._subscriptions.heads(frame)
            case Drain():
                self._courier.pause()
