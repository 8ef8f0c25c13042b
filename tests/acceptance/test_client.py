"""The client for programs, against real studios that are killed, stopped, restored and slow to start."""

import asyncio
import re
import signal
import sys
from pathlib import Path
from typing import Any, TypeVar

import pytest

from server.client import (
    Added,
    Closed,
    ConnectionChange,
    Cursor,
    Down,
    Entry,
    Item,
    Removed,
    Reset,
    SignedOut,
    Stream,
    Studio,
    StudioAway,
    Submitted,
    Unconfirmed,
    Up,
    WrongPassword,
)
from server.client.items import Line
from server.client.rest import Rest
from server.protocol.codec import parse
from server.protocol.errors import Conflict, Forbidden, NotFound, TooLarge
from server.protocol.events import MessageCreated
from server.protocol.frames import Send
from server.protocol.ids import new_id
from tests.running_studio import PASSWORD, Person, RunningStudio
from tests.studio_process import StudioProcess, free_port

C = TypeVar("C", Up, Down)

PATIENCE_S = 60.0  # for what takes a second on an idle machine
COUNT = 120
DOCUMENTATION = Path(__file__).parents[2] / "docs" / "bot.md"


def as_program(studio: RunningStudio | StudioProcess, person: Person, **more: Any) -> Studio:
    return Studio(studio.url, token=person.token, chance=lambda: 0.1, **more)


async def take(stream: Stream, count: int) -> list[Item]:
    async with asyncio.timeout(PATIENCE_S):
        return [await anext(stream) for _ in range(count)]


async def entries(stream: Stream, count: int) -> list[Entry]:
    items = await take(stream, count)
    assert all(isinstance(item, Entry) for item in items), items
    return [item for item in items if isinstance(item, Entry)]


def texts(found: list[Entry]) -> list[str]:
    return [entry.data.text for entry in found if isinstance(entry.data, MessageCreated)]


class Changes:
    """Hears of the connection."""

    def __init__(self) -> None:
        self.all: list[ConnectionChange] = []
        self._moved = asyncio.Event()

    def __call__(self, change: ConnectionChange) -> None:
        self.all.append(change)
        self._moved.set()

    async def until(self, count: int, shape: type[C]) -> list[C]:
        async with asyncio.timeout(PATIENCE_S):
            while len(found := [change for change in self.all if isinstance(change, shape)]) < count:
                self._moved.clear()
                await self._moved.wait()
        return found

    @property
    def line(self) -> Line:
        return next(change for change in reversed(self.all) if isinstance(change, Up)).line


# Talking and listening


async def test_a_message_is_acknowledged_and_heard_in_order(studio: RunningStudio) -> None:
    alice, bob = await studio.person("alice"), await studio.person("bob")
    room = await alice.room("by title", members=[bob.id])
    async with as_program(studio, alice) as mine, as_program(studio, bob) as other:
        said, heard = await mine.conversation(room), await other.conversation("by title")
        stream = heard.events(after=0)
        acks = [await said.send(f"line {n}") for n in range(10)]
        assert [ack.seq for ack in acks] == list(range(1, 11))
        assert texts(await entries(stream, 10)) == [f"line {n}" for n in range(10)]
        assert mine.user.username == "alice"
        assert (mine.outstanding, other.faults.holes, other.faults.repeats) == (0, 0, 0)


async def test_the_example_in_the_documentation_answers(studio: RunningStudio, tmp_path: Path) -> None:
    """The bot of docs/bot.md, as it stands there, in a process of its own."""
    example = re.search(r"```python\n(.*?)```", DOCUMENTATION.read_text(), re.DOTALL)
    assert example is not None
    alice, _ = await studio.person("alice"), await studio.person("bot")
    room = await alice.room("Welcome", visibility="public")
    program = tmp_path / "bot.py"
    program.write_text(example[1].replace("http://127.0.0.1:8000", studio.url).replace('"…"', repr(PASSWORD)))
    running = await asyncio.create_subprocess_exec(sys.executable, program, stderr=asyncio.subprocess.PIPE)
    try:
        async with alice.socket("/ws", room) as listening, asyncio.timeout(PATIENCE_S):
            await listening.event("member.joined")
            while not any(event["data"].get("text") == "pong" for event in listening.events(room)):
                asked = await listening.say(room, "ping")  # again, until the bot listens
                assert asked["message"]
                await asyncio.sleep(0.2)
                await listening.settle()
                assert running.returncode is None, await running.communicate()
            answer = next(event for event in listening.events(room) if event["data"].get("text") == "pong")
            assert answer["data"]["client_id"] == f"pong-{answer['data']['reply_to']}"
    finally:
        running.kill()
        await running.communicate()


