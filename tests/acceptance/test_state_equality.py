"""`state(snapshot at n) + events after n == state(head)`, for every kind of event there is: in the client for programs,
and in the web client's reducer, which gets the same recorded history.

The history is a real studio's. Snapshots are read over HTTP after each step, and what follows them is read from the log
at the end, when deletions have already taken texts out of it.
"""

import asyncio
import subprocess
from collections.abc import AsyncIterator, Awaitable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from server.ai.adapter import Request
from server.ai.scripted import ScriptedModel
from server.client import Conversation, Entry, Stream, Studio
from server.client.state import ConversationState, DoesNotFollow
from server.protocol.codec import convert, decode_stored, encode
from server.protocol.events import RunStarted, event_types
from server.protocol.frames import Ack, Event
from server.protocol.views import Conversation as ConversationView
from server.protocol.views import EventPage, Member, MessagePage
from server.storage.database import Database
from tests.running_studio import Frame, Person, RunningStudio, run_studio
from web import build_hook

PATIENCE_S = 60.0
WEB_TEST = "tests/state/equality.test.ts"
SLOW = "slow"  # so slow that a run of it is still going when its turn comes to be stopped


@dataclass(frozen=True)
class Snapshot:
    """The answers of HTTP at one head, as they came. `page` is whole; `newest` holds the last two messages only."""

    conversation: Frame
    members: list[Frame]
    page: Frame
    newest: Frame

    @property
    def head(self) -> int:
        head: int = self.page["head"]
        return head

    def state(self, page: Frame | None = None) -> ConversationState:
        return ConversationState.of(
            convert(self.conversation, ConversationView),
            convert(self.page if page is None else page, MessagePage),
            convert(self.members, list[Member]),
        )


@dataclass
class History:
    """What happened in one room, and what it looked like in between."""

    studio: RunningStudio
    people: dict[str, Person]
    room: Conversation
    live: Stream
    snapshots: list[Snapshot] = field(default_factory=list)
    heard: list[Entry] = field(default_factory=list)
    log: list[Event] = field(default_factory=list)
    raw_log: list[Frame] = field(default_factory=list)

    async def after(self, *acts: Awaitable[object]) -> list[object]:
        done = [await act for act in acts]
        self.snapshots.append(await self.snapshot())
        return done

    async def snapshot(self) -> Snapshot:
        """All of the same head: a run may end in between."""
        owner, path = self.people["alice"], f"/api/conversations/{self.room.id}"
        async with asyncio.timeout(PATIENCE_S):
            while True:
                page = await owner.call("GET", f"{path}/messages?limit=200", expect=200)
                newest = await owner.call("GET", f"{path}/messages?limit=2", expect=200)
                members = await owner.call("GET", f"{path}/members", expect=200)
                conversation = await owner.call("GET", path, expect=200)
                if page["head"] == newest["head"] == conversation["head"]:
                    return Snapshot(conversation, members["members"], page, newest)

    async def until(self, kind: str) -> Entry:
        """Hear on, to the next entry of that kind."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                item = await anext(self.live)
                assert isinstance(item, Entry), item
                self.heard.append(item)
                if item.kind == kind:
                    return item

    async def read_log(self) -> None:
        owner, path = self.people["alice"], f"/api/conversations/{self.room.id}/events?after=0&limit=1000"
        page = await owner.call("GET", path, expect=200)
        self.raw_log, self.log = page["events"], decode_stored(encode(page), EventPage).events

    def entries_after(self, head: int) -> Iterable[Entry]:
        return [Entry(event) for event in self.log if event.seq > head]

    def as_json(self) -> bytes:
        """For the web client's test."""
        alice = self.people["alice"]
        return encode({
            "me": {"id": alice.id, "username": alice.name, "role": "member"},
            "snapshots": [
                {"conversation": s.conversation, "members": s.members, "page": s.page, "newest": s.newest}
                for s in self.snapshots
            ],
            "events": self.raw_log,
        })  # fmt: skip


