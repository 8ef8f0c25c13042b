"""A room with a million messages: sending there must cost what it costs in an empty one, for the server, Postgres and the sender.

The past is one message that was really sent, repeated by one statement with ids, times and authors of its own: the tables, their
indexes and their statistics are what a million sends would have left.
"""

import asyncio
import time

import asyncpg

from tests.load.load_client import Load, Outcome
from tests.load.people import Person, add_room
from tests.load.peers import PADDING
from tests.load.setting import Setting, one_event, send, subscribe
from tests.load.studio_process import Server
from tests.load.table import Pairs, Row

MESSAGES = 1_000_000
AUTHORS = 100
TARGET = 1.1
SECONDS = 1.5
FILL_TIMEOUT_S = 120.0


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
        for number in setting.rounds(6):
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
        server.port, "/ws", 1, hello=[subscribe(room)], ready_mark='"subscribed"', publish=send(room), padding_bytes=PADDING,
        in_flight=1, seconds=SECONDS, warm_s=0.3, settle_s=0.1, tokens=setting.tokens([sender]),
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
        async with connection.transaction():
            await connection.execute("SET LOCAL synchronous_commit = off")
            first = await connection.fetchrow(
                "SELECT seq, ordinal, id, client_id FROM messages WHERE conversation = $1", room
            )
            assert first is not None
            arguments = (room, count - 1, [author.id for author in authors])
            await connection.execute(_FILL_EVENTS, *arguments, first["seq"], str(first["id"]), first["client_id"])
            await connection.execute(_FILL_MESSAGES, *arguments, first["seq"], first["ordinal"])
            await connection.execute(
                "UPDATE heads SET last_seq = last_seq + $2, message_count = message_count + $2 WHERE conversation = $1",
                room,
                count - 1,
            )
        await connection.execute("VACUUM (ANALYZE) events, messages, heads")
    finally:
        await connection.close()


# The id of the n-th message: shaped and sorted like a UUIDv7 of some years ago.
_ID = "'018bcfe5-' || lpad(to_hex(n / 65536), 4, '0') || '-7000-8000-' || lpad(to_hex(n), 12, '0')"
_FILL_EVENTS = f"""
    INSERT INTO events (conversation, seq, kind, actor_kind, actor_id, client_id, body_hash, data, at)
    SELECT e.conversation, e.seq + n, e.kind, e.actor_kind, ($3::text[])[1 + n % cardinality($3::text[])], {_ID},
        decode(md5(n::text), 'hex'), replace(replace(e.data::text, $5, {_ID}), $6, {_ID})::json,
        e.at - ($2 - n) * interval '20 seconds'
    FROM events e, generate_series(1, $2::int) n
    WHERE e.conversation = $1 AND e.seq = $4
"""
_FILL_MESSAGES = f"""
    INSERT INTO messages (
        conversation, seq, id, ordinal, actor_kind, actor_id, client_id, text, at, reply_to, thread, attachments, mentions, people_only
    )
    SELECT m.conversation, m.seq + n, ({_ID})::uuid, $5::bigint + n, m.actor_kind, ($3::text[])[1 + n % cardinality($3::text[])],
        {_ID}, m.text, m.at - ($2 - n) * interval '20 seconds', m.reply_to, m.thread, m.attachments, m.mentions, m.people_only
    FROM messages m, generate_series(1, $2::int) n
    WHERE m.conversation = $1 AND m.seq = $4
"""