async def test_a_refusal_is_the_error_of_its_code(studio: RunningStudio) -> None:
    alice, bob = await studio.person("alice"), await studio.person("bob")
    room = await alice.room(members=[bob.id])
    async with as_program(studio, alice) as mine, as_program(studio, bob) as other:
        said, heard = await mine.conversation(room), await other.conversation(room)
        message = str((await said.send("mine", client_id="a-1")).message)
        with pytest.raises(Conflict):
            await said.send("another text", client_id="a-1")
        with pytest.raises(Forbidden):
            await heard.edit(message, "not yours")
        with pytest.raises(NotFound):
            await said.react(new_id(), "👍")
        with pytest.raises(TooLarge):
            await said.send("x" * 65_536)
        with pytest.raises(NotFound):
            await other.conversation("no such title")
        with pytest.raises(NotFound):
            await other.follow(new_id())
        assert (await said.send("mine", client_id="a-1")).message == message


async def test_messages_are_heard_whole_and_not_ones_own(studio: RunningStudio) -> None:
    alice, bob = await studio.person("alice"), await studio.person("bob")
    room = await alice.room(members=[bob.id])
    async with as_program(studio, alice) as mine, as_program(studio, bob) as other:
        said, heard = await mine.conversation(room), await other.conversation(room)
        messages = heard.messages(after=0)
        await heard.send("my own")
        await said.send("@demo hello")
        async with asyncio.timeout(PATIENCE_S):
            question, answer = await anext(messages), await anext(messages)
        assert (question.text, question.actor.name) == ("@demo hello", "alice")
        assert (answer.actor.kind, answer.reply_to) == ("model", question.id)
        assert answer.run is not None
        assert answer.run.status == "finished"
        assert answer.text
        page = await heard.page()
        assert page.messages[-1] == answer


async def test_an_unknown_kind_of_entry_passes_through(studio: RunningStudio) -> None:
    alice = await studio.person("alice")
    room = await alice.room()
    async with as_program(studio, alice) as mine:
        said = await mine.conversation(room)
        stream = said.events(after=0)
        await said.send("one")
        [entry] = await entries(stream, 1)
        assert Entry(entry.frame.__class__(
            conversation=room, seq=2, kind="later.kind", at=entry.at, actor=entry.actor, data=entry.raw
        )).data is None  # fmt: skip


# Connections that are lost


