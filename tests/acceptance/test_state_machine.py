"""Three people in two rooms, driven by chance, against a model: after every step each observer who can hear has seen
what the model says happened, once, in order, without a hole; nothing of what happened while they had no right to hear
it; and what they make of it is the model's state.

TEST_EXAMPLES is the number of histories; with CI set they are always the same ones. TEST_SHRINK makes one that fails
as short as it can be, which takes minutes where the failure is something that does not come.
"""

import asyncio
import os
from collections.abc import Callable, Collection, Coroutine
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from server.client import Added, ConnectionChange, Cursor, Entry, Item, Removed, SignedOut, Studio, Up
from server.client.items import Line
from server.client.state import ConversationState
from server.protocol.codec import convert, decode_server_frame
from server.protocol.errors import ChatError, Conflict, NotFound
from server.protocol.events import (
    MemberJoined,
    MemberLeft,
    MessageCreated,
    MessageEdited,
    ReactionAdded,
    ReactionRemoved,
)
from server.protocol.frames import Ack, Durable, Edit, Event, React, Send
from server.protocol.ids import new_id
from server.protocol.views import Conversation, Member, MessagePage
from tests.room_model import GUESTS, NAMES, OWNER, Happening, Room, Said, Shown
from tests.running_studio import Person, RunningStudio

T = TypeVar("T")

PATIENCE_S = 20.0  # for what takes a millisecond
STEPS = 25
HISTORIES = ("joined", "all")  # one room of each: who joins sees what follows, or the past as well

guests, histories = st.sampled_from(GUESTS), st.sampled_from(HISTORIES)
texts = st.text('abcd é漢🎈\\"\n', min_size=1, max_size=12).filter(str.strip)
emojis = st.sampled_from(("👍", "🎉"))
picks = st.integers(0, 30)
cuts = st.none() | st.sampled_from((0.0, 0.001, 0.003, 0.01))  # when the network goes, in seconds after a frame left


async def test_whatever_people_do_everybody_sees_the_same(studio: RunningStudio) -> None:
    people = {name: await studio.person(name) for name in NAMES}
    loop = asyncio.get_running_loop()
    options = settings(
        max_examples=int(os.environ.get("TEST_EXAMPLES", "10")),
        stateful_step_count=STEPS,
        deadline=None,
        derandomize="CI" in os.environ,
        database=None,
        phases=[Phase.generate, *([Phase.shrink] if "TEST_SHRINK" in os.environ else [])],
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )

    class Everybody(People):
        def __init__(self) -> None:
            super().__init__(studio, people, loop)

    await asyncio.to_thread(run_state_machine_as_test, Everybody, settings=options)


@dataclass(eq=False)
class Device:
    """Somebody's program, and the rooms it follows."""

    studio: Studio
    lines: list[Line]
    followed: set[str] = field(default_factory=set)
    is_stalled: bool = False
    lost: dict[str, int] = field(default_factory=dict)  # rooms it was shown out of while stalled, and when
    was_lost: dict[str, int] = field(default_factory=dict)  # the same, once it has heard so
    wire: list[Event] = field(default_factory=list)  # what came since it was last looked at, wanted or not
    ended_at: dict[str, int] | None = None  # logged out while stalled: the heads of that moment

    def __post_init__(self) -> None:
        self.stream = self.studio.events()

    @property
    def line(self) -> Line:
        return self.lines[-1]


