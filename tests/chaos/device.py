"""One person's device: the studio's own Python client, with a recorder on its wire.

In:   an account's token, where workers are, things to say.
Out:  what it did and saw, in the history.
Promises: it follows every room of its person, comes back with its cursors, and brings what was not answered again under
the same id, because the client does. The recorder hears the frames before the client mends anything.
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Any

from msgspec import convert

from server.client import Studio
from server.client.items import ConnectionChange, Up
from server.protocol.frames import Durable, client_frame_types
from server.protocol.ids import new_id
from tests.chaos.history import Connected, Disconnected, Ended, History, Opened, now
from tests.chaos.recorder import Asked, Recorder

PIPELINE = 64  # frames of one room on their way at once: nobody waits for answers before saying more
MAX_OUTSTANDING = 10_000
WITHIN_S = 300.0  # longer than any fault: giving up would hide what became of it


class Device:
    """`ports` are the workers, by number; the device starts at `home` and goes on from there."""

    def __init__(
        self, name: str, user: str, token: str, ports: Callable[[], Sequence[int]], home: int, history: History,
        rng: random.Random,
    ) -> None:  # fmt: skip
        self.name = name
        self.user = user
        self.token = token
        self.node = home
        self.is_revoked = False  # its sign-in was ended, and that was acknowledged
        self.why_out: str | None = None  # it does not come back, for this reason
        self.closes: list[int | None] = []
        self.recorder = Recorder(name, user, history)
        self._ports = ports
        self._history = history
        self._line: Any = None  # of the client: what can be stalled and cut
        self._tasks: set[asyncio.Task[object]] = set()
        self._studio = Studio(
            self._address(home), token=token, follow_all=True, within_s=WITHIN_S, start_within_s=WITHIN_S,
            pipeline=PIPELINE, max_outstanding=MAX_OUTSTANDING, on_frame=self.recorder.frame,
            on_connection=self._changed, chance=rng.random,
        )  # fmt: skip
        history.add(Opened(now(), name, user))

    def _address(self, home: int) -> Callable[[int], str]:
        def address(attempt: int) -> str:
            ports = self._ports()
            return f"http://127.0.0.1:{ports[(home + attempt) % len(ports)]}"

        return address

    # Living

    async def live(self) -> None:
        """Until cancelled, or until the server says that it is of no use to come back."""
        try:
            async with self._studio as studio:
                async for _ in studio.events():
                    pass  # the recorder has seen it
            self.why_out = "nothing more came"
        except Exception as error:  # whatever it was: the history says that this one is gone, and why
            self.why_out = repr(error)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _changed(self, change: ConnectionChange) -> None:
        if isinstance(change, Up):
            self.node = self._number_of(change.url)
            self._line = change.line
            self._history.add(Connected(now(), self.name, self.node))
        elif self._line is not None:
            self._line = None
            self.recorder.lost()
            self.closes.append(change.code)
            self._history.add(Disconnected(now(), self.name, change.code))

    def _number_of(self, url: str) -> int:
        return list(self._ports()).index(int(url.rpartition(":")[2]))

    @property
    def is_here(self) -> bool:
        return self._studio.is_connected and self.recorder.is_placed

    @property
    def is_out(self) -> bool:
        """Sent away for good, or fallen. Nobody may be, but for one whose sign-in was ended."""
        return self.why_out is not None

    @property
    def pending(self) -> dict[str, Asked]:
        return self.recorder.pending

    @property
    def seen(self) -> dict[str, int]:
        """The rooms that are followed, and up to where."""
        return self.recorder.seen

    def end(self) -> None:
        """Everything that is due should be here by now, unless the server has sent us away for good."""
        self._history.add(Ended(now(), self.name, is_alive=not self.is_out, why=self.why_out or ""))

    # Doing

    def ask(self, kind: str, room: str, *, frame_id: str | None = None, **fields: Any) -> Asked:
        """Send something durable, now and again until it is answered."""
        frame = convert(
            {"id": frame_id or new_id(), "conversation": room, "type": kind, **fields}, client_frame_types[kind]
        )
        assert isinstance(frame, Durable)
        asked = self.recorder.ask(room, frame.id, kind, fields.get("text", ""))
        self._do(self._studio.submit(frame))
        return asked

    def follow(self, room: str, after: int) -> None:
        self._do(self._studio.follow(room, after))

    def _do(self, work: Any) -> None:
        task: asyncio.Task[object] = asyncio.ensure_future(_quietly(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def pause(self, is_paused: bool) -> None:
        """Read nothing for a while."""
        if self._line is not None:
            (self._line.stall if is_paused else self._line.flow)()

    def cut(self) -> None:
        """Lose the connection the hard way."""
        if self._line is not None:
            self._line.cut()


async def _quietly(work: Any) -> None:
    """What became of it stands in the history."""
    try:
        await work
    except Exception:  # a connection that fell hands its error, whatever it was, to everything that waits for it
        return
