"""The conversation log: every event of every conversation, in order, once.

In:   drafts, from any number of people, for any number of conversations.
Out:  for each draft the stored event with its `seq` (the first one again, when the same draft came before), or the
error that says why not. Drafts of conversations whose row another transaction holds come back as `BUSY`.
Promises: inside one conversation `seq` is 1, 2, 3 … without holes, and commit order is `seq` order, because `append`
holds the conversation's row until commit. A bad draft fails alone; its neighbours are stored.

Three steps, in this order for a reason. (1) Lock the heads, in the order of their ids so that two appends cannot wait
for each other. (2) A second statement, so with a snapshot from after the lock, looks for repeats and for who may do
what. (3) Only what is new and allowed gets numbers. Deduplicating inside one statement loses neighbours when another
worker has just committed the same id; `ON CONFLICT` after numbering leaves holes.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from server.protocol import clock
from server.protocol.codec import decode_stored, encode
from server.protocol.errors import ChatError, Conflict, Forbidden, NotFound
from server.protocol.events import EventData, MessageCreated, MessageDeleted, RunEnded, SettingsDraft
from server.protocol.frames import Actor
from server.storage import projections
from server.storage.database import Connection, Database, Record
from server.storage.standings import Standing


class Draft(Struct, frozen=True):
    """An event that wants to happen.

    `client_id` and `body_hash` are there when a client may repeat the draft. `permission` is what the judge will look
    up; none means the studio itself acts. `target` is the message that is edited, deleted, reacted to, pinned or
    answered.
    """

    conversation: str
    actor: Actor
    data: EventData
    client_id: str | None = None
    body_hash: bytes | None = None
    permission: str | None = None
    target: str | None = None
    account_role: str | None = None


class Stored(Struct, frozen=True):
    """An event in the log. `data` is the JSON text of its kind."""

    conversation: str
    seq: int
    kind: str
    at: datetime
    actor_kind: str
    actor_id: str
    client_id: str | None
    data: str
    repeat: bool = False
    conversation_kind: str = ""
    message: str | None = None  # of a new message: its id


class Busy:
    """Somebody else holds this conversation's row; try again in a lane that can wait."""


T = TypeVar("T", bound=EventData)

BUSY: Final = Busy()
Judge = Callable[[str, Standing], ChatError | None]
Outcome = Stored | ChatError | Busy


