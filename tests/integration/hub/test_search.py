"""Search on a real Postgres, over messages that went through the real log."""

import asyncio
import json
import zipfile
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from server.hub.identity import Identity
from server.hub.search import MAX_QUERY_LENGTH
from server.protocol import clock
from server.protocol.errors import BadFrame, NotFound, TooLarge
from server.protocol.events import (
    ConversationDeleted,
    MemberJoined,
    MemberLeft,
    MessageDeleted,
    MessageEdited,
)
from server.protocol.ids import new_id
from server.protocol.search import SearchAnswer
from server.storage.database import Database
from server.storage.search import SearchIndex, Viewer, Wanted
from tests.integration.hub.library import Library

CROSSWOZ = Path(__file__).parents[4] / "shared" / "data" / "chat" / "crosswoz-zh" / "val.json.zip"


@pytest.fixture
def library(database: Database) -> Library:
    return Library(database)


VECTORS = {
    "English": "The quick brown fox's tail; it jumps over http://example.org/lazy-dog?x=1",
    "Chinese": "北京大学在哪里？我想去清华园。",
    "Japanese": "東京タワーに行きたいです。ｶﾀｶﾅも",
    "Korean": "한국어 메시지를 찾습니다",
    "Thai": "สวัสดีครับผม",
    "mixed": "用iPhone拍照片，再发Email给李雷2026年",
    "accents": "Crème brûlée au CAFÉ, İstanbul, Ёлка, Größe",
    "emoji": "Well done 🎉👍🏽 and ❤️",
    "code": "call my_function(snake_case) on v2.6.15-rc1 with 1e5e items",
    "long word": "aGVsbG8" * 300,
}


FOUND: dict[str, list[str]] = {
    "quick fox": ["English"],
    "QUICK": ["English"],
    "fox tail": ["English"],
    "fox's": ["English"],
    "qui": ["English"],  # the last word may be a beginning
    "qui fox": [],  # the first may not
    "qui ": [],  # nor one that has ended
    '"brown fox"': ["English"],
    '"fox brown"': [],
    "“quick brown”": ["English"],
    '"quick bro': ["English"],
    "example.org/lazy-dog": ["English"],
    "lazy": ["English"],
    "quick absent": [],
    "北京大学": ["Chinese"],
    "京大": ["Chinese"],
    "北": ["Chinese"],
    "清华 北京": ["Chinese"],
    "大学北京": [],
    "哪里我想": [],  # a mark stands between
    "哪里？我想": ["Chinese"],
    "東京": ["Japanese"],
    "タワー": ["Japanese"],
    "カタカナ": ["Japanese"],  # written in half width
    "行きたい": ["Japanese"],
    "京": ["Chinese", "Japanese"],
    "메시지": ["Korean"],
    "ครับ": ["Thai"],
    "iphone 照片": ["mixed"],
    "iPhone拍照": ["mixed"],
    "email李雷": [],
    "2026": ["mixed"],
    "creme brulee": ["accents"],
    "CRÈME": ["accents"],
    "cafe": ["accents"],
    "istanbul": ["accents"],
    "ёлка": ["accents"],
    "größe": ["accents"],
    "🎉": ["emoji"],
    "👍": ["emoji"],
    "👍🏽": ["emoji"],
    "❤": ["emoji"],
    "👎": [],
    "snake_case": ["code"],
    "snake": ["code"],
    "my_function(snake": ["code"],
    "6.15": ["code"],
    "1e5e": ["code"],
    "v2.6.15-rc1": ["code"],
    "aGVsbG8" * 40: ["long word"],
}


async def test_what_is_found(library: Library) -> None:
    ada = await library.person("Ada")
    await library.say(ada, await library.room(ada), *VECTORS.values())
    names = {text: name for name, text in VECTORS.items()}
    assert {query: sorted(names[text] for text in await library.texts(ada, query)) for query in FOUND} == FOUND


