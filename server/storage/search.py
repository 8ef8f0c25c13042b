"""The search index: the words of every message, read from the log by a cursor per conversation.

In:   the log, some of it behind the head; what to look for, and who looks.
Out:  the messages and conversations in which it stands, as far as they may be seen.
Promises: sending a message does nothing here, so search costs the hot path nothing and a crash loses none: what the
cursor has not passed is read again. The words come from a message's text as it stands now; a deleted message is never
found, even while its words still wait to be taken out. All the work on texts is done by Postgres, one statement for
many messages.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from time import monotonic

from server.storage.database import Connection, Database

CHUNK_AIM_S = 0.05  # others wait no longer for a processor; a chunk grows or shrinks towards it
FIRST_CHUNK, MIN_CHUNK, MAX_CHUNK = 200, 20, 2000  # events; twenty of the longest messages take a fifth of a second
MAX_LAGGING = 200  # conversations looked after at once


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who looks: `sees_public` is false for guests, who see a public room only where they were invited."""

    user: str
    sees_public: bool


@dataclass(frozen=True, slots=True)
class Wanted:
    """`terms` must all stand in a message, each as a phrase; if `is_open` the last word may be a beginning."""

    terms: Sequence[str]
    is_open: bool
    conversation: str | None = None
    model: str | None = None  # only what this model said
    since: datetime | None = None
    until: datetime | None = None  # not included
    before: tuple[datetime, str] | None = None  # (at, id) of the last hit of the page before


@dataclass(frozen=True, slots=True)
class Hit:
    conversation: str
    title: str | None
    seq: int
    at: datetime
    id: str


