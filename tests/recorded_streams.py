"""Recorded answers of real providers, and what holds for the reading of each of them, whatever its format.

They lie beside the project, not in it: where they are absent the tests skip, saying so.
"""

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from server.ai.adapter import AnswerEvent, Cancelled, Failed, Finished, PartDelta, PartEnded, PartStarted
from server.ai.stream_reader import StreamReader

RECORDED = Path(__file__).resolve().parents[2] / "shared" / "data" / "provider-streams"
ABSENT = "NO RECORDED STREAMS: ../shared/data/provider-streams is not there"


def answers(*, refused: bool = False) -> list[dict[str, str]]:
    """The rows of the index: streams, or refusals."""
    if not RECORDED.is_dir():
        return []
    rows = csv.DictReader((RECORDED / "INDEX.csv").read_text().splitlines())
    return [row for row in rows if (int(row["status"]) >= 400) == refused]


def recorded(endpoint: str) -> list[Any]:
    """The bytes of each stream from such an endpoint, for `parametrize`; at least ten where there are any at all."""
    files = [RECORDED / row["file"] for row in answers() if row["endpoint"].partition("#")[0].endswith(endpoint)]
    if not files:
        return [pytest.param(b"", marks=pytest.mark.skip(reason=ABSENT))]
    assert len(files) > 10
    return [pytest.param(path.read_bytes(), id=path.name) for path in files]


def read(reader: StreamReader, pieces: Iterable[bytes]) -> list[AnswerEvent]:
    return [event for piece in pieces for event in reader.feed(piece)] + reader.close()


def ended(events: Iterable[AnswerEvent]) -> list[PartEnded]:
    return [event for event in events if isinstance(event, PartEnded)]


def check_contract(reader: type[StreamReader], whole: bytes) -> list[AnswerEvent]:
    """Read it whole, byte by byte and with either line end, and hold what comes against the contract."""
    events = read(reader(), [whole])
    assert read(reader(), [bytes([byte]) for byte in whole]) == events
    for line_end in (b"\n", b"\r\n"):
        assert read(reader(), [whole.replace(b"\r\n", b"\n").replace(b"\n", line_end)]) == events
    assert isinstance(events[-1], Failed if b'"error":{' in whole else Finished), events[-1]
    assert sum(isinstance(event, Finished | Failed | Cancelled) for event in events) == 1
    started = [event.index for event in events if isinstance(event, PartStarted)]
    assert started == list(range(len(started)))
    assert started
    assert sorted(event.index for event in ended(events)) == started
    for part in ended(events):
        deltas = [event.text for event in events if isinstance(event, PartDelta) and event.index == part.index]
        assert "".join(deltas) == part.text
        if part.kind == "tool_call":
            assert (part.arguments is None) == (part.error is not None)
            assert part.call
            assert part.name
    return events
