"""Messages over HTTP: the same acts as on a socket, with the same answers. `Idempotency-Key` stands in for the frame's
`id`.
"""

import re
from typing import Annotated

from msgspec import Meta

from server.gateway.routes.conversations import Body
from server.gateway.routing import Answer, Call, Query, Routes
from server.hub.permissions import Permission
from server.protocol.clock import rfc3339
from server.protocol.errors import BadFrame
from server.protocol.frames import Delete, Durable, Edit, FrameId, Pin, React, Send, Seq
from server.protocol.ids import CLIENT_ID_PATTERN, new_id
from server.protocol.views import Done, EventPage, Message, MessagePage, Sent
from server.storage.message_log import Stored

routes = Routes()

MAX_PAGE = 200
MAX_EVENTS = 1_000


class SendBody(Body, frozen=True, kw_only=True):
    id: FrameId
    text: str
    reply_to: str | None = None
    thread: str | None = None
    attachments: Annotated[list[str], Meta(max_length=20)] = []  # noqa: RUF012 - msgspec copies it
    people_only: bool = False


class TextBody(Body, frozen=True, kw_only=True):
    text: str


class ReadBody(Body, frozen=True, kw_only=True):
    seq: Seq


class PageQuery(Query, frozen=True, kw_only=True):
    before: Seq | None = None
    after: Seq | None = None
    limit: Annotated[int, Meta(ge=1, le=MAX_PAGE)] = 50


class EventsQuery(Query, frozen=True, kw_only=True):
    after: Seq = 0
    limit: Annotated[int, Meta(ge=1, le=MAX_EVENTS)] = 200


@routes.get("/api/conversations/{conversation}/messages", permission=Permission.READ)
async def page(call: Call, query: PageQuery) -> MessagePage:
    """The newest page, or the one before or after a seq; oldest first."""
    conversation = call.path("conversation")
    standing = await call.studio.check(call.identity, Permission.READ, conversation)
    return await call.studio.messenger.page(
        conversation, standing, before=query.before, after=query.after, limit=query.limit
    )


@routes.get("/api/conversations/{conversation}/messages/{message}", permission=Permission.READ)
async def one(call: Call) -> Message:
    """One message, as it stands now: what a quote or a search result outside the loaded pages is about."""
    conversation = call.path("conversation")
    standing = await call.studio.check(call.identity, Permission.READ, conversation)
    return await call.studio.messenger.one(conversation, standing, call.path("message"))


@routes.post("/api/conversations/{conversation}/messages", permission=Permission.SEND, status=201)
async def send(call: Call, body: SendBody) -> Answer[Sent]:
    """Send a message. 201 the first time, 200 when the same id comes again."""
    frame = Send(
        id=body.id, text=body.text, reply_to=body.reply_to, thread=body.thread, attachments=body.attachments,
        people_only=body.people_only,
    )  # fmt: skip
    stored = await _append(call, frame)
    sent = Sent(message=stored.message or "", seq=stored.seq, at=rfc3339(stored.at))
    return Answer(sent, status=200 if stored.repeat else 201)


@routes.patch("/api/conversations/{conversation}/messages/{message}", permission=Permission.EDIT)
async def edit(call: Call, body: TextBody) -> Done:
    """Change the text of one's own."""
    return _done(await _append(call, Edit(id=idempotency_key(call), message=call.path("message"), text=body.text)))


@routes.delete("/api/conversations/{conversation}/messages/{message}", permission=Permission.DELETE)
async def delete(call: Call) -> Done:
    """Delete one's own, or anybody's as a moderator."""
    return _done(await _append(call, Delete(id=idempotency_key(call), message=call.path("message"))))


@routes.put("/api/conversations/{conversation}/messages/{message}/reactions/{emoji}", permission=Permission.REACT)
async def react(call: Call) -> Done:
    """Add my reaction."""
    return await _react(call, on=True)


@routes.delete("/api/conversations/{conversation}/messages/{message}/reactions/{emoji}", permission=Permission.REACT)
async def unreact(call: Call) -> Done:
    """Take my reaction away."""
    return await _react(call, on=False)


@routes.put("/api/conversations/{conversation}/messages/{message}/pin", permission=Permission.PIN)
async def pin(call: Call) -> Done:
    """Pin a message."""
    return _done(await _append(call, Pin(id=idempotency_key(call), message=call.path("message"), on=True)))


@routes.delete("/api/conversations/{conversation}/messages/{message}/pin", permission=Permission.PIN)
async def unpin(call: Call) -> Done:
    """Unpin a message."""
    return _done(await _append(call, Pin(id=idempotency_key(call), message=call.path("message"), on=False)))


@routes.put("/api/conversations/{conversation}/read", permission=Permission.READ)
async def read(call: Call, body: ReadBody) -> None:
    """Everything up to `seq` has been read; the cursor only moves forward."""
    call.studio.receipts.note(call.path("conversation"), call.identity.user_id, read=body.seq)
    await call.studio.receipts.write()


@routes.get("/api/conversations/{conversation}/events", permission=Permission.READ)
async def events(call: Call, query: EventsQuery) -> EventPage:
    """The log itself, as on the wire."""
    conversation = call.path("conversation")
    standing = await call.studio.check(call.identity, Permission.READ, conversation)
    return await call.studio.messenger.events(conversation, standing, after=query.after, limit=query.limit)


def idempotency_key(call: Call) -> str:
    """The caller's own, or a new one: then a repeat is a second act."""
    key = call.request.headers.get("idempotency-key")
    if key is None:
        return new_id()
    if re.match(CLIENT_ID_PATTERN, key) is None:
        raise BadFrame("an Idempotency-Key has 1 to 64 characters of A-Z a-z 0-9 . _ : -")
    return key


async def _append(call: Call, frame: Durable) -> Stored:
    call.limits.check_send(call.identity.user_id)
    return await call.studio.messenger.append(call.identity, call.path("conversation"), frame)


async def _react(call: Call, *, on: bool) -> Done:
    emoji = call.path("emoji")
    if not 1 <= len(emoji) <= 32:
        raise BadFrame("a reaction is one emoji")
    return _done(await _append(call, React(id=idempotency_key(call), message=call.path("message"), emoji=emoji, on=on)))


def _done(stored: Stored) -> Done:
    return Done(seq=stored.seq)
