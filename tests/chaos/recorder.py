"""From the frames of one device, as they went over the wire, to the records of the history.

In:   the bytes of every frame, in and out, before any client has mended anything.
Out:  records; what still waits for an answer; up to where each followed room was seen.
Promises: it never decides what is right. What came is written down as it came, a second answer to something that was
answered before like the first; judging is the checker's.
"""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.history import Acked, Dropped, History, Refused, Repeated, Saw, Sent, Streamed, Subscribed, now

Frame = dict[str, Any]


@dataclass(slots=True)
class Asked:
    """Something durable that waits for its answer."""

    id: str
    room: str
    sent_at: float = 0.0  # when it last went out; 0 as long as it has not
    message: str | None = None  # of an acknowledged send: its id
    settled: asyncio.Future[Frame] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Recorder:
    def __init__(self, name: str, user: str, history: History) -> None:
        self.name = name
        self.user = user
        self.pending: dict[str, Asked] = {}
        self._asked: dict[str, Asked] = {}  # those that were answered, too
        self.seen: dict[str, int] = {}  # followed rooms: up to where
        self.resets = 0
        self._history = history
        self._subscribing: dict[str, dict[str, Frame | None]] = {}  # id of the frame → its cursors
        self._heard: dict[str, Callable[[Frame], None]] = {
            "event": self._saw, "ack": self._acknowledged, "error": self._refused, "subscribed": self._placed,
            "conversation.removed": lambda frame: self._drop(frame["conversation"]), "reset": self._reset,
            "delta": self._streamed,
        }  # fmt: skip

    @property
    def is_placed(self) -> bool:
        """Every wish to follow something has been answered."""
        return not self._subscribing

    def ask(self, room: str, frame_id: str, kind: str, text: str) -> Asked:
        known = self._asked.get(frame_id)
        asked = self._asked[frame_id] = self.pending[frame_id] = Asked(frame_id, room, known.sent_at if known else 0.0)
        self._history.add(Sent(now(), self.name, room, frame_id, kind, text))
        return asked

    def frame(self, direction: str, raw: bytes) -> None:
        frame = json.loads(raw)
        if direction == "in":
            hear = self._heard.get(frame["type"])
            if hear is not None:
                hear(frame)
        elif frame["type"] == "subscribe":
            self._subscribing[frame["id"]] = frame["conversations"]
        elif frame["type"] == "unsubscribe":
            for room in frame["conversations"]:
                self._drop(room, is_wanted=True)
        elif (asked := self._asked.get(frame.get("id", ""))) is not None:
            if asked.sent_at:
                self._history.add(Repeated(now(), self.name, asked.room, asked.id))
            asked.sent_at = now()

    def lost(self) -> None:
        """The connection has gone: what was asked on it will not be answered."""
        self._subscribing.clear()

    def _saw(self, frame: Frame) -> None:
        data, room = frame["data"], frame["conversation"]
        self._history.add(
            Saw(
                now(), self.name, room, frame["seq"], frame["kind"], frame["actor"]["id"], data.get("client_id"),
                data.get("text") or "", data.get("id") or data.get("user") or "", bool(data.get("redacted")),
            )
        )  # fmt: skip
        if room in self.seen:
            self.seen[room] = max(self.seen[room], frame["seq"])
        if frame["kind"] == "member.left" and data["user"] == self.user:
            self._drop(room)  # the frame that says so may be lost, this event is not

    def _acknowledged(self, frame: Frame) -> None:
        self.pending.pop(frame["id"], None)
        asked = self._asked.get(frame["id"])
        if asked is not None:
            asked.message = frame.get("message")
            self._history.add(Acked(now(), self.name, asked.room, frame["id"], frame["seq"]))
            _settle(asked, frame)

    def _refused(self, frame: Frame) -> None:
        frame_id = frame.get("id", "")
        asked = self._asked.get(frame_id)
        if asked is None:
            self._subscribing.pop(frame_id, None)
            return
        waited_s = now() - asked.sent_at
        self._history.add(Refused(now(), self.name, asked.room, frame_id, frame["code"], frame["retryable"], waited_s))
        if not frame["retryable"]:
            self.pending.pop(frame_id, None)
            _settle(asked, frame)

    def _placed(self, frame: Frame) -> None:
        cursors = self._subscribing.pop(frame["id"], {})
        for room, answer in frame["conversations"].items():
            if "error" in answer:
                self._drop(room)
                continue
            cursor, first = cursors.get(room), answer["first"]
            asked = None if cursor is None else cursor["seq"]
            after = answer["head"] if asked is None or answer["reset"] else max(asked, first - 1)
            self._follow(room, after, is_reset=answer["reset"], asked=asked, first=first)

    def _reset(self, frame: Frame) -> None:
        self._follow(frame["conversation"], frame["head"], is_reset=True)

    def _follow(self, room: str, after: int, *, is_reset: bool, asked: int | None = None, first: int = 1) -> None:
        self.resets += is_reset
        self.seen[room] = after
        self._history.add(Subscribed(now(), self.name, room, after, is_reset, asked, first))

    def _drop(self, room: str, *, is_wanted: bool = False) -> None:
        if self.seen.pop(room, None) is not None:
            self._history.add(Dropped(now(), self.name, room, is_wanted))

    def _streamed(self, frame: Frame) -> None:
        self._history.add(Streamed(now(), self.name, frame["conversation"], frame["run"], frame["from"], frame["text"]))


def _settle(asked: Asked, answer: Frame) -> None:
    if not asked.settled.done():
        asked.settled.set_result(answer)