HOSTILE = [
    "'", "''", "fox'", "' OR 1=1 --", "&", "| fox", "fox |", "!fox", "!", ":*", "fox:*", "fox:*A", "<->", "<2>",
    "fox <-> tail", "\\", "fox\\", "\\'", "(", "((fox)", "%", "_", "$1", "{", "'fox':1", "fox & !quick", '"', '""',
    '"fox', "\t\n fox", "a" * MAX_QUERY_LENGTH, "a " * (MAX_QUERY_LENGTH // 2), "北" * MAX_QUERY_LENGTH, "🎉" * 200,
    "\u200b\ufeff", "\u0301", "\ufffe", "\U0010ffff", "。、！", "--", "/* */", "; DROP TABLE users", "\x01\x7f",
]  # fmt: skip


async def test_no_query_means_anything_to_the_database(library: Library) -> None:
    ada = await library.person("Ada")
    await library.say(ada, await library.room(ada), "the quick fox's tail", "nothing")
    for query in HOSTILE:
        assert "nothing" not in await library.texts(ada, query)


async def test_any_text_can_be_a_message(library: Library) -> None:
    ada = await library.person("Ada")
    room = await library.room(ada)
    for text in HOSTILE:
        await library.say(ada, room, text, "the needle", text * (16_000 // len(text)))
    assert await library.texts(ada, "needle") == ["the needle"] * len(HOSTILE)


async def test_a_query_has_bounds_that_say_so(library: Library) -> None:
    ada = await library.person("Ada")
    with pytest.raises(TooLarge, match="10000"):
        await library.search.search(ada, "a" * 10_000)
    for empty in ("", "  "):
        with pytest.raises(BadFrame):
            await library.search.search(ada, empty)


async def test_an_edited_message_is_found_by_its_new_words_alone(library: Library) -> None:
    ada = await library.person("Ada")
    room = await library.room(ada)
    [message] = await library.say(ada, room, "the old words")
    assert await library.texts(ada, "old") == ["the old words"]
    await library.do(ada, room, MessageEdited(id=message, text="the new words"))
    assert await library.texts(ada, "old") == []
    assert await library.texts(ada, "new") == ["the new words"]


async def test_an_edit_far_above_the_message_is_read_with_the_words_of_now(library: Library) -> None:
    ada = await library.person("Ada")
    room = await library.room(ada)
    [message] = await library.say(ada, room, "first")
    await library.do(ada, room, MessageEdited(id=message, text="second"))
    await library.do(ada, room, MessageEdited(id=message, text="third"))
    assert await library.texts(ada, "third") == ["third"]
    assert await library.texts(ada, "first") == await library.texts(ada, "second") == []


async def test_a_deleted_message_is_not_found_and_leaves_no_words(library: Library, database: Database) -> None:
    ada = await library.person("Ada")
    room = await library.room(ada)
    [message] = await library.say(ada, room, "a secret")
    assert await library.texts(ada, "secret") == ["a secret"]
    await library.do(ada, room, MessageDeleted(id=message))
    assert await library.texts(ada, "secret") == []
    assert await database.fetch_value("SELECT count(*) FROM message_words") == 0


async def test_a_deleted_message_is_not_found_even_before_the_index_knows(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = await library.person("Ada")
    room = await library.room(ada)
    [message] = await library.say(ada, room, "a secret")
    await library.index.catch_up(None, 1)
    await library.do(ada, room, MessageDeleted(id=message))
    monkeypatch.setattr(library.index, "catch_up", lambda *_: asyncio.sleep(0, False))
    answer = await library.search.search(ada, "secret")
    assert answer.results == []
    assert not answer.complete
    wanted = Wanted(["secret"], is_open=False)
    assert await library.index.hits(Viewer(ada.user_id, sees_public=True), "'secret'", wanted, 10) == []


async def test_an_answer_is_found_once_it_has_ended_and_by_its_model(library: Library) -> None:
    ada = await library.person("Ada")
    room = await library.room(ada)
    await library.say(ada, room, "what about tea?")
    await library.answer(ada, room, "demo", "Tea is fine.")
    await library.answer(ada, room, "other", "No tea.")
    assert await library.texts(ada, "tea") == ["No tea.", "Tea is fine.", "what about tea?"]
    assert await library.texts(ada, "tea", model="demo") == ["Tea is fine."]
    assert await library.texts(ada, "tea", model="nobody") == []
    assert await library.texts(ada, "tea", model=ada.user_id) == []


async def test_what_one_may_not_read_is_not_found(library: Library) -> None:
    ada, bob, guest = await library.person("Ada"), await library.person("Bob"), await library.person("Gus", "guest")
    private = await library.room(ada, title="private needle")
    public = await library.room(ada, title="public needle", visibility="public")
    invited = await library.room(ada, guest, title="invited needle", visibility="public")
    for room, text in ((private, "private needle"), (public, "public needle"), (invited, "invited needle")):
        await library.say(ada, room, text)
    for who, seen in (
        (ada, {"private needle", "public needle", "invited needle"}),
        (bob, {"public needle", "invited needle"}),
        (guest, {"invited needle"}),
    ):
        assert set(await library.texts(who, "needle")) == seen
        answer = await library.find(who, "needle")
        assert {conversation.title for conversation in answer.conversations} == seen
    for who, room in ((bob, private), (guest, public), (bob, new_id()), (bob, "' OR 1=1"), (bob, "")):
        with pytest.raises(NotFound):
            await library.search.search(who, "needle", conversation=room)


async def test_rights_follow_who_comes_and_goes(library: Library) -> None:
    ada, bob = await library.person("Ada"), await library.person("Bob")
    room = await library.room(ada)
    await library.say(ada, room, "needle before")
    await library.do(ada, room, MemberJoined(user=bob.user_id, username="Bob", role="member"))
    await library.say(ada, room, "needle after")
    assert await library.texts(bob, "needle") == ["needle after"]
    await library.do(ada, room, MemberLeft(user=bob.user_id, by=ada.user_id))
    assert await library.texts(bob, "needle") == []
    assert len(await library.texts(ada, "needle")) == 2
    await library.do(ada, room, ConversationDeleted())
    assert await library.texts(ada, "needle") == []


async def test_a_title_is_found_and_a_private_chat_by_the_others_name(library: Library) -> None:
    ada, bob = await library.person("Ada"), await library.person("Bob")
    room = await library.room(ada, title="Küche und 厨房")
    chat = await library.room(ada, bob, title=None, kind="private")
    await library.say(ada, chat, "hello")

    async def found(who: Identity, query: str, **filters: Any) -> list[str]:
        answer = await library.find(who, query, **filters)
        return [conversation.id for conversation in answer.conversations]

    assert await found(ada, "kuch") == await found(ada, "厨房") == [room]
    assert await found(ada, "bob") == await found(bob, "ada") == [chat]
    assert await found(bob, "bob") == []
    assert await found(ada, "bob", model="demo") == []


async def test_dates_and_conversations_narrow_the_search(library: Library) -> None:
    ada = await library.person("Ada")
    room, other = await library.room(ada), await library.room(ada)
    noon = datetime(2026, 3, 1, 12, tzinfo=UTC)
    for day in range(4):
        await library.say(ada, room, f"needle {day}", at=noon + timedelta(days=day))
    await library.say(ada, other, "needle elsewhere", at=noon)
    assert await library.texts(ada, "needle", conversation=room) == ["needle 3", "needle 2", "needle 1", "needle 0"]
    assert await library.texts(ada, "needle", date_from="2026-03-02", date_to="2026-03-03") == ["needle 2", "needle 1"]
    assert await library.texts(ada, "needle", date_from="2026-03-04T12:00:00Z") == ["needle 3"]
    assert await library.texts(ada, "needle", date_to="2026-03-01T14:00:00+02:00", conversation=room) == []
    for wrong in ("yesterday", "2026-13-01", "", "9999-12-31", "2026-03-01T25:00:00Z"):
        with pytest.raises(BadFrame):
            await library.search.search(ada, "needle", date_to=wrong)


async def test_pages_follow_one_another_without_gap_or_repeat(library: Library) -> None:
    ada = await library.person("Ada")
    rooms = [await library.room(ada) for _ in range(3)]
    moment = clock.now()
    for n in range(25):  # several at one moment
        await library.say(ada, rooms[n % 3], f"needle {n}", at=moment + timedelta(milliseconds=n // 4))
    seen: list[str] = []
    before: str | None = None
    while True:
        page: SearchAnswer = await library.search.search(ada, "needle", before=before, limit=4)
        seen += [result.message.text for result in page.results]
        before = page.next
        if before is None:
            break
        assert len(page.results) == 4
    assert Counter(seen) == Counter(f"needle {n}" for n in range(25))
    assert [int(text.split()[1]) // 4 for text in seen] == sorted((n // 4 for n in range(25)), reverse=True)
    for wrong in ("x", "1-2", f"{'9' * 18}-{new_id()}", f"1-{'-' * 36}"):
        with pytest.raises(BadFrame):
            await library.search.search(ada, "needle", before=wrong)


async def test_readers_of_the_log_may_race(library: Library, database: Database) -> None:
    ada = await library.person("Ada")
    rooms = [await library.room(ada) for _ in range(8)]
    indexes = [SearchIndex(database) for _ in range(4)]

    async def write(room: str) -> None:
        for n in range(20):
            [message] = await library.say(ada, room, f"needle draft {n}")
            await library.do(ada, room, MessageEdited(id=message, text=f"needle final {n}"))

    writing = asyncio.gather(*(write(room) for room in rooms))
    while not writing.done():
        await asyncio.gather(*(index.catch_up(None, 0.5) for index in indexes))
    await writing
    assert await library.texts(ada, "draft") == []
    answer = await library.find(ada, "final", 1000)
    assert len(answer.results) == 8 * 20


async def test_what_the_cursor_has_not_passed_is_read_again_after_a_crash(library: Library, database: Database) -> None:
    ada = await library.person("Ada")
    room = await library.room(ada)
    await library.say(ada, room, *(f"needle {n}" for n in range(50)))
    for _ in range(20):
        reading = asyncio.create_task(SearchIndex(database).catch_up(None, 1))
        await asyncio.sleep(0.003)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    assert len((await library.find(ada, "needle")).results) == 50


async def test_the_index_is_kept_up_without_any_search(
    library: Library, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.hub.search.KEEP_UP_EVERY_S", 0.01)
    ada = await library.person("Ada")
    await library.search.open()
    try:
        await library.say(ada, await library.room(ada), "needle")
        async with asyncio.timeout(5):
            while await database.fetch_value("SELECT count(*) FROM message_words") == 0:
                await asyncio.sleep(0.01)
    finally:
        await library.search.close()


async def test_a_search_finds_exactly_the_real_chinese_messages_that_hold_its_words(library: Library) -> None:
    if not CROSSWOZ.exists():
        pytest.skip(f"no real Chinese to search: {CROSSWOZ} is not there")
    with zipfile.ZipFile(CROSSWOZ) as archive:
        dialogues = list(json.loads(archive.read(archive.namelist()[0])).values())[:100]
    texts = [turn["content"] for dialogue in dialogues for turn in dialogue["messages"]]
    ada = await library.person("Ada")
    room = await library.room(ada)
    for start in range(0, len(texts), 200):
        await library.say(ada, room, *texts[start : start + 200])
    for word in ("酒店", "北京", "故宫", "地铁", "人均消费", "你好", "附近的景点", "餐", "推荐菜", "不存在的词"):
        answer = await library.find(ada, word, 10_000)
        assert Counter(result.message.text for result in answer.results) == Counter(t for t in texts if word in t)
        assert (len(answer.results) > 0) is (word != "不存在的词")