class SearchIndex:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._chunk = FIRST_CHUNK

    # Looking

    async def query_of(self, wanted: Wanted) -> str | None:
        """The terms in the database's words; None when there is no word in them."""
        query: str | None = await self._database.fetch_value(
            "SELECT search_query($1::text[], $2)::text", list(wanted.terms), wanted.is_open
        )
        return query

    async def hits(self, viewer: Viewer, query: str, wanted: Wanted, limit: int) -> list[Hit]:
        """Newest first."""
        at, id_ = wanted.before or (None, None)
        rows = await self._database.fetch(
            _HITS, viewer.user, viewer.sees_public, query, wanted.conversation, wanted.model, wanted.since,
            wanted.until, at, id_, limit,
        )  # fmt: skip
        return [Hit(row["conversation"], row["title"], row["seq"], row["at"], row["id"]) for row in rows]

    async def titled(self, viewer: Viewer, query: str, limit: int) -> list[str]:
        """Ids of conversations in whose title it stands; the title of a private chat is the other one's name."""
        rows = await self._database.fetch(_TITLED, viewer.user, viewer.sees_public, query, limit)
        return [row["id"] for row in rows]

    async def may_see(self, viewer: Viewer, conversation: str) -> bool:
        seen: bool = await self._database.fetch_value(
            f"SELECT EXISTS (SELECT FROM ({_VISIBLE}) v WHERE v.id = $3)",
            viewer.user,
            viewer.sees_public,
            conversation,
        )
        return seen

    # Keeping up

    async def catch_up(self, viewer: Viewer | None, budget_s: float) -> bool:
        """Read what stands in the logs now: of what the viewer may see, or of everything, skipping what others read at
        the moment. False when some of it is left."""
        deadline = monotonic() + budget_s
        lagging = await self._lagging(viewer)
        complete = len(lagging) < MAX_LAGGING
        while lagging and monotonic() < deadline:
            cursors = await self._read_some(lagging, wait=viewer is not None)
            if not cursors:
                return False
            lagging = {c: head for c, head in lagging.items() if cursors.get(c, 0) < head}
        return complete and not lagging

    async def _lagging(self, viewer: Viewer | None) -> dict[str, int]:
        """The heads of conversations that have moved on."""
        if viewer is None:
            rows = await self._database.fetch(_LAGGING + " LIMIT $1", MAX_LAGGING)
        else:
            rows = await self._database.fetch(
                f"{_LAGGING} AND h.conversation IN (SELECT id FROM ({_VISIBLE}) v) LIMIT $3",
                viewer.user,
                viewer.sees_public,
                MAX_LAGGING,
            )
        return {row["conversation"]: row["last_seq"] for row in rows}

    async def _read_some(self, lagging: dict[str, int], *, wait: bool) -> dict[str, int]:
        """One chunk; the cursors of all conversations that could be locked, where they stand then."""
        started = monotonic()
        try:
            async with self._database.transaction() as connection:
                await connection.execute(_SETTINGS)
                cursors = await self._locked_cursors(connection, list(lagging), wait)
                spans = self._spans(cursors, lagging)
                if spans:
                    await connection.execute(_READ, *(list(column) for column in zip(*spans, strict=True)))
        except BaseException:
            self._chunk = MIN_CHUNK
            raise
        took_s = monotonic() - started
        self._chunk = max(MIN_CHUNK, self._chunk // 2) if took_s > CHUNK_AIM_S else min(MAX_CHUNK, self._chunk * 2)
        return cursors | {conversation: up_to for conversation, _, up_to in spans}

    async def _locked_cursors(self, connection: Connection, conversations: list[str], wait: bool) -> dict[str, int]:
        await connection.execute(
            "INSERT INTO search_cursors (conversation, seq) SELECT id, 0 FROM conversations WHERE id = ANY($1::uuid[]) "
            "AND NOT EXISTS (SELECT FROM search_cursors s WHERE s.conversation = conversations.id) "
            "ORDER BY id ON CONFLICT DO NOTHING",
            conversations,
        )
        rows = await connection.fetch(
            _LOCK if wait else _LOCK + " SKIP LOCKED",
            conversations,
        )
        return {row["conversation"]: row["seq"] for row in rows}

    def _spans(self, cursors: dict[str, int], heads: dict[str, int]) -> list[tuple[str, int, int]]:
        """(conversation, after, up to): no more events than a chunk in all."""
        spans = []
        left = self._chunk
        for conversation, seq in cursors.items():
            up_to = min(heads[conversation], seq + left)
            if up_to > seq:
                spans.append((conversation, seq, up_to))
                left -= up_to - seq
        return spans


# A chunk that is lost is read again, so its commit waits for no disk. It looks up some hundreds of keys in large
# tables, for which the planner, guessing, would scan whole ones: joins are made as they are written.
_SETTINGS = """
    SET LOCAL synchronous_commit = off; SET LOCAL lock_timeout = '500ms';
    SET LOCAL enable_seqscan = off; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off;
    SET LOCAL join_collapse_limit = 1
"""

_LOCK = """
    SELECT conversation, seq FROM search_cursors WHERE conversation = ANY($1::uuid[]) ORDER BY conversation FOR UPDATE
"""

# What $1 may see, $2 telling whether public rooms are among it: the same rule as for reading.
_VISIBLE = """
    SELECT c.id, c.kind, c.title, coalesce(m.visible_from, 1) AS visible_from
    FROM conversations c LEFT JOIN memberships m ON m.conversation = c.id AND m.user_id = $1
    WHERE c.deleted_at IS NULL AND (m.user_id IS NOT NULL OR (c.visibility = 'public' AND $2::boolean))
      AND (m.opened IS NOT FALSE OR EXISTS (SELECT FROM heads h WHERE h.conversation = c.id AND h.last_seq > 0))
"""

_LAGGING = """
    SELECT h.conversation, h.last_seq FROM heads h LEFT JOIN search_cursors s ON s.conversation = h.conversation
    WHERE h.last_seq > coalesce(s.seq, 0)
"""

# New messages of the spans, and those whose text an event of the spans has changed: both with the text they have now.
_READ = """
    WITH span AS (
        SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::bigint[]) AS s(conversation, after, up_to)
    ), touched AS MATERIALIZED (
        SELECT e.conversation, coalesce(e.data->>'message', e.data->>'id')::uuid AS id FROM span s
        JOIN events e ON e.conversation = s.conversation AND e.seq > s.after AND e.seq <= s.up_to
            AND e.kind IN ('message.edited', 'message.deleted', 'run.ended')
    ), changed AS MATERIALIZED (
        SELECT m.conversation, m.seq FROM span s
        JOIN messages m ON m.conversation = s.conversation AND m.seq > s.after AND m.seq <= s.up_to
        UNION
        SELECT m.conversation, m.seq FROM touched t JOIN messages m ON m.conversation = t.conversation AND m.id = t.id
    ), now AS (
        SELECT m.conversation, m.seq, m.at, m.id, m.actor_kind, m.actor_id, m.text, m.deleted_at
        FROM changed JOIN messages m USING (conversation, seq)
    ), gone AS (
        DELETE FROM message_words w USING now
        WHERE w.conversation = now.conversation AND w.seq = now.seq AND now.deleted_at IS NOT NULL
    ), there AS (
        INSERT INTO message_words (conversation, seq, at, id, model, words)
        SELECT conversation, seq, at, id, CASE actor_kind WHEN 'model' THEN actor_id END, search_words(text)
        FROM now WHERE deleted_at IS NULL AND text <> ''
        ON CONFLICT (conversation, seq) DO UPDATE SET words = excluded.words
    )
    UPDATE search_cursors SET seq = s.up_to FROM span s WHERE search_cursors.conversation = s.conversation
"""

_HITS = f"""
    SELECT w.conversation, v.title, w.seq, w.at, w.id
    FROM message_words w
    JOIN ({_VISIBLE}) v ON v.id = w.conversation AND w.seq >= v.visible_from
    JOIN messages m ON m.conversation = w.conversation AND m.seq = w.seq AND m.deleted_at IS NULL
    WHERE w.words @@ $3::text::tsquery
      AND ($4::uuid IS NULL OR w.conversation = $4) AND ($5::text IS NULL OR w.model = $5)
      AND ($6::timestamptz IS NULL OR w.at >= $6) AND ($7::timestamptz IS NULL OR w.at < $7)
      AND ($8::timestamptz IS NULL OR (w.at, w.id) < ($8, $9::uuid))
    ORDER BY w.at DESC, w.id DESC LIMIT $10
"""

_TITLED = f"""
    SELECT v.id FROM ({_VISIBLE}) v
    LEFT JOIN LATERAL (
        SELECT u.username FROM memberships other JOIN users u ON u.id = other.user_id
        WHERE v.kind = 'private' AND other.conversation = v.id AND other.user_id <> $1 LIMIT 1
    ) peer ON true
    WHERE search_words(coalesce(v.title, peer.username, '')) @@ $3::text::tsquery
    ORDER BY lower(coalesce(v.title, peer.username)), v.id LIMIT $4
"""
