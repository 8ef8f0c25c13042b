"""What one connection to Redis has been asked to subscribe to, and how much of it Redis has confirmed.

In:   channels to subscribe to and to leave; answers, one for each channel of each command, in their order.
Out:  commands to send; and the moment from which a channel is surely subscribed.
Promises: since answers keep the order of the questions, counting both is enough: the command that carries a channel is
confirmed once as many answers have come as questions had been asked by then. So leaving a channel and returning to it,
in whatever order, cannot be mistaken for having it.

No I/O. A connection that ends takes its subscriptions with it; the next begins with new ones.
"""

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator

CHANNELS_A_COMMAND = 500  # some 30 KB; Redis answers other clients between two commands
SUBSCRIBE, UNSUBSCRIBE = b"SUBSCRIBE", b"UNSUBSCRIBE"


class Subscriptions:
    def __init__(self) -> None:
        self._asked: dict[bytes, int] = {}  # channel → the number of its question, if it is to be subscribed
        self._questions = 0
        self._answers = 0
        self._unsent: list[tuple[bytes, list[bytes]]] = []
        self._waiting: deque[tuple[int, asyncio.Future[bool]]] = deque()

    def subscribe(self, channels: Iterable[bytes]) -> int:
        """Ask for those that have not been asked for; the number up to which answers must come until all are there."""
        last = 0
        for channel in channels:
            number = self._asked.get(channel)
            if number is None:
                number = self._asked[channel] = self._ask(SUBSCRIBE, channel)
            last = max(last, number)
        return last

    def unsubscribe(self, channels: Iterable[bytes]) -> None:
        for channel in channels:
            if self._asked.pop(channel, None) is not None:
                self._ask(UNSUBSCRIBE, channel)

    def _ask(self, verb: bytes, channel: bytes) -> int:
        if not self._unsent or self._unsent[-1][0] != verb or len(self._unsent[-1][1]) >= CHANNELS_A_COMMAND:
            self._unsent.append((verb, []))
        self._unsent[-1][1].append(channel)
        self._questions += 1
        return self._questions

    def commands(self) -> Iterator[tuple[bytes, ...]]:
        """What has gathered since the last call, to be sent in this order."""
        unsent, self._unsent = self._unsent, []
        return ((verb, *channels) for verb, channels in unsent)

    def answered(self) -> None:
        self._answers += 1
        while self._waiting and self._waiting[0][0] <= self._answers:
            _set(self._waiting.popleft()[1], True)

    def confirmed(self, number: int) -> asyncio.Future[bool]:
        """Done once so many answers have come: True, or False when the connection ended before."""
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        if number <= self._answers:
            future.set_result(True)
            return future
        # Nearly always at the end: a number is handed out before the wait for it begins.
        place = len(self._waiting)
        while place and self._waiting[place - 1][0] > number:
            place -= 1
        self._waiting.insert(place, (number, future))
        return future

    def end(self) -> None:
        """The connection is gone: nobody waits for an answer any more."""
        while self._waiting:
            _set(self._waiting.popleft()[1], False)


def _set(future: "asyncio.Future[bool]", value: bool) -> None:
    if not future.done():  # whoever waited may have been cancelled
        future.set_result(value)
