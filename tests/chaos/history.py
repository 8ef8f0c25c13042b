"""What every client did and saw: records that are only ever added.

In:   calls from clients, each with the clock of the one process in which all of them live.
Out:  a list of records in the order in which they happened; JSON lines where somebody has to look at them.

`who` names one device, `user` the account behind it. `t` are seconds since the epoch, by that one clock.
"""

import time
from pathlib import Path

import msgspec


class Record(msgspec.Struct, frozen=True, tag_field="what", omit_defaults=True):
    t: float
    who: str


class Opened(Record, frozen=True, tag="opened"):
    """This device exists from now on and belongs to `user`."""

    user: str


class Connected(Record, frozen=True, tag="connected"):
    node: int


class Disconnected(Record, frozen=True, tag="disconnected"):
    code: int | None


class Subscribed(Record, frozen=True, tag="subscribed"):
    """From now on everything above `after` is due. After a reset, `after` is the head of that moment. `asked`: the
    cursor that was shown, if any; `first`: where, by the answer, what this person may see begins.
    """

    room: str
    after: int
    is_reset: bool = False
    asked: int | None = None
    first: int = 1


class Dropped(Record, frozen=True, tag="dropped"):
    """The device follows this room no more: nothing further is due. `is_wanted`: the device itself asked for that."""

    room: str
    is_wanted: bool = False


class Sent(Record, frozen=True, tag="sent"):
    """Something durable was asked for."""

    room: str
    id: str
    kind: str  # of the frame: send, edit, delete, react
    text: str = ""


class Repeated(Record, frozen=True, tag="repeated"):
    """It went out again under the same id, and may be answered once more."""

    room: str
    id: str


class Acked(Record, frozen=True, tag="acked"):
    room: str
    id: str
    seq: int


class Refused(Record, frozen=True, tag="refused"):
    """`waited_s`: since the frame that was refused went out."""

    room: str
    id: str
    code: str
    is_retryable: bool
    waited_s: float


class Saw(Record, frozen=True, tag="saw"):
    """One event. `client_id` and `text` are there for messages; `subject` is the message or person it is about."""

    room: str
    seq: int
    kind: str
    actor: str
    client_id: str | None = None
    text: str = ""
    subject: str = ""
    is_redacted: bool = False


class Streamed(Record, frozen=True, tag="streamed"):
    """A piece of a model's answer, as it came; `offset` counts code points from the beginning of the answer."""

    room: str
    run: str
    offset: int
    text: str


class Revoked(Record, frozen=True, tag="revoked"):
    """Whoever took the right away has its acknowledgement. Without a room: the sign-in itself."""

    room: str | None = None


class Granted(Record, frozen=True, tag="granted"):
    """Somebody is about to give the right back: what comes from now on may be rightful."""

    room: str


class Ended(Record, frozen=True, tag="ended"):
    """The run is over. `is_alive`: the device was let in, and had been given the time to see and hear everything. One
    that is not was sent away, or fell: `why`.
    """

    is_alive: bool
    why: str = ""


AnyRecord = (
    Opened | Connected | Disconnected | Subscribed | Dropped | Sent | Repeated | Acked | Refused | Saw | Streamed
    | Revoked | Granted | Ended
)  # fmt: skip


class History:
    """One for a whole run: the order between devices is part of what happened."""

    def __init__(self) -> None:
        self.records: list[AnyRecord] = []
        self.add = self.records.append

    def dump(self, path: Path) -> Path:
        encode = msgspec.json.Encoder().encode
        path.write_bytes(b"".join(encode(record) + b"\n" for record in self.records))
        return path


def load(path: Path) -> list[AnyRecord]:
    decode = msgspec.json.Decoder(AnyRecord).decode
    return [decode(line) for line in path.read_bytes().splitlines()]


def now() -> float:
    return time.time()