@pytest.fixture(scope="module")
async def history(module_database: Database) -> AsyncIterator[History]:
    """Every kind of event, the end of the conversation last."""
    models = [ScriptedModel(pace_s=0.001), ScriptedModel(SLOW, pace_s=0.05, script=_talk_for_minutes)]
    async with run_studio(module_database, models=models) as running:
        people = {name: await running.person(name) for name in ("alice", "bob", "carol", "dave")}
        async with (
            Studio(running.url, token=people["alice"].token) as alice,
            Studio(running.url, token=people["bob"].token) as bob,
        ):
            members = (people["bob"].id, people["carol"].id)
            room = await alice.create_room("A room", members=members)
            made = History(running, people, room, room.events(after=0))
            await made.after()
            await _talk(made, room, await bob.conversation(room.id))
            await _change_the_room(made, room)
            await _let_models_answer(made, room)
            await made.read_log()
            await alice.rest.delete(room.id)
            await made.until("conversation.deleted")
            yield made


async def _talk(history: History, alice: Conversation, bob: Conversation) -> None:
    """Messages, and what is done to them."""
    [first] = await history.after(alice.send("hello @bob", client_id="first"))
    [second] = await history.after(bob.send("hello", reply_to=_message(first)))
    [third] = await history.after(alice.send("for people only", people_only=True, thread=_message(first)))
    await history.after(alice.edit(_message(first), "hello everybody"))
    await history.after(bob.react(_message(first), "👍"))
    await history.after(alice.react(_message(first), "👍"), alice.react(_message(first), "🎉"))
    await history.after(bob.react(_message(first), "👍", on=False))
    await history.after(bob.react(_message(first), "👍"), alice.react(_message(first), "🎉", on=False))
    await history.after(alice.pin(_message(first)), alice.pin(_message(second)))
    await history.after(alice.pin(_message(second), on=False))
    await history.after(bob.edit(_message(second), "hello @alice, again"))
    await history.after(alice.react(_message(third), "❤️"), alice.pin(_message(third)))
    await history.after(alice.edit(_message(third), "for people"), alice.edit(_message(third), "for nobody"))
    await history.after(alice.delete(_message(third)))


async def _change_the_room(history: History, room: Conversation) -> None:
    """Members and settings."""
    bob, carol, dave = (history.people[name] for name in ("bob", "carol", "dave"))
    await history.after(room.invite(bob.id, "reader"))
    await history.after(room.invite(carol.id, "moderator"))
    await history.after(room.invite(dave.id, "reader"))
    await history.after(room.remove(carol.id))
    await history.after(dave.call("POST", f"/api/conversations/{room.id}/leave", expect=204))
    await history.after(room.invite(dave.id))
    await history.after(room.change(title="Another title"))
    await history.after(room.change(model=SLOW, system_prompt="Be brief."))
    await history.after(room.change(system_prompt=None, visibility="public"))


async def _let_models_answer(history: History, room: Conversation) -> None:
    """Answers that end by themselves, that are stopped and steered, and one whose message is deleted under way."""
    asked = await room.send("who are you?")
    [running] = await history.after(room.run(model="demo", message=_message(asked)))
    await history.until("run.ended")
    await history.after(room.react(_message(running), "👏"))
    [running] = await history.after(room.run(model=SLOW, message=_message(asked)))
    await history.until("run.started")
    await history.after(room.steer(_run(running), "shorter"))
    started = await history.until("run.started")
    assert isinstance(started.data, RunStarted)
    await history.after(room.stop(started.data.run))
    await history.until("run.ended")
    [running] = await history.after(room.run(model=SLOW, message=_message(asked)))
    await history.after(room.delete(_message(running)))
    await history.until("run.ended")
    await history.after(room.send("that was it"))
    await history.until("message.created")


def _talk_for_minutes(_: Request) -> str:
    return "word " * 5_000


def _message(ack: object) -> str:
    assert isinstance(ack, Ack)
    assert isinstance(ack.message, str)
    return ack.message