class MessageLog:
    """Appends to the log. `judge(permission, standing)` decides in the transaction, without I/O; whoever has one of the
    `sending_roles` in a conversation may send there, which the judge must say too."""

    def __init__(self, database: Database, judge: Judge, *, sending_roles: Sequence[str]) -> None:
        self._database = database
        self._judge = judge
        self._sending_roles = list(sending_roles)

    async def append(self, drafts: Sequence[Draft], *, wait: bool = False) -> list[Outcome]:
        """One transaction for all drafts. With `wait` a held row is waited for (2 s, then `Overloaded`)."""
        if all(_is_plain(draft) for draft in drafts):
            return await self._append_plain(drafts, wait=wait)
        async with self._database.log_transaction() as connection:
            return await self._append(connection, drafts, wait=wait)

    async def _append_plain(self, drafts: Sequence[Draft], *, wait: bool) -> list[Outcome]:
        """Messages that answer to nothing, the bulk of all writing: the same three steps in one call."""
        at = clock.now()
        data = [encode(draft.data).decode() for draft in drafts]
        messages = [draft.data for draft in drafts if isinstance(draft.data, MessageCreated)]
        rows = await self._database.log_fetch(
            _APPEND_PLAIN,
            [draft.conversation for draft in drafts],
            [draft.actor.id for draft in drafts],
            [draft.client_id for draft in drafts],
            [draft.body_hash for draft in drafts],
            data,
            [message.id for message in messages],
            [message.text for message in messages],
            [encode(message.mentions).decode() if message.mentions else None for message in messages],
            [message.people_only for message in messages],
            [at] * len(drafts),
            self._sending_roles,
            wait,
        )
        outcomes: list[Outcome] = [NotFound("there is no such conversation") if wait else BUSY for _ in drafts]
        for row in rows:
            index = row["n"] - 1
            draft = drafts[index]
            if row["new_seq"] is not None:
                outcomes[index] = Stored(
                    draft.conversation,
                    row["new_seq"],
                    MessageCreated.kind,
                    at,
                    draft.actor.kind,
                    draft.actor.id,
                    draft.client_id,
                    data[index],
                    conversation_kind=row["head_kind"],
                    message=messages[index].id,
                )
            elif row["old_seq"] is not None:
                outcomes[index] = _repeat(draft, row, row["head_kind"])
            elif row["first_n"] != row["n"]:
                first = row["first_n"] - 1
                outcomes[index] = _twin(draft, drafts[first], outcomes[first])
            else:
                standing = Standing(
                    row["head_kind"], row["head_visibility"], row["role"], draft.account_role,
                    blocks_peer=bool(row["blocks_peer"]), blocked_by_peer=bool(row["blocked_by_peer"]),
                )  # fmt: skip
                outcomes[index] = self._judge(draft.permission or "", standing) or Forbidden()
        return outcomes

    async def append_all(self, drafts: Sequence[Draft]) -> list[Stored]:
        """All or none: the first refusal is raised, and nothing is stored."""
        async with self._database.log_transaction() as connection:
            outcomes = await self._append(connection, drafts, wait=True)
            for outcome in outcomes:
                if isinstance(outcome, ChatError):
                    raise outcome
            return [outcome for outcome in outcomes if isinstance(outcome, Stored)]

    async def _append(self, connection: Connection, drafts: Sequence[Draft], *, wait: bool) -> list[Outcome]:
        heads = await self._lock(connection, drafts, wait)
        outcomes: list[Outcome | None] = [None] * len(drafts)
        candidates: list[int] = []
        for index, draft in enumerate(drafts):
            if draft.conversation in heads:
                candidates.append(index)
            else:
                outcomes[index] = NotFound("there is no such conversation") if wait else BUSY
        if candidates:
            await self._settle(connection, drafts, candidates, heads, outcomes)
        return [outcome for outcome in outcomes if outcome is not None]

    async def _lock(self, connection: Connection, drafts: Sequence[Draft], wait: bool) -> dict[str, "_Head"]:
        rows = await connection.fetch(_LOCK_WAITING if wait else _LOCK_FREE, list({d.conversation for d in drafts}))
        return {row["conversation"]: _Head(row) for row in rows}

    async def _settle(
        self,
        connection: Connection,
        drafts: Sequence[Draft],
        candidates: list[int],
        heads: dict[str, "_Head"],
        outcomes: list[Outcome | None],
    ) -> None:
        facts = await connection.fetch(
            _FACTS,
            [drafts[i].conversation for i in candidates],
            [drafts[i].actor.id for i in candidates],
            [drafts[i].client_id for i in candidates],
            [drafts[i].actor.id if drafts[i].actor.kind == "user" else None for i in candidates],
        )
        fresh: list[tuple[int, Draft, Stored]] = []
        first_of: dict[tuple[str, str, str], int] = {}  # client ids inside this batch
        at = clock.now()
        for place, (index, fact) in enumerate(zip(candidates, facts, strict=True)):
            draft, head = drafts[index], heads[drafts[index].conversation]
            if fact["head_kind"] is None:
                outcomes[index] = NotFound("there is no such conversation")  # deleted while we waited for its head
                continue
            if fact["old_seq"] is not None:
                outcomes[index] = _repeat(draft, fact, fact["head_kind"])
                continue
            key = (draft.conversation, draft.actor.id, draft.client_id or "")
            if draft.client_id is not None and key in first_of:
                outcomes[index] = _twin(draft, drafts[first_of[key]], outcomes[first_of[key]])
                continue
            found = await self._look_up(connection, draft)
            error = self._refusal(draft, fact, found)
            if error is not None:
                outcomes[index] = error
                continue
            first_of[key] = index
            head.last_seq += 1
            data = projections.redacted(draft.data) if found.is_redacted else draft.data
            shown = data.shown if isinstance(data, SettingsDraft) else data
            stored = Stored(
                draft.conversation, head.last_seq, draft.data.kind, at, draft.actor.kind,
                draft.actor.id, draft.client_id, encode(shown).decode(), conversation_kind=fact["head_kind"],
                message=draft.data.id if isinstance(draft.data, MessageCreated) else None,
            )  # fmt: skip
            if draft.data.kind not in projections.SET_BASED:
                # An act on something that stands may depend on the act before it in this batch: one at a time.
                await self._write(connection, fresh, heads, at)
                fresh = []
                await projections.apply(connection, draft.actor, data, stored.conversation, stored.seq, stored.at)
            fresh.append((index, draft, stored))
            outcomes[index] = stored
            rest = candidates[place + 1 :]
            if rest and draft.data.kind in projections.CHANGES_RIGHTS:
                # What was read about the others may be wrong now: ask again for what is left.
                await self._write(connection, fresh, heads, at)
                await self._settle(connection, drafts, rest, heads, outcomes)
                return
        await self._write(connection, fresh, heads, at)

    async def _look_up(self, connection: Connection, draft: Draft) -> projections.Found:
        if draft.permission is None and not isinstance(draft.data, RunEnded | MessageDeleted):
            return projections.Found()
        return await projections.look_up(connection, draft.conversation, draft.data, draft.target, draft.actor)

    def _refusal(self, draft: Draft, fact: Record, found: projections.Found) -> ChatError | None:
        """Why this draft may not happen, or None."""
        if draft.permission is None:
            return found.error  # the studio itself acts; still, a run ends once, and a message is deleted once
        standing = Standing(
            kind=fact["head_kind"],
            visibility=fact["head_visibility"],
            role=fact["role"],
            account_role=draft.account_role,
            is_own=found.author == draft.actor.id,
            subject_role=found.subject_role,
            blocks_peer=bool(fact["blocks_peer"]),
            blocked_by_peer=bool(fact["blocked_by_peer"]),
        )
        error = self._judge(draft.permission, standing)
        if isinstance(found.error, NotFound) and not isinstance(error, NotFound):
            return found.error  # what is not there belongs to nobody: no question of rights
        return error or found.error

    async def _write(
        self, connection: Connection, fresh: list[tuple[int, Draft, Stored]], heads: dict[str, "_Head"], at: datetime
    ) -> None:
        """Step three: events, messages and heads of what is new, in one statement."""
        if not fresh:
            return
        events = [stored for _, _, stored in fresh]
        messages = []
        for _, draft, stored in fresh:
            if projections.makes_message(draft.data):
                head = heads[stored.conversation]
                head.message_count += 1
                messages.append(projections.message_row(draft.actor, draft.data, stored, head.message_count))
        touched = {stored.conversation: heads[stored.conversation] for stored in events}
        await connection.execute(
            _WRITE,
            [e.conversation for e in events],
            [e.seq for e in events],
            [e.kind for e in events],
            [e.actor_kind for e in events],
            [e.actor_id for e in events],
            [e.client_id for e in events],
            [draft.body_hash for _, draft, _ in fresh],
            [e.data for e in events],
            [e.at for e in events],
            list(touched),
            [head.last_seq for head in touched.values()],
            [head.message_count for head in touched.values()],
            *projections.message_columns(messages),
        )


