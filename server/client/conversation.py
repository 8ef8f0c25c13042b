"""One conversation, as a program talks in it.

Verbs that end in the log return once the server has committed, and raise what it refused. They may be called while the
server is away: what was not answered goes out again when it is back.
"""

from typing import Protocol, Self

from server.client.courier import Submitted
from server.client.items import Entry
from server.client.rest import Rest
from server.client.state import begun, ended, said
from server.client.streams import Stream
from server.protocol.events import MessageCreated, RunEnded, RunStarted
from server.protocol.frames import (
    Ack,
    ClientFrame,
    Cursor,
    Delete,
    Durable,
    Edit,
    Pin,
    React,
    Read,
    RunAct,
    Send,
    StartRun,
    Steer,
    Stop,
    Typing,
)
from server.protocol.ids import new_id
from server.protocol.views import Conversation as ConversationView
from server.protocol.views import EventPage, Member, Message, MessagePage

After = Cursor | int | None


class Owner(Protocol):
    """The `Studio`, as far as a conversation needs it."""

    @property
    def rest(self) -> Rest: ...
    @property
    def user_id(self) -> str: ...
    async def submit(self, frame: Durable | RunAct, within_s: float | None) -> Submitted: ...
    def tell(self, frame: ClientFrame) -> bool: ...
    async def follow(self, conversation: str, after: After = None) -> None: ...
    def stream_of(self, conversation: str, after: After) -> Stream: ...
    def unfollow(self, conversation: str) -> None: ...


class Conversation:
    """`about` is what it was when it was asked for; `refresh` asks again."""

    def __init__(self, studio: Owner, about: ConversationView) -> None:
        self._studio = studio
        self.about = about

    @property
    def id(self) -> str:
        return self.about.id

    @property
    def title(self) -> str | None:
        return self.about.title

    def __repr__(self) -> str:
        return f"Conversation({self.id}, {self.title!r})"

    # Listening

    async def follow(self, after: After = None) -> None:
        """Hear everything from here on: after a cursor or a `seq` (0: from the beginning), else from the head. Returns
        when the server has answered; what is said after that is heard."""
        await self._studio.follow(self.id, after)

    def unfollow(self) -> None:
        self._studio.unfollow(self.id)

    def events(self, after: After = None) -> Stream:
        """Every entry of the log, in order, each once. Follows the conversation if nobody does yet."""
        return self._studio.stream_of(self.id, after)

    def messages(self, after: After = None, *, own: bool = False) -> "Messages":
        """Every message, once it is whole: what a person says at once, what a model says when its answer has ended.
        Without `own`, a program does not hear itself."""
        return Messages(self.events(after), None if own else self._studio.user_id)

    # Saying

    async def send(
        self, text: str, *, reply_to: str | None = None, thread: str | None = None, people_only: bool = False,
        client_id: str | None = None, within_s: float | None = None,
    ) -> Ack:  # fmt: skip
        """Say something. The same `client_id` says the same thing once, however often it is sent: one made from what is
        answered (`f"pong-{message.id}"`) holds through a crash of the program, too."""
        frame = Send(
            id=client_id or new_id(), conversation=self.id, text=text, reply_to=reply_to, thread=thread,
            people_only=people_only,
        )  # fmt: skip
        return await self._settled(frame, within_s)

    async def submit(self, text: str, *, reply_to: str | None = None, client_id: str | None = None) -> Submitted:
        """Say something without waiting for the answer; await what is returned to have it."""
        frame = Send(id=client_id or new_id(), conversation=self.id, text=text, reply_to=reply_to)
        return await self._studio.submit(frame, None)

    async def edit(self, message: str, text: str, *, client_id: str | None = None) -> Ack:
        return await self._settled(Edit(id=client_id or new_id(), conversation=self.id, message=message, text=text))

    async def delete(self, message: str, *, client_id: str | None = None) -> Ack:
        return await self._settled(Delete(id=client_id or new_id(), conversation=self.id, message=message))

    async def react(self, message: str, emoji: str, *, on: bool = True, client_id: str | None = None) -> Ack:
        return await self._settled(
            React(id=client_id or new_id(), conversation=self.id, message=message, emoji=emoji, on=on)
        )

    async def pin(self, message: str, *, on: bool = True, client_id: str | None = None) -> Ack:
        return await self._settled(Pin(id=client_id or new_id(), conversation=self.id, message=message, on=on))

    async def run(self, *, model: str | None = None, message: str | None = None, client_id: str | None = None) -> Ack:
        """Have a model answer `message`, or the newest one. The `Ack` names the run."""
        return await self._settled(
            StartRun(id=client_id or new_id(), conversation=self.id, model=model, message=message)
        )

    async def stop(self, run: str, *, client_id: str | None = None) -> Ack:
        return await self._settled(Stop(id=client_id or new_id(), run=run))

    async def steer(self, run: str, text: str, *, client_id: str | None = None) -> Ack:
        return await self._settled(Steer(id=client_id or new_id(), run=run, text=text))

    def read(self, seq: int) -> bool:
        """Everything up to `seq` has been read. Not repeated: False where nobody is connected."""
        return self._studio.tell(Read(conversation=self.id, seq=seq))

    def typing(self, on: bool) -> bool:
        return self._studio.tell(Typing(conversation=self.id, on=on))

    # Asking

    async def refresh(self) -> ConversationView:
        self.about = await self._studio.rest.conversation(self.id)
        return self.about

    async def members(self) -> list[Member]:
        return await self._studio.rest.members(self.id)

    async def page(self, *, limit: int = 50, before: int | None = None, after: int | None = None) -> MessagePage:
        """Messages as they stand: the newest, or those before or after a seq."""
        return await self._studio.rest.messages(self.id, limit=limit, before=before, after=after)

    async def log(self, after: int = 0, limit: int = 1000) -> EventPage:
        return await self._studio.rest.events(self.id, after, limit)

    async def join(self) -> None:
        self.about = await self._studio.rest.join(self.id)

    async def leave(self) -> None:
        await self._studio.rest.leave(self.id)

    async def invite(self, user: str, role: str = "member") -> Member:
        """Or give a member another role."""
        return await self._studio.rest.put_member(self.id, user, role)

    async def remove(self, user: str) -> None:
        await self._studio.rest.remove_member(self.id, user)

    async def change(self, **change: str | None) -> None:
        """`title`, `visibility`, `model` or `system_prompt`; None clears."""
        self.about = await self._studio.rest.change(self.id, change)

    async def _settled(self, frame: Durable | RunAct, within_s: float | None = None) -> Ack:
        return await (await self._studio.submit(frame, within_s))


class Messages:
    """The messages of a stream; read it with `async for`. An answer that had begun before is not among them."""

    def __init__(self, stream: Stream, but_not_of: str | None) -> None:
        self.stream = stream
        self._but_not_of = but_not_of
        self._running: dict[str, Message] = {}  # answers that have begun, by the id of their message

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        async for item in self.stream:
            message = self._message_in(item) if isinstance(item, Entry) else None
            if message is not None and message.actor.id != self._but_not_of:
                return message
        raise StopAsyncIteration

    def _message_in(self, entry: Entry) -> Message | None:
        match entry.data:
            case MessageCreated() as data:
                return said(entry, data)
            case RunStarted() as data:
                self._running[data.message] = begun(entry, data)
            case RunEnded() as data:
                begun_before = self._running.pop(data.message, None)
                return begun_before and ended(begun_before, data)
        return None