def _run(ack: object) -> str:
    assert isinstance(ack, Ack)
    assert isinstance(ack.run, str)
    return ack.run


def test_the_history_holds_every_kind_of_event(history: History) -> None:
    """A new kind has to happen here, or nobody knows whether the clients understand it."""
    assert {entry.kind for entry in history.heard} == set(event_types)
    assert {event.kind for event in history.log} == set(event_types) - {"conversation.deleted"}
    heads = [snapshot.head for snapshot in history.snapshots]
    assert heads == sorted(heads)
    runs = [m["run"]["status"] for s in history.snapshots for m in s.page["messages"] if m["run"] is not None]
    assert "running" in runs, "no snapshot shows a running answer"


def test_a_snapshot_and_all_events_after_it_are_the_state_at_the_head(history: History) -> None:
    head = history.snapshots[-1].state()
    assert head.head == history.log[-1].seq
    for snapshot in history.snapshots:
        assert snapshot.state().after_all(history.entries_after(snapshot.head)) == head, f"from {snapshot.head}"


def test_a_page_that_shows_only_the_newest_is_kept_up_to_date_the_same_way(history: History) -> None:
    head = history.snapshots[-1].state()
    for snapshot in history.snapshots:
        state = snapshot.state(snapshot.newest).after_all(history.entries_after(snapshot.head))
        first = min((message.seq for message in state.messages.values()), default=0)
        shown = {name: message for name, message in head.messages.items() if message.seq >= first}
        assert state == replace(head, messages=shown), f"from {snapshot.head}"


def test_what_is_heard_live_keeps_step_with_every_snapshot(history: History) -> None:
    """Also with those from before a deletion, which no later reading of the log can show."""
    state = history.snapshots[0].state()
    entries = iter(history.heard)
    for snapshot in history.snapshots:
        while state.head < snapshot.head:
            state = state.after(next(entries))
        assert state == snapshot.state(), f"at {snapshot.head}"


def test_the_end_of_a_conversation_is_the_last_of_its_state(history: History) -> None:
    last = history.heard[-1]
    assert last.kind == "conversation.deleted"
    assert history.snapshots[-1].state().after(last).is_deleted


def test_an_entry_changes_nothing_twice_and_none_is_left_out(history: History) -> None:
    head = history.snapshots[-1].state()
    assert head.after_all(history.entries_after(0)) == head
    with pytest.raises(DoesNotFollow):
        history.snapshots[0].state().after(list(history.entries_after(0))[-1])


@pytest.mark.parametrize("kind", sorted(set(event_types) - {"conversation.deleted", "run.steered"}))
def test_the_check_sees_a_kind_that_is_not_applied(history: History, kind: str) -> None:
    """Leave out what one kind says, and the states differ: each kind is proved by this history."""

    def silenced(entry: Entry) -> Entry:
        if entry.kind != kind:
            return entry
        frame = entry.frame
        return Entry(Event(
            conversation=frame.conversation, seq=frame.seq, kind="silenced", at=frame.at, actor=frame.actor,
            data=frame.data,
        ))  # fmt: skip

    first, last = history.snapshots[0].state(), history.snapshots[-1].state()
    assert first.after_all(silenced(entry) for entry in history.entries_after(first.head)) != last


async def test_the_web_client_agrees(history: History, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same history, played to its reducer by its own test runner."""
    if not (build_hook.WEB / "node_modules").is_dir():
        pytest.skip("THE WEB CLIENT WAS NOT HELD AGAINST THE SERVER: web/node_modules is missing (make web)")
    recorded = tmp_path / "history.json"
    recorded.write_bytes(history.as_json())
    monkeypatch.setenv("VITE_RECORDED_HISTORY", str(recorded))
    try:
        await asyncio.to_thread(build_hook.npm, "run", "test", "--", "--run", WEB_TEST)
    except subprocess.CalledProcessError:
        pytest.fail("the web client's reducer comes to another state; its own words stand above")
