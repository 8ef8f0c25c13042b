"""A room with a million messages: sending there must cost what it costs in an empty one, for the server, Postgres and
the sender.

The past is one message that was really sent, repeated by one statement with ids, times and authors of its own: the
tables, their indexes and their statistics are what a million sends would have left.
"""

import asyncio
import time

import asyncpg

from tests.load.load_client import Load, Outcome
from tests.load.peers import PADDING
from tests.load.people import Person, add_room
from tests.load.processes import BenchError
from tests.load.setting import Setting, one_event, send, subscribe
from tests.load.studio_process import Server
from tests.load.table import Pairs, Row

MESSAGES = 1_000_000
AUTHORS = 100
TARGET = 1.1
SECONDS = 1.5
FILL_TIMEOUT_S = 120.0  # a statement
SEARCHABLE_TIMEOUT_S = 20.0


def measure(setting: Setting) -> list[Row]:
    with setting.studio.serving(setting.cores.server) as server:
        people = setting.people(AUTHORS)
        sender = people[0]
        room = add_room(server.port, sender, people)
        one_event(server, sender, room)
        messages = MESSAGES // 10 if setting.is_quick else MESSAGES
        setting.tell(f"filling a room with {messages:,} messages")
        began = time.monotonic()
        asyncio.run(fill(setting.studio.dsn, room, people, messages))
        filled_in_s = time.monotonic() - began
        long: list[Outcome] = []
        empty: list[Outcome] = []
        for number in setting.rounds(5):
            setting.tell(f"sending to the long room and an empty one, round {number + 1}")
            long.append(_send(setting, server, sender, room))
            empty.append(_send(setting, server, sender, add_room(server.port, sender)))
        setting.profile("one sender, 1 in flight", server, lambda: _send(setting, server, sender, room))
    return [
        _row(f"a send to a room of {messages:,}: CPU, ours and Postgres'", [_cost_us(o) for o in long],
             [_cost_us(o) for o in empty], "µs", f"the room was filled in {filled_in_s:.0f} s"),
        _row("the same: server alone", [1e6 * o.server_cpu_s / o.acks for o in long],
             [1e6 * o.server_cpu_s / o.acks for o in empty], "µs", has_target=False),
        _row("the same: Postgres alone", [1e6 * o.postgres_cpu_s / o.acks for o in long],
             [1e6 * o.postgres_cpu_s / o.acks for o in empty], "µs", has_target=False),
        _row("the same: send to own event, p50", [o.p50_ms for o in long], [o.p50_ms for o in empty], "ms"),
    ]  # fmt: skip


def _send(setting: Setting, server: Server, sender: Person, room: str) -> Outcome:
    """One after the other, each waiting for the one before."""
    load = Load(
        server.port, "/ws", 1, hello=[subscribe(room)], ready_mark='"subscribed"', publish=send(room),
        padding_bytes=PADDING, in_flight=1, seconds=SECONDS, warm_s=0.3, settle_s=0.1, tokens=setting.tokens([sender]),
    )  # fmt: skip
    return setting.client.run(load, server.pid)


def _cost_us(outcome: Outcome) -> float:
    return 1e6 * (outcome.server_cpu_s + outcome.postgres_cpu_s) / outcome.acks


def _row(
    figure: str, long: list[float], empty: list[float], unit: str, notes: str = "", *, has_target: bool = True
) -> Row:
    pairs = Pairs.of(long, empty)
    digits = 0 if unit == "µs" else 2
    return Row(
        figure,
        f"{pairs.ours:.{digits}f} {unit}",
        f"empty room {pairs.beside:.{digits}f} {unit}",
        pairs.text,
        f"<= {TARGET}" if has_target else "",
        pairs.ratio <= TARGET if has_target else None,
        notes,
    )


async def fill(dsn: str, room: str, authors: list[Person], count: int) -> None:
    """Repeat the one message of `room` until it is `count` messages long. Nobody may follow the room meanwhile."""
    connection = await asyncpg.connect(dsn, command_timeout=FILL_TIMEOUT_S)
    try:
        await _until_searchable(connection, room)
        async with connection.transaction():
            await connection.execute("SET LOCAL synchronous_commit = off")
            for statement in (_FILL_EVENTS, _FILL_MESSAGES, _FILL_WORDS):
                await connection.execute(statement, room, count - 1, [author.id for author in authors])
            await connection.execute(_MOVE_HEAD, room, count - 1)
            await connection.execute(_MOVE_CURSOR, room, count - 1)
        await connection.execute("VACUUM (ANALYZE) events, messages, message_words, heads, search_cursors")
    finally:
        await connection.close()


async def _until_searchable(connection: asyncpg.Connection, room: str) -> None:
    """What search makes of the message is repeated with it: else the studio would read a million messages meanwhile."""
    deadline = time.monotonic() + SEARCHABLE_TIMEOUT_S
    while not await connection.fetchval("SELECT count(*) FROM message_words WHERE conversation = $1", room):
        if time.monotonic() > deadline:
            raise BenchError("a message has not become searchable")
        await asyncio.sleep(0.1)


# The id of the n-th message: shaped and sorted like a UUIDv7 of some years ago.
_ID = "('018bcfe5-' || lpad(to_hex(n / 65536), 4, '0') || '-7000-8000-' || lpad(to_hex(n), 12, '0'))"
_AUTHOR = "($3::text[])[1 + n % cardinality($3::text[])]"
_AT = "m.at - ($2::int - n) * interval '20 seconds'"
_MESSAGES = "FROM messages m CROSS JOIN generate_series(1, $2::int) n"
_FILL_EVENTS = f"""
    INSERT INTO events (conversation, seq, kind, actor_kind, actor_id, client_id, body_hash, data, at)
    SELECT m.conversation, m.seq + n, e.kind, e.actor_kind, {_AUTHOR}, {_ID}, decode(md5(n::text), 'hex'),
        replace(replace(e.data::text, m.id::text, {_ID}), m.client_id, {_ID})::json, {_AT}
    {_MESSAGES} JOIN events e ON e.conversation = m.conversation AND e.seq = m.seq
    WHERE m.conversation = $1
"""
_FILL_MESSAGES = f"""
    INSERT INTO messages (
        conversation, seq, id, ordinal, actor_kind, actor_id, client_id, text, at, attachments, mentions, people_only
    )
    SELECT m.conversation, m.seq + n, {_ID}::uuid, m.ordinal + n, m.actor_kind, {_AUTHOR}, {_ID}, m.text, {_AT},
        m.attachments, m.mentions, m.people_only
    {_MESSAGES} WHERE m.conversation = $1 AND m.ordinal = 1
"""
_FILL_WORDS = f"""
    INSERT INTO message_words (conversation, seq, at, id, model, words)
    SELECT m.conversation, m.seq + n, {_AT}, {_ID}::uuid, w.model, w.words
    {_MESSAGES} JOIN message_words w ON w.conversation = m.conversation AND w.seq = m.seq
    WHERE m.conversation = $1 AND m.ordinal = 1 AND $3::text[] IS NOT NULL
"""
_MOVE_HEAD = "UPDATE heads SET last_seq = last_seq + $2, message_count = message_count + $2 WHERE conversation = $1"
_MOVE_CURSOR = "UPDATE search_cursors SET seq = seq + $2 WHERE conversation = $1"