class People(RuleBasedStateMachine):
    """`loop` is where the studio lives: steps are awaited there, one after the other."""

    def __init__(self, studio: RunningStudio, people: dict[str, Person], loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._url = studio.url
        self._people = people
        self._names = {person.id: name for name, person in people.items()}
        self._loop = loop
        self._rooms = {history: Room(history) for history in HISTORIES}
        self._ids: dict[str, str] = {}
        self._devices: dict[str, Device] = {}
        self._cut_off: list[tuple[str, Device]] = []  # logged out while stalled: what is on the wire shows later
        self._heard = {(name, history): 0 for name in NAMES for history in HISTORIES}
        self._states: dict[tuple[str, str], ConversationState] = {}
        self._may_have_missed: set[tuple[str, str]] = set()  # who was not there for a while
        self._has_failed = False
        self._do(self._begin())

    def _do(self, step: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(self._in_time(step), self._loop).result()

    async def _in_time(self, step: Coroutine[Any, Any, T]) -> T:
        try:
            return await asyncio.wait_for(step, PATIENCE_S)
        except BaseException as error:
            self._has_failed = True
            if not isinstance(error, TimeoutError):
                raise
            raise AssertionError(f"nothing happens any more; {self._standing()}") from None

    def _standing(self) -> str:
        heads = {history: (room.head, sorted(room.members)) for history, room in self._rooms.items()}
        devices = {
            name: (device.studio.is_connected, device.is_stalled, sorted(device.followed), device.studio.cursors)
            for name, device in self._devices.items()
        }
        return f"rooms {heads}, heard {self._heard}, devices {devices}"

    async def _begin(self) -> None:
        for person in self._people.values():
            if not person.token:
                await person.sign_in()
        for history in HISTORIES:
            members = [self._people[name].id for name in GUESTS]
            self._ids[history] = await self._people[OWNER].room(history, members=members, history=history)
            self._states |= dict.fromkeys(((name, history) for name in NAMES), await self._snapshot(OWNER, history))
        for name in NAMES:
            await self._connect(name)

    # Steps

    @precondition(lambda self: len(self._devices) < len(NAMES))
    @rule(pick=picks)
    def connect(self, pick: int) -> None:
        """With a new device, from where the last one was."""
        self._do(self._connect(self._one_of([name for name in NAMES if name not in self._devices], pick)))

    @precondition(lambda self: self._devices)
    @rule(pick=picks)
    def disconnect(self, pick: int) -> None:
        self._do(self._disconnect(self._one_of(self._devices, pick)))

    @precondition(lambda self: self._hearing())
    @rule(pick=picks)
    def drop(self, pick: int) -> None:
        """The network goes, and the client comes back by itself."""
        device = self._devices[self._one_of(self._hearing(), pick)]
        self._loop.call_soon_threadsafe(lambda: device.line.cut())

    @precondition(lambda self: self._hearing())
    @rule(pick=picks, history=histories, text=texts, cut_after_s=cuts)
    def send(self, pick: int, history: str, text: str, cut_after_s: float | None) -> None:
        """The network may go while the message is on its way, or its acknowledgement."""
        self._say(pick, history, text, cut_after_s)

    def _say(self, pick: int, history: str, text: str, cut_after_s: float | None) -> None:
        name = self._one_of(self._hearing(), pick)
        room, frame = self._rooms[history], Send(id=new_id(), conversation=self._ids[history], text=text)
        ack = self._do(self._submit(name, frame, cut_after_s))
        if name in room.members:
            assert isinstance(ack, Ack), ack
            assert ack.seq == room.head + 1
            room.says(name, str(ack.message), frame.id, text)
        else:
            assert isinstance(ack, NotFound), ack

    @precondition(lambda self: self._hearing())
    @rule(picks=st.lists(picks, min_size=2, max_size=6), history=histories, text=texts)
    def talk(self, picks: list[int], history: str, text: str) -> None:
        """One after the other."""
        for number, pick in enumerate(picks):
            self._say(pick, history, f"{text}{number}", None)

    @precondition(lambda self: self._hearing() and self._anything_said())
    @rule(pick=picks, history=histories, cut_after_s=cuts, is_another=st.booleans())
    def retry(self, pick: int, history: str, cut_after_s: float | None, is_another: bool) -> None:
        """The same id again, with the same text or with another."""
        room = self._rooms[history]
        said = [one for one in room.said if one.author in self._hearing()]
        if not said:
            return
        one = said[pick % len(said)]
        text = one.first_text + "!" * is_another
        answer = self._do(
            self._submit(one.author, Send(id=one.client_id, conversation=self._ids[history], text=text), cut_after_s)
        )
        if one.author not in room.members and isinstance(answer, NotFound):
            return
        if is_another:
            assert isinstance(answer, Conflict), answer
        else:
            assert isinstance(answer, Ack), answer
            assert (answer.seq, answer.message) == (one.seq, one.id)

    @precondition(lambda self: self._hearing() and self._anything_said())
    @rule(pick=picks, which=picks, history=histories, text=texts)
    def edit(self, pick: int, which: int, history: str, text: str) -> None:
        name, room, one = self._one_of(self._hearing(), pick), self._rooms[history], self._message(history, which)
        if one is None:
            return
        frame = Edit(id=new_id(), conversation=self._ids[history], message=one.id, text=text)
        answer = self._do(self._submit(name, frame, None))
        if name in room.members and name == one.author:
            assert isinstance(answer, Ack), answer
            room.edits(name, one, text)
        else:
            assert isinstance(answer, ChatError), answer

    @precondition(lambda self: self._hearing() and self._anything_said())
    @rule(pick=picks, which=picks, history=histories, emoji=emojis, on=st.booleans(), cut_after_s=cuts)
    def react(self, pick: int, which: int, history: str, emoji: str, on: bool, cut_after_s: float | None) -> None:
        name, room, one = self._one_of(self._hearing(), pick), self._rooms[history], self._message(history, which)
        if one is None:
            return
        frame = React(id=new_id(), conversation=self._ids[history], message=one.id, emoji=emoji, on=on)
        answer = self._do(self._submit(name, frame, cut_after_s))
        if name in room.members:
            assert isinstance(answer, Ack), answer
            room.reacts(name, one, emoji, on=on)
        else:
            assert isinstance(answer, NotFound), answer

    @precondition(lambda self: self._strangers())
    @rule(pick=picks)
    def join(self, pick: int) -> None:
        """By invitation, as both rooms are private."""
        name, history = self._one_of(self._strangers(), pick)
        room = self._rooms[history]
        path = f"/api/conversations/{self._ids[history]}/members/{self._people[name].id}"
        self._do(self._people[OWNER].call("PUT", path, {"role": "member"}, expect=201))
        room.joins(name)
        if name in self._hearing():
            self._do(self._follow(name, history))

    @rule(name=guests, history=histories, is_kick=st.booleans())
    def leave(self, name: str, history: str, is_kick: bool) -> None:
        """By oneself, or shown the door: the same event, by another person."""
        room = self._rooms[history]
        by = OWNER if is_kick else name
        if name not in room.members or not self._people[by].token:
            return
        path = f"/api/conversations/{self._ids[history]}/members/{self._people[name].id}"
        self._do(self._people[by].call("DELETE", path, expect=204))
        room.loses(name, by)
        self._may_have_missed.add((name, history))
        if name in self._devices and self._devices[name].is_stalled:
            self._devices[name].lost.setdefault(history, room.head)

    @precondition(lambda self: self._hearing())
    @rule(pick=picks)
    def stall(self, pick: int) -> None:
        """It stays connected, and reads nothing."""
        name = self._one_of(self._hearing(), pick)
        self._loop.call_soon_threadsafe(self._devices[name].line.stall)
        self._devices[name].is_stalled = True

    @precondition(lambda self: any(device.is_stalled for device in self._devices.values()))
    @rule(pick=picks)
    def resume(self, pick: int) -> None:
        name = self._one_of([name for name, device in self._devices.items() if device.is_stalled], pick)
        self._do(self._resume(name))

    @precondition(lambda self: self._devices)
    @rule(pick=picks)
    def log_out(self, pick: int) -> None:
        """Nothing that happens after this may reach the device, stalled or not."""
        name = self._one_of(self._devices, pick)
        if name != OWNER:
            self._do(self._log_out(name))

    # What holds after each of them

    @invariant()
    def everybody_who_can_hear_has_heard_everything_and_nothing_else(self) -> None:
        self._do(self._settle())

    def teardown(self) -> None:
        self._do(self._end())

    async def _settle(self) -> None:
        for name in self._hearing():
            device = self._devices[name]
            for history, room in self._rooms.items():
                if name in room.members:
                    assert history in device.followed
                    await self._take_until(name, device, self._has_heard(name, history))
                    assert self._view(name, history) == self._expected(name, history), f"{name} in {history}"
                else:
                    await self._until_removed(name, device, history)
            await self._take_unread(name, device)
            self._check_wire(name, device)
            assert device.studio.faults.holes == device.studio.faults.repeats == 0

    async def _end(self) -> None:
        """Every device reads to its end, the network is whole again, and what HTTP shows is the model's state too."""
        try:
            if not self._has_failed:
                await self._check_the_end()
        finally:
            for device in (*self._devices.values(), *(device for _, device in self._cut_off)):
                await device.studio.close()

    async def _check_the_end(self) -> None:
        for name, device in self._cut_off:
            device.line.flow()
            await self._take_to_the_end(name, device)
        for name in [name for name, device in self._devices.items() if device.is_stalled]:
            await self._resume(name)
        await self._settle()
        for name, person in self._people.items():
            if not person.token:
                await person.sign_in()
            for history, room in self._rooms.items():
                if name in room.members:
                    state = await self._snapshot(name, history)
                    assert self._shown(state) == room.shown_since(room.visible_from[name])
                    assert {self._names[user] for user in state.members} == room.members

    def _has_heard(self, name: str, history: str) -> Callable[[], bool]:
        return lambda: self._heard[name, history] >= self._rooms[history].last_for(name)

    def _view(self, name: str, history: str) -> tuple[dict[str, Shown], set[str] | None]:
        """What somebody has made of what they heard. Of what happened in their absence they cannot know all."""
        state, since = self._states[name, history], self._rooms[history].visible_from[name]
        members = {self._names[user] for user in state.members}
        return self._shown(state, since), None if (name, history) in self._may_have_missed else members

    def _expected(self, name: str, history: str) -> tuple[dict[str, Shown], set[str] | None]:
        room = self._rooms[history]
        members = None if (name, history) in self._may_have_missed else room.members
        return room.shown_since(room.visible_from[name]), members

    def _check_wire(self, name: str, device: Device) -> None:
        """The client leaves out what it did not ask for; the server must not even send it."""
        ended_at = device.ended_at or {}
        for event in device.wire:
            history = next((history for history in HISTORIES if self._ids[history] == event.conversation), None)
            if history is None or event.seq <= max(device.lost.get(history, 0), device.was_lost.get(history, 0)):
                continue
            assert event.seq <= ended_at.get(history, event.seq), f"{name} was logged out at {ended_at}, then {event}"
            is_hidden = not ended_at and event.seq in self._rooms[history].hidden[name]
            assert not is_hidden, f"{name} was sent {event.seq} of {history}, which is not for them"
        device.wire.clear()

    # How it is done

    async def _connect(self, name: str) -> None:
        person, lines = self._people[name], list[Line]()
        if not person.token:
            await person.sign_in()

        def on_connection(change: ConnectionChange) -> None:
            if isinstance(change, Up):
                lines.append(change.line)

        def on_frame(direction: str, raw: bytes) -> None:
            frame = decode_server_frame(raw) if direction == "in" and b'"event"' in raw else None
            if isinstance(frame, Event):
                wire.append(frame)

        wire: list[Event] = []
        studio = Studio(
            self._url, token=person.token, chance=lambda: 0.02, on_connection=on_connection, on_frame=on_frame
        )
        await studio.open()
        self._devices[name] = Device(studio, lines, wire=wire)
        for history, room in self._rooms.items():
            if name in room.members:
                await self._follow(name, history)

    async def _follow(self, name: str, history: str) -> None:
        device, seq = self._devices[name], self._heard[name, history]
        device.followed.add(history)
        epoch = self._states[name, history].epoch
        await device.studio.follow(self._ids[history], Cursor(seq=seq, epoch=epoch))

    async def _disconnect(self, name: str) -> None:
        device = self._devices.pop(name)
        await device.studio.close()
        await self._take_unread(name, device)

    async def _resume(self, name: str) -> None:
        device = self._devices[name]
        device.line.flow()
        device.is_stalled = False
        for history, room in self._rooms.items():
            if history in device.lost:
                await self._take_until(name, device, lambda h=history: h not in device.lost)  # type: ignore[misc]
            if name in room.members and history not in device.followed:
                await self._follow(name, history)

    async def _log_out(self, name: str) -> None:
        device, person = self._devices.pop(name), self._people[name]
        await person.call("POST", "/api/auth/logout", expect=204)
        person.token = ""
        del person.http.headers["authorization"]
        if device.is_stalled:
            device.ended_at = {history: room.head for history, room in self._rooms.items()}
            self._cut_off.append((name, device))
        else:
            await self._take_to_the_end(name, device)

    async def _submit(self, name: str, frame: Durable, cut_after_s: float | None) -> Ack | ChatError:
        device = self._devices[name]
        submitted = await device.studio.submit(frame)
        if cut_after_s is not None:
            await asyncio.sleep(cut_after_s)
            device.line.cut()
        try:
            return await submitted
        except ChatError as error:
            return error

    async def _take_until(self, name: str, device: Device, holds: Callable[[], bool]) -> None:
        while not holds():
            self._take(name, device, await anext(device.stream))

    async def _until_removed(self, name: str, device: Device, history: str) -> None:
        await self._take_until(name, device, lambda: history not in device.followed)

    async def _take_unread(self, name: str, device: Device) -> None:
        while device.stream.unread:
            self._take(name, device, await anext(device.stream))

    async def _take_to_the_end(self, name: str, device: Device) -> None:
        try:
            async for item in device.stream:
                self._take(name, device, item)
        except SignedOut:
            self._check_wire(name, device)
            await device.studio.close()

    def _take(self, name: str, device: Device, item: Item) -> None:
        history = next((history for history in HISTORIES if self._ids[history] == item.conversation), None)
        if history is None or isinstance(item, Added):
            return
        assert isinstance(item, Entry | Removed), item
        if isinstance(item, Removed):
            device.followed.discard(history)
            if history in device.lost:
                device.was_lost[history] = device.lost.pop(history)
            return
        if device.ended_at is not None:  # what was on the wire; the person has another device now, perhaps
            assert item.seq <= device.ended_at[history], f"{name} was logged out at {device.ended_at}, then {item}"
            return
        room, before = self._rooms[history], self._heard[name, history]
        was_lost_at = device.lost.get(history)
        following = room.next_for(name, before) if was_lost_at is None else min(before + 1, was_lost_at)
        assert item.seq == following, f"{name} has {before} of {history}, then {item}"
        assert self._happening(item) == room.log[item.seq - 1]
        self._heard[name, history] = item.seq
        state = replace(self._states[name, history], head=item.seq - 1)
        self._states[name, history] = state.after(item)

    def _happening(self, entry: Entry) -> Happening:
        who = self._names[entry.actor.id]
        match entry.data:
            case MessageCreated() as data:
                return entry.kind, who, str(data.client_id), data.text
            case MessageEdited() as data:
                return entry.kind, who, data.id, data.text
            case ReactionAdded() | ReactionRemoved() as data:
                return entry.kind, who, data.id, data.emoji
            case MemberJoined() | MemberLeft() as data:
                return entry.kind, who, self._names[data.user]
        raise AssertionError(entry)

    async def _snapshot(self, name: str, history: str) -> ConversationState:
        person, path = self._people[name], f"/api/conversations/{self._ids[history]}"
        about = await person.call("GET", path, expect=200)
        page = await person.call("GET", f"{path}/messages?limit=200", expect=200)
        members = await person.call("GET", f"{path}/members", expect=200)
        return ConversationState.of(
            convert(about, Conversation), convert(page, MessagePage), convert(members["members"], list[Member])
        )

    def _hearing(self) -> list[str]:
        return [name for name, device in self._devices.items() if not device.is_stalled]

    def _strangers(self) -> list[tuple[str, str]]:
        """Who is not a member of what."""
        return [(name, room.history) for room in self._rooms.values() for name in NAMES if name not in room.members]

    def _anything_said(self) -> bool:
        return any(room.said for room in self._rooms.values())

    def _message(self, history: str, which: int) -> Said | None:
        said = self._rooms[history].said
        return said[which % len(said)] if said else None

    def _one_of(self, found: Collection[T], pick: int) -> T:
        return list(found)[pick % len(found)]

    def _shown(self, state: ConversationState, since: int = 0) -> dict[str, Shown]:
        return {
            message.id: (
                message.text,
                frozenset((one.emoji, self._names[user]) for one in message.reactions for user in one.users),
            )
            for message in state.messages.values()
            if message.seq >= since
        }
