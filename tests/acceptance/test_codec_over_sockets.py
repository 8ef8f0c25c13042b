"""The strict codec as a client meets it: a refusal is an answer, and the socket lives on until there are too many."""

from collections.abc import AsyncIterator, Iterator

import pytest

from server.gateway.rate_limits import BAD_FRAMES
from server.protocol.frames import MAX_FRAME_BYTES
from server.storage.database import Database
from tests import json_test_suite
from tests.running_studio import Frame, Person, Socket, run_studio

PER_SOCKET = BAD_FRAMES - 1  # one more would close it
BAD_JSON = [
    '{"type":"ping"',
    '{"type":"ping","type":"ping"}',
    r'["\u0000"]',
    r'["\ud800"]',
    "[NaN]",
    "[" * 33 + "]" * 33,
    "",
]
BAD_FRAME = [
    "[]",
    "null",
    '{"type":"nonsense"}',
    '{"type":["ping"]}',
    '{"type":{}}',
    '{"type":"ping","more":1}',
    "1" * 60_000,
]


@pytest.fixture(scope="module")
async def person(module_database: Database) -> AsyncIterator[Person]:
    async with run_studio(module_database) as studio:
        yield await studio.person("ana")


async def errors_after(socket: Socket, text: str) -> list[Frame]:
    """What comes back to the text, when the socket has lived on for a ping."""
    before = len(socket.seen)
    await socket.send_raw(text)
    await socket.settle()
    *answers, pong = socket.seen[before:]
    assert pong["type"] == "pong"
    return answers


def check_refused(answers: list[Frame], codes: set[str]) -> None:
    (error,) = answers
    assert error["type"] == "error"
    assert error["code"] in codes
    assert error["retryable"] is False
    assert error["message"]
    assert error.get("id") in (None, "x" * 40)  # one of the suite's cases has such an `id`, and gets it back


def groups(names: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(names), PER_SOCKET):
        yield names[start : start + PER_SOCKET]


async def test_bad_json_and_bad_frames_are_answered(person: Person) -> None:
    async with person.socket() as socket:
        for text in BAD_JSON:
            check_refused(await errors_after(socket, text), {"bad_json"})
        for text in BAD_FRAME:
            check_refused(await errors_after(socket, text), {"bad_frame"})


@json_test_suite.needs_suite
@pytest.mark.parametrize("kind", ["n_", "y_", "i_"])
async def test_json_test_suite(person: Person, kind: str) -> None:
    names = [name for name in json_test_suite.NAMES if name.startswith(kind) and json_test_suite.is_text_frame(name)]
    assert len(names) > 20
    for group in groups(names):
        async with person.socket() as socket:
            for name in group:
                answers = await errors_after(socket, json_test_suite.content(name).decode())
                check_refused(answers, json_test_suite.expected_codes(name))


@json_test_suite.needs_suite
async def test_what_is_no_text_frame_closes(person: Person) -> None:
    """12 of those to be refused are no UTF-8, and 2 are too large."""
    codes: dict[int, list[str]] = {1007: [], 1009: []}
    for name in json_test_suite.NAMES:
        if json_test_suite.is_text_frame(name):
            continue
        raw = json_test_suite.content(name)
        code = 1009 if len(raw) > MAX_FRAME_BYTES else 1007
        codes[code].append(name)
        async with person.socket() as socket:
            await socket.connection.send(raw, text=True)
            assert (name, await socket.closed()) == (name, code)
    assert len([name for name in codes[1007] if name.startswith("n_")]) == 12
    assert len(codes[1009]) == 2


@pytest.mark.parametrize(
    ("raw", "is_text", "code"),
    [
        (b'{"type":"ping","id":"\xff"}', True, 1007),
        (b"\xed\xa0\x80", True, 1007),
        (b'"' + b"x" * (MAX_FRAME_BYTES - 1) + b'"', True, 1009),
        (b'{"type":"ping"}', False, 1003),
    ],
)
async def test_faults_of_the_protocol_close(person: Person, raw: bytes, is_text: bool, code: int) -> None:
    async with person.socket() as socket:
        await socket.connection.send(raw, text=is_text)
        assert await socket.closed() == code


async def test_the_largest_frame_is_read(person: Person) -> None:
    async with person.socket() as socket:
        text = '"' + "x" * (MAX_FRAME_BYTES - 2) + '"'
        assert len(text) == MAX_FRAME_BYTES
        check_refused(await errors_after(socket, text), {"bad_frame"})


async def test_the_twentieth_bad_frame_closes(person: Person) -> None:
    async with person.socket() as socket:
        for number in range(PER_SOCKET):
            check_refused(await errors_after(socket, "[" if number % 2 else "[]"), {"bad_json", "bad_frame"})
        await socket.send_raw("[")
        assert await socket.closed() == 4501


async def test_bad_frames_of_one_socket_do_not_count_for_another(person: Person) -> None:
    async with person.socket() as one, person.socket() as other:
        for _ in range(PER_SOCKET):
            await errors_after(one, "[")
        for _ in range(PER_SOCKET):
            await errors_after(other, "[")
        await one.settle()


async def test_an_id_that_could_be_read_comes_back(person: Person) -> None:
    async with person.socket() as socket:
        for text, frame_id in (
            ('{"type":"send","id":"a-1","text":7}', "a-1"),
            ('{"type":"nonsense","id":"a-2"}', "a-2"),
            ('{"type":"subscribe","id":"a-3","conversations":{"c":{"seq":' + "9" * 5_000 + "}}}", "a-3"),
        ):
            (error,) = await errors_after(socket, text)
            assert (error["code"], error["id"]) == ("bad_frame", frame_id)
        for text in ('{"type":"send","id":["a"],"text":7}', '{"type":"send","id":"' + "x" * 65 + '","text":"x"}'):
            (error,) = await errors_after(socket, text)
            assert "id" not in error
