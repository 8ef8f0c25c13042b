"""From the frames of one device, as they went over the wire, to the records of the history.

In:   the bytes of every frame, in and out, before any client has mended anything.
Out:  records; what still waits for an answer; up to where each followed room was seen.
Promises: it never decides what is right. What came is written down as it came; judging is the checker's.
"""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.history import Acked, Dropped, History, Refused, Saw, Sent, Subscribed, now

Frame = dict[str, Any]


@dataclass(slots=True)
class Asked:
    """Something durable that waits for its answer."""

    id: str
    room: str
    sent_at: float = 0.0  # when it last went out
    message: str | None = None  # of an acknowledged send: its id
    settled: asyncio.Future[Frame] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Recorder:
    def __init__(self, name: str, user: str, history: History) -> None:
        self.name = name
        self.user = user
        self.pending: dict[str, Asked] = {}
        self.seen: dict[str, int] = {}  # followed rooms: up to where
        self.resets = 0
        self._history = history
        self._subscribing: dict[str, dict[str, Frame | None]] = {}  # id of the frame → its cursors
        self._heard: dict[str, Callable[[Frame], None]] = {
            "event": self._saw, "ack": self._acknowledged, "error": self._refused, "subscribed": self._placed,
            "conversation.removed": lambda frame: self._drop(frame["conversation"]), "reset": self._reset,
        }  # fmt: skip

    @property
    def is_placed(self) -> bool:
        """Every wish to follow something has been answered."""
        return not self._subscribing

    def ask(self, room: str, frame_id: str, kind: str, text: str) -> Asked:
        asked = self.pending[frame_id] = Asked(frame_id, room)
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
                self._drop(room)
        elif (asked := self.pending.get(frame.get("id", ""))) is not None:
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
        asked = self.pending.pop(frame["id"], None)
        if asked is not None:
            asked.message = frame.get("message")
            self._history.add(Acked(now(), self.name, asked.room, frame["id"], frame["seq"]))
            _settle(asked, frame)

    def _refused(self, frame: Frame) -> None:
        frame_id = frame.get("id", "")
        asked = self.pending.get(frame_id)
        if asked is None:
            self._subscribing.pop(frame_id, None)
            return
        waited_s = now() - asked.sent_at
        self._history.add(Refused(now(), self.name, asked.room, frame_id, frame["code"], frame["retryable"], waited_s))
        if not frame["retryable"]:
            del self.pending[frame_id]
            _settle(asked, frame)

    def _placed(self, frame: Frame) -> None:
        cursors = self._subscribing.pop(frame["id"], {})
        for room, answer in frame["conversations"].items():
            if "error" in answer:
                self._drop(room)
                continue
            cursor = cursors.get(room)
            is_at_head = cursor is None or answer["reset"]
            after = answer["head"] if is_at_head else max(cursor["seq"], answer["first"] - 1)  # type: ignore[index]
            self._follow(room, after, is_reset=answer["reset"])

    def _reset(self, frame: Frame) -> None:
        self._follow(frame["conversation"], frame["head"], is_reset=True)

    def _follow(self, room: str, after: int, *, is_reset: bool) -> None:
        self.resets += is_reset
        self.seen[room] = after
        self._history.add(Subscribed(now(), self.name, room, after, is_reset))

    def _drop(self, room: str) -> None:
        if self.seen.pop(room, None) is not None:
            self._history.add(Dropped(now(), self.name, room))


def _settle(asked: Asked, answer: Frame) -> None:
    if not asked.settled.done():
        asked.settled.set_result(answer)