class _Head:
    __slots__ = ("last_seq", "message_count")

    def __init__(self, row: Record) -> None:
        self.last_seq: int = row["last_seq"]
        self.message_count: int = row["message_count"]


def _is_plain(draft: Draft) -> bool:
    """A person's message that answers to nothing: all it needs to be judged by is the sender's role."""
    return isinstance(draft.data, MessageCreated) and draft.target is None and draft.actor.kind == "user"


def _repeat(draft: Draft, fact: Record, kind: str) -> Outcome:
    """The same client id stands in the log: the first answer again, unless the body differs."""
    if fact["old_hash"] != draft.body_hash:
        return Conflict(f"the id {draft.client_id!r} was used before for something else")
    return Stored(
        draft.conversation, fact["old_seq"], fact["old_kind"], fact["old_at"], draft.actor.kind, draft.actor.id,
        draft.client_id, fact["old_data"], repeat=True, conversation_kind=kind,
        message=decode_stored(fact["old_data"], MessageCreated).id if isinstance(draft.data, MessageCreated) else None,
    )  # fmt: skip


def _twin(draft: Draft, first: Draft, outcome: Outcome | None) -> Outcome:
    """The same client id twice in one batch."""
    assert outcome is not None
    if not isinstance(outcome, Stored):
        return outcome  # the first was refused, for a reason that holds for its twin
    if first.body_hash != draft.body_hash:
        return Conflict(f"the id {draft.client_id!r} was used before for something else")
    return replace(outcome, repeat=True)