async def test_kills_of_the_server_lose_and_double_nothing(started_studio: StudioProcess) -> None:
    alice, bob = await started_studio.people(["alice", "bob"])
    room = await alice.room(members=[bob.id])
    async with (
        as_program(started_studio, alice, pipeline=8, max_outstanding=1000) as mine,
        as_program(started_studio, bob) as other,
    ):
        said, heard = await mine.conversation(room), await other.conversation(room)
        stream = heard.events(after=0)
        own = said.events(after=0)
        sent: list[Submitted] = []
        for part in range(3):
            sent += [await said.submit(f"line {part} {n}") for n in range(COUNT // 2)]
            async with asyncio.timeout(PATIENCE_S):
                await sent[-COUNT // 4]  # the others are on their way, or wait
            await started_studio.kill()
            sent += [await said.submit(f"line {part} {n}") for n in range(COUNT // 2, COUNT)]
            await started_studio.start()
        async with asyncio.timeout(PATIENCE_S):
            acks = [await one for one in sent]
        assert [ack.seq for ack in acks] == list(range(1, 3 * COUNT + 1)), (
            "the order of the sends is the order of the log"
        )
        expected = [f"line {part} {n}" for part in range(3) for n in range(COUNT)]
        assert texts(await entries(stream, 3 * COUNT)) == expected
        assert texts(await entries(own, 3 * COUNT)) == expected
        assert max(one.attempts for one in sent) > 1, "no kill met a message in flight"
        page = await heard.log(limit=1000)
        assert [event.seq for event in page.events] == list(range(1, 3 * COUNT + 1))


async def test_a_stop_is_waited_out_as_long_as_the_server_said(started_studio: StudioProcess) -> None:
    [alice] = await started_studio.people(["alice"])
    room = await alice.room()
    changes, drains = Changes(), list[object]()

    def on_frame(direction: str, raw: bytes) -> None:
        if b'"drain"' in raw:
            drains.append(parse(raw.decode()))

    async with as_program(started_studio, alice, on_connection=changes, on_frame=on_frame) as mine:
        said = await mine.conversation(room)
        stream = said.events(after=0)
        await said.send("before")
        assert await started_studio.stop(signal.SIGTERM) == 0
        down = (await changes.until(1, Down))[0]
        assert down.code == 1012
        assert drains == [{"type": "drain", "reconnect_in_ms": round(down.back_in_s * 1000)}]
        sending = asyncio.create_task(said.send("while it was away"))
        await started_studio.start()
        assert (await sending).seq == 2
        assert texts(await entries(stream, 2)) == ["before", "while it was away"]


async def test_a_cut_socket_resumes_from_its_cursor(studio: RunningStudio) -> None:
    alice, bob = await studio.person("alice"), await studio.person("bob")
    room = await alice.room(members=[bob.id])
    changes = Changes()
    async with as_program(studio, alice) as mine, as_program(studio, bob, on_connection=changes) as other:
        said, heard = await mine.conversation(room), await other.conversation(room)
        stream = heard.events(after=0)
        for n in range(5):
            await said.send(f"line {n}")
            changes.line.cut()
            await changes.until(n + 2, Up)
        assert texts(await entries(stream, 5)) == [f"line {n}" for n in range(5)]
        assert (other.faults.holes, other.faults.repeats) == (0, 0)


async def test_a_silent_server_is_given_up(studio: RunningStudio) -> None:
    alice = await studio.person("alice")
    changes = Changes()
    async with as_program(studio, alice, silence_s=0.4, on_connection=changes):
        changes.line.stall()
        [down, *_] = await changes.until(1, Down)
        assert down.code == 4012
        await changes.until(2, Up)


async def test_the_next_address_is_tried_when_one_is_away(studio: RunningStudio) -> None:
    alice = await studio.person("alice")
    room = await alice.room()
    changes = Changes()
    nobody = f"http://127.0.0.1:{free_port()}"
    async with Studio([nobody, studio.url], token=alice.token, on_connection=changes) as mine:
        assert isinstance(changes.all[0], Down)
        assert changes.all[0].url == nobody
        assert (await (await mine.conversation(room)).send("here")).seq == 1


async def test_a_server_that_is_away_at_the_start_is_waited_for(stopped_studio: StudioProcess) -> None:
    [alice] = await stopped_studio.people(["alice"])
    with pytest.raises(StudioAway, match=str(stopped_studio.port)):
        async with as_program(stopped_studio, alice, start_within_s=0.2):
            pass
    starting = asyncio.create_task(stopped_studio.start())
    async with as_program(stopped_studio, alice) as mine:
        assert mine.is_connected
    await starting


async def test_what_finds_no_answer_is_unconfirmed(studio: RunningStudio) -> None:
    alice = await studio.person("alice")
    room = await alice.room()
    changes = Changes()
    async with as_program(studio, alice, on_connection=changes) as mine:
        said = await mine.conversation(room)
        changes.line.stall()
        with pytest.raises(Unconfirmed) as caught:
            await said.send("perhaps", client_id="once", within_s=0.2)
        assert caught.value.frame_id == "once"
        changes.line.flow()
        assert (await said.send("perhaps", client_id="once")).seq == 1
        assert (await said.send("after")).seq == 2


# Who it is


async def test_a_wrong_password_is_told_at_once(studio: RunningStudio) -> None:
    await studio.person("alice")
    with pytest.raises(WrongPassword):
        async with Studio(studio.url, username="alice", password="not this one"):
            pass


async def test_an_expired_token_is_refreshed_and_a_lost_one_is_not(studio: RunningStudio) -> None:
    alice = await studio.person("alice")
    room = await alice.room()
    changes, kept = Changes(), list[str]()
    async with Studio(
        studio.url, username="alice", password=PASSWORD, on_connection=changes, on_refresh=kept.append
    ) as mine:
        said = await mine.conversation(room)
        await studio.parts.database.execute("UPDATE tokens SET expires_at = now() WHERE purpose = 'access'")
        changes.line.cut()
        await changes.until(2, Up)
        assert (await said.send("refreshed")).seq == 1
        assert len(kept) == 2
        assert mine.refresh_token == kept[-1]
    async with Studio(studio.url, refresh_token=kept[-1]) as again:
        assert again.user.username == "alice"
    with pytest.raises(SignedOut):
        async with Studio(studio.url, refresh_token=kept[0]):
            pass


async def test_an_ended_session_ends_everything_that_waits(studio: RunningStudio) -> None:
    alice = await studio.person("alice")
    room = await alice.room()
    async with as_program(studio, alice) as mine:
        said = await mine.conversation(room)
        stream = said.events(after=0)
        await said.send("last words")
        await alice.call("POST", "/api/auth/logout", expect=204)
        assert texts(await entries(stream, 1)) == ["last words"]
        with pytest.raises(SignedOut):
            await anext(stream)
        with pytest.raises(SignedOut):
            await said.send("nobody hears")


async def test_closing_ends_streams_and_sends(studio: RunningStudio) -> None:
    alice = await studio.person("alice")
    room = await alice.room()
    async with as_program(studio, alice) as mine:
        said = await mine.conversation(room)
        stream = said.events()
        await said.follow()
    assert [item async for item in stream] == []
    with pytest.raises(Closed):
        await said.send("too late")


async def test_an_error_of_the_programs_own_ends_everything_that_waits(studio: RunningStudio) -> None:
    alice = await studio.person("alice")
    room = await alice.room()
    changes = Changes()

    def hear(change: ConnectionChange) -> None:
        changes(change)
        if isinstance(change, Down):
            raise LookupError("a callback that is broken")

    async with as_program(studio, alice, on_connection=hear) as mine:
        said = await mine.conversation(room)
        stream = said.events()
        await said.follow()
        changes.line.stall()
        waiting = await said.submit("nobody answers")
        changes.line.cut()
        async with asyncio.timeout(PATIENCE_S):
            with pytest.raises(LookupError):
                await anext(stream)
            with pytest.raises(LookupError):
                await waiting
        with pytest.raises(LookupError):
            await said.send("nobody hears")


async def test_an_answer_that_cannot_be_read_is_none_and_the_next_address_is_tried(studio: RunningStudio) -> None:
    """The page of a proxy, with a status that says that all is well."""
    alice = await studio.person("alice")
    room = await alice.room()
    asked: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        page = b"<html>We are back soon</html>"
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(page), page))
        await writer.drain()
        writer.close()

    proxy = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with proxy:
        addresses = [f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}", studio.url]
        async with Studio(addresses, username="alice", password=PASSWORD, chance=lambda: 0.1) as mine:
            assert (await mine.conversation(room)).id == room
            assert asked[0].startswith(b"POST /api/auth/token")
            wrong_first = Rest(mine._requests, mine._sign_in, lambda n: addresses[n % 2], lambda: 0.1)
            assert (await wrong_first.conversation(room)).id == room
            assert asked[-1].startswith(b"GET ")


# Missing a lot


async def test_a_restart_of_the_program_goes_on_from_its_cursors(studio: RunningStudio) -> None:
    alice = await studio.person("alice")
    room = await alice.room()
    async with as_program(studio, alice) as first:
        said = await first.conversation(room)
        stream = said.events(after=0)
        for n in range(6):
            await said.send(f"line {n}")
        assert texts(await entries(stream, 3)) == ["line 0", "line 1", "line 2"]
        cursors = first.cursors  # the third was handed out, and nobody asked for the next one
    assert cursors[room].seq == 2
    async with as_program(studio, alice, cursors=cursors) as second:
        stream = (await second.conversation(room)).events()
        assert texts(await entries(stream, 4)) == [f"line {n}" for n in range(2, 6)]


async def test_too_much_for_a_socket_is_read_over_http_without_a_hole(studio: RunningStudio) -> None:
    alice = await studio.person("alice")
    room = await alice.room()
    async with as_program(studio, alice, pipeline=64) as mine:
        said = await mine.conversation(room)
        sent = [await said.submit(f"line {n}") for n in range(1300)]
        await sent[-1]
    before = studio.parts.hub.feed(room)
    assert before is None, "the ring would answer"
    async with as_program(studio, alice) as late:
        stream = (await late.conversation(room)).events(after=Cursor(seq=0))
        assert [entry.seq for entry in await entries(stream, 1300)] == list(range(1, 1301))
        await (await late.conversation(room)).send("live")
        assert texts(await entries(stream, 1)) == ["live"]


async def test_another_log_is_told_as_a_reset(studio: RunningStudio) -> None:
    alice = await studio.person("alice")
    room = await alice.room()
    async with as_program(studio, alice, cursors={room: Cursor(seq=7, epoch="of another")}) as mine:
        said = await mine.conversation(room)
        await said.send("before")
        stream = said.events()
        [reset] = await take(stream, 1)
        assert isinstance(reset, Reset)
        assert [message.text for message in reset.page.messages] == ["before"]
        await said.send("after")
        assert texts(await entries(stream, 1)) == ["after"]


async def test_a_slow_reader_leaves_the_rest_with_the_server(studio: RunningStudio) -> None:
    alice = await studio.person("alice")
    room = await alice.room()
    async with as_program(studio, alice, max_unread=10) as mine:
        said = await mine.conversation(room)
        stream = said.events(after=0)
        for n in range(200):
            await said.send(f"line {n}")
        assert stream.is_full
        assert stream.unread == 10
        assert texts(await entries(stream, 200)) == [f"line {n}" for n in range(200)]


# Coming and going


async def test_conversations_that_become_mine_are_followed_and_those_that_cease_end(studio: RunningStudio) -> None:
    alice, bot = await studio.person("alice"), await studio.person("bot")
    async with as_program(studio, bot, follow_all=True) as program:
        stream = program.events()
        room = await alice.room(members=[bot.id])
        [added] = await take(stream, 1)
        assert isinstance(added, Added)
        assert added.conversation == room
        await alice.call("POST", f"/api/conversations/{room}/messages", {"id": "m1", "text": "hello"}, expect=201)
        assert texts(await entries(stream, 1)) == ["hello"]
        await alice.call("DELETE", f"/api/conversations/{room}/members/{bot.id}", expect=204)
        left, removed = await take(stream, 2)
        assert isinstance(left, Entry)
        assert left.kind == "member.left"
        assert removed == Removed(room, "kicked")


async def test_a_first_private_message_is_not_missed(studio: RunningStudio) -> None:
    alice, bot = await studio.person("alice"), await studio.person("bot")
    changes = Changes()
    async with as_program(studio, bot, follow_all=True, on_connection=changes) as program:
        stream = program.events()
        line = changes.line
        line.stall()
        chat = await alice.call("POST", "/api/conversations", {"kind": "private", "members": [bot.id]}, expect=201)
        await alice.call("POST", f"/api/conversations/{chat['id']}/messages", {"id": "m1", "text": "hi"}, expect=201)
        line.cut()  # what became mine is found in the next welcome
        added, entry = await take(stream, 2)
        assert isinstance(added, Added)
        assert isinstance(entry, Entry)
        assert texts([entry]) == ["hi"]


async def test_every_frame_is_shown_to_whoever_asks(studio: RunningStudio) -> None:
    alice = await studio.person("alice")
    room = await alice.room()
    frames: list[tuple[str, bytes]] = []
    async with as_program(studio, alice, on_frame=lambda direction, raw: frames.append((direction, raw))) as mine:
        frame = Send(id="raw-1", conversation=room, text="seen")
        await (await mine.submit(frame))
    assert any(direction == "in" and b'"welcome"' in raw for direction, raw in frames)
    assert any(direction == "out" and b'"raw-1"' in raw for direction, raw in frames)
    assert any(direction == "in" and b'"ack"' in raw for direction, raw in frames)
