"""Promises broken on purpose: proof that the checker would notice.

In:   the name of a sabotage, in the environment of a worker of the chaos cluster; nowhere else.
Out:  a worker that lies about one thing, and the checks that turned red because of it.
Promises: each breaks one promise by replacing one seam of the server at run time. One that no check notices is a hole
in the checker, and an error.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from tests.chaos.checker import Check, Violation, violations
from tests.chaos.cluster import PostgresNode, on_servers
from tests.chaos.crowd import Crowd, Size
from tests.chaos.seams import replace
from tests.chaos.stage import Play, Stage

SIZE = Size(6, 2, 60.0)
WARM_S = 0.8
SETTLE_S = 3.0  # what is not there by then is what we are looking for
HONEST_SETTLE_S = 60.0  # an honest worker gets all the time it needs
DROP_ONE_IN = 500
DROP_TIMES = 20  # so many more than one in five hundred, that seconds suffice


@dataclass(frozen=True, slots=True)
class Sabotage:
    """`break_it` runs in the worker, before it serves; `play` in the harness, while a small crowd talks."""

    what: str
    check: Check
    break_it: Callable[[], None]
    play: Play


# ---- In the worker ----------------------------------------------------------------------------------------------


def ack_before_commit() -> None:
    from server.hub.message_queue import MessageQueue
    from server.protocol import clock
    from server.protocol.events import MessageCreated
    from server.storage.message_log import Stored

    heads: dict[str, int] = {}

    def putting(put: Callable[..., None]) -> Callable[..., None]:
        def around(self: MessageQueue, draft: Any, settled: Callable[[Any], None]) -> None:
            if not isinstance(draft.data, MessageCreated):
                return put(self, draft, settled)
            feed = self._hub.feed(draft.conversation)
            seq = max(heads.get(draft.conversation, 0), feed.head if feed else 0) + 1
            heads[draft.conversation] = seq
            settled(
                Stored(
                    draft.conversation, seq, draft.data.kind, clock.now(), draft.actor.kind, draft.actor.id,
                    draft.client_id, "{}", message=draft.data.id,
                )
            )  # fmt: skip
            # A commit that takes its time, as it does on a disk that is busy.
            asyncio.get_running_loop().call_later(0.05, put, self, draft, lambda _: None)
            return None

        return around

    replace(MessageQueue, "put", putting)


def publish_before_commit() -> None:
    from server.hub.message_queue import MessageQueue
    from server.protocol import clock
    from server.protocol.codec import encode
    from server.storage.message_log import Stored

    def committing(commit: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def around(self: MessageQueue, batch: Any, *, wait: bool) -> Any:
            heads: dict[str, int] = {}
            early = []
            for draft, _ in batch:
                feed = self._hub.feed(draft.conversation)
                if feed is not None and draft.target is None:
                    seq = heads[draft.conversation] = heads.get(draft.conversation, feed.head) + 1
                    stored = Stored(
                        draft.conversation, seq, draft.data.kind, clock.now(), draft.actor.kind, draft.actor.id,
                        draft.client_id, encode(draft.data).decode(),
                    )  # fmt: skip
                    early.append((stored, draft.actor))
            self._hub.publish(early)
            await asyncio.sleep(0.03)  # the bytes are out, the commit is not
            return await commit(self, batch, wait=wait)

        return around

    replace(MessageQueue, "_commit", committing)


def drop_publishes_unrepaired() -> None:
    """Counted over what really leaves for other nodes; the number is divided so that seconds suffice."""
    from server.hub.feeds import Feeds
    from server.hub.hub import Hub

    passes = count(1)

    def publishing(publish: Callable[..., None]) -> Callable[..., None]:
        def around(self: Hub, committed: Any) -> None:
            committed = list(committed)
            if committed and next(passes) % (DROP_ONE_IN // DROP_TIMES) == 0:
                return None
            return publish(self, committed)

        return around

    async def nothing(*_: Any) -> None:
        """No repair, no comparing."""

    replace(Hub, "publish", publishing)
    replace(Feeds, "_repair", lambda _: nothing)
    replace(Feeds, "compare", lambda _: nothing)


def ignore_client_id() -> None:
    from msgspec.structs import replace as changed

    from server.hub.message_queue import MessageQueue

    def putting(put: Callable[..., None]) -> Callable[..., None]:
        return lambda self, draft, settled: put(self, changed(draft, client_id=None, body_hash=None), settled)

    replace(MessageQueue, "put", putting)


def seq_from_a_sequence() -> None:
    """Numbers are drawn without a lock and before it is known whether the draft is a repeat, as `INSERT … ON CONFLICT`
    with a sequence does it."""
    from server.storage.message_log import MessageLog

    def appending(append: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def around(self: MessageLog, drafts: Sequence[Any], *, wait: bool = False) -> Any:
            async with self._database.transaction() as connection:
                for draft in drafts:
                    known = await connection.fetchval(_IS_REPEAT, draft.conversation, draft.actor.id, draft.client_id)
                    if known:
                        await connection.execute(_DRAW, draft.conversation)
            return await append(self, drafts, wait=wait)

        return around

    replace(MessageLog, "append", appending)


_IS_REPEAT = "SELECT EXISTS (SELECT FROM events WHERE conversation = $1 AND actor_id = $2 AND client_id = $3)"
_DRAW = "UPDATE heads SET last_seq = last_seq + 1 WHERE conversation = $1"


def skip_membership_check() -> None:
    import server.gateway.subscribing as subscribing

    replace(subscribing, "may_read", lambda _: lambda standing: True)


def never_recheck_sessions() -> None:
    from server.hub.grant_watch import GrantWatch
    from server.hub.hub import Hub

    async def nothing(*_: Any) -> None:
        """Nobody is told that a sign-in has ended, and nobody asks."""

    replace(Hub, "end_grants", lambda _: nothing)
    replace(GrantWatch, "check", lambda _: nothing)


def leave_runs_unfinished() -> None:
    from server.hub.run_carrier import RunCarrier
    from server.storage import projections, runs

    async def nothing(*_: Any) -> None:
        """Nobody looks for runs without a carrier."""

    replace(RunCarrier, "_sweep", lambda _: nothing)
    for module in (projections, runs):
        replace(module, "RUN_LEASE_S", lambda _: 1.5)  # so that seconds suffice


def at_the_nth_ack(do: Callable[[Any, Any], None], nth: int = 40) -> None:
    """`do(connection, ack)` once, after it was told."""
    from server.gateway.connection import Connection
    from server.protocol.frames import Ack

    passes = count(1)

    def telling(tell: Callable[..., None]) -> Callable[..., None]:
        def around(self: Any, frame: Any) -> None:
            tell(self, frame)
            if isinstance(frame, Ack) and next(passes) == nth:
                do(self, frame)

        return around

    replace(Connection, "tell", telling)


def send_somebody_away() -> None:
    from server.hub.hub import SESSION_ENDED

    at_the_nth_ack(lambda connection, _: connection.end(SESSION_ENDED, "session ended"))


def drop_from_a_room() -> None:
    at_the_nth_ack(lambda connection, _: connection.lose(next(iter(connection.subscriptions)), "kicked"))


def answer_twice() -> None:
    at_the_nth_ack(lambda connection, ack: connection.tell(ack))


def lose_invitations() -> None:
    from server.hub.hub import Hub

    replace(Hub, "tell_added", lambda _: lambda *_: None)


# ---- In the harness ---------------------------------------------------------------------------------------------


async def kill_and_restart(stage: Stage) -> None:
    for _ in range(2):
        await asyncio.sleep(0.5)
        await stage.cluster.workers[0].kill()
        await stage.cluster.start_all()


async def talk_on(stage: Stage) -> None:
    await asyncio.sleep(2.5)


async def send_twice(stage: Stage) -> None:
    """Repeats, as every client makes them after a lost answer."""
    crowd = stage.crowd
    for _ in range(5):
        device, room = crowd.devices[0], crowd.rooms[0].id
        asked = device.ask("send", room, text="said once, sent twice")
        await asyncio.wait_for(asked.settled, 10.0)
        again = crowd.devices[0].ask("send", room, frame_id=asked.id, text="said once, sent twice")
        await asyncio.wait_for(again.settled, 10.0)


async def look_in_from_outside(stage: Stage) -> None:
    """Somebody who is no member asks to follow a room."""
    crowd = stage.crowd
    room = await crowd.make_room(crowd.people[:2], "a room of two")
    crowd.devices[0].ask("send", room.id, text="only for you")
    crowd.devices[-1].follow(room.id, 0)
    await asyncio.sleep(1.0)


async def log_out_and_listen(stage: Stage) -> None:
    await stage.crowd.log_out(stage.crowd.devices[1])
    await asyncio.sleep(2.5)


async def kill_carrier(stage: Stage) -> None:
    device = stage.crowd.devices[0]
    await asyncio.wait_for(device.ask("run", stage.crowd.rooms[0].id).settled, 10.0)
    await asyncio.sleep(0.2)
    await stage.cluster.workers[0].kill()
    await stage.cluster.start_all()
    await asyncio.sleep(1.5)


SABOTAGES: dict[str, Sabotage] = {
    "ack-before-commit": Sabotage("acknowledges, then commits", Check.LOST, ack_before_commit, kill_and_restart),
    "publish-before-commit": Sabotage(
        "tells everybody, then commits", Check.REORDERED, publish_before_commit, kill_and_restart
    ),
    "drop-publishes": Sabotage(
        f"loses 1 publish in {DROP_ONE_IN // DROP_TIMES}, repairs nothing", Check.HOLED, drop_publishes_unrepaired,
        talk_on,
    ),
    "ignore-client-id": Sabotage("takes a repeat for something new", Check.DOUBLED, ignore_client_id, send_twice),
    "seq-from-sequence": Sabotage("draws numbers that are never used", Check.HOLED, seq_from_a_sequence, send_twice),
    "skip-membership": Sabotage(
        "lets everybody subscribe", Check.FOREIGN, skip_membership_check, look_in_from_outside
    ),
    "keep-sessions": Sabotage(
        "leaves sockets open after a log-out", Check.AFTER_REVOCATION, never_recheck_sessions, log_out_and_listen
    ),
    "leave-runs": Sabotage(
        "looks for no run without a carrier", Check.UNFINISHED, leave_runs_unfinished, kill_carrier
    ),
    "send-away": Sabotage("ends a sign-in for no reason", Check.THROWN_OUT, send_somebody_away, talk_on),
    "drop-from-room": Sabotage("takes a member for a stranger", Check.DROPPED, drop_from_a_room, talk_on),
    "lose-invitations": Sabotage("tells nobody who was let in", Check.UNTOLD, lose_invitations, talk_on),
    "answer-twice": Sabotage("answers something twice", Check.ANSWERED_TWICE, answer_twice, talk_on),
}  # fmt: skip


@asynccontextmanager
async def servers(folder: Path) -> AsyncIterator[PostgresNode]:
    """One Postgres for all; each sabotage gets workers and a database of its own, and needs no Redis."""
    postgres = PostgresNode(folder)
    await postgres.start()
    try:
        yield postgres
    finally:
        await postgres.stop()


async def try_it(postgres: PostgresNode, name: str, *, seed: int = 1) -> list[Violation]:
    """What the checker finds when this promise is broken."""
    return await _play(postgres, name, name, [SABOTAGES[name].play], seed)


async def try_without(postgres: PostgresNode, *, seed: int = 1) -> list[Violation]:
    """The same with an honest worker: everything that is done to the others, one after the other."""
    plays = dict.fromkeys(entry.play for entry in SABOTAGES.values())
    return await _play(postgres, "honest", None, list(plays), seed)


async def _play(
    postgres: PostgresNode, name: str, sabotage: str | None, plays: Sequence[Play], seed: int
) -> list[Violation]:
    own = await postgres.with_database(name)
    async with on_servers(postgres.folder / name, own, None, 1, sabotage=sabotage) as made:
        crowd = Crowd(made, SIZE, seed)
        stage = Stage(made, crowd, random.Random(seed), 0.0)
        try:
            await crowd.gather()
            crowd.begin()
            await asyncio.sleep(WARM_S)
            for play in plays:
                await play(stage)
            await crowd.hush()
            await crowd.settle(HONEST_SETTLE_S if sabotage is None else SETTLE_S)
        finally:
            await crowd.disperse()
        return violations(stage.records, await crowd.snapshot())