def data_of(stored: Stored, shape: type[T]) -> T:
    return decode_stored(stored.data, shape)


_LOCK = """
    SELECT conversation, last_seq, message_count FROM heads
    WHERE conversation = ANY($1::uuid[]) ORDER BY conversation FOR NO KEY UPDATE
"""
_LOCK_WAITING = _LOCK
_LOCK_FREE = _LOCK + " SKIP LOCKED"

_FACTS = """
    SELECT e.seq AS old_seq, e.kind AS old_kind, e.body_hash AS old_hash, e.at AS old_at, e.data AS old_data, m.role,
        m.blocks_peer, m.blocked_by_peer, c.kind AS head_kind, c.visibility AS head_visibility
    FROM unnest($1::uuid[], $2::text[], $3::text[], $4::uuid[])
        WITH ORDINALITY AS d(conversation, actor_id, client_id, user_id, n)
    LEFT JOIN conversations c ON c.id = d.conversation AND c.deleted_at IS NULL
    LEFT JOIN events e
        ON e.conversation = d.conversation AND e.actor_id = d.actor_id AND e.client_id = d.client_id
    LEFT JOIN memberships m
        ON m.conversation = d.conversation AND m.user_id = d.user_id
    ORDER BY d.n
"""

_APPEND_PLAIN = "SELECT * FROM append_plain_messages($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)"

_WRITE = """
    WITH event AS (
        INSERT INTO events (conversation, seq, kind, actor_kind, actor_id, client_id, body_hash, data, at)
        SELECT * FROM unnest(
            $1::uuid[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bytea[], $8::json[],
            $9::timestamptz[]
        )
    ), message AS (
        INSERT INTO messages (
            conversation, seq, id, ordinal, actor_kind, actor_id, client_id, text, at, reply_to, thread,
            attachments, mentions, people_only, run
        )
        SELECT * FROM unnest(
            $13::uuid[], $14::bigint[], $15::uuid[], $16::bigint[], $17::text[], $18::text[], $19::text[], $20::text[],
            $21::timestamptz[], $22::uuid[], $23::uuid[], $24::json[], $25::json[], $26::boolean[], $27::uuid[]
        )
    )
    UPDATE heads SET last_seq = v.last_seq, message_count = v.message_count,
        updated_at = clock_timestamp()  -- one clock for all nodes
    FROM unnest($10::uuid[], $11::bigint[], $12::bigint[]) AS v(conversation, last_seq, message_count)
    WHERE heads.conversation = v.conversation
"""
