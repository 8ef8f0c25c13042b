"""Search over HTTP: what a program that types words into it gets."""

from typing import Any

from server.hub.search import MAX_QUERY_LENGTH
from server.storage.database import Database
from tests.acceptance.conftest import MakePeople
from tests.running_studio import Person, run_studio

NO_FILTER: dict[str, Any] = {}


async def search(person: Person, expect: int = 200, /, **parameters: Any) -> Any:
    return await person.call("GET", "/api/search", params=parameters, expect=expect)


async def test_what_was_just_said_is_found_as_the_message_it_is(people: MakePeople) -> None:
    ana, ben = await people("ana", "ben")
    room = await ana.room("Küche", members=[ben.id])
    async with ana.socket("/ws", room) as socket:
        ack = await socket.say(room, "Wir treffen uns 在清华大学 zum Essen")
    page = await ben.call("GET", f"/api/conversations/{room}/messages", expect=200)
    for query in ("清华", '"TREFFEN uns"', "essen wir", "ess"):
        found = await search(ben, query=query)
        assert found["results"] == [{"conversation": room, "title": "Küche", "message": page["messages"][0]}]
        assert (found["conversations"], found["next"], found["complete"]) == ([], None, True)
    found = await search(ben, query="kuche")
    assert [conversation["id"] for conversation in found["conversations"]] == [room]
    assert found["results"] == []
    await ana.call("DELETE", f"/api/conversations/{room}/messages/{ack['message']}", expect=200)
    assert (await search(ben, query="清华"))["results"] == []


async def test_the_answer_of_a_model_is_found_by_its_name(people: MakePeople) -> None:
    [ana] = await people("ana")
    room = await ana.room()
    async with ana.socket("/ws", room) as socket:
        await socket.say(room, "@demo marmalade?")
        await socket.event("run.ended")
    names = [
        [result["message"]["actor"]["id"] for result in (await search(ana, query="marmalade", **model))["results"]]
        for model in (NO_FILTER, {"model": "demo"}, {"model": "other"})
    ]
    assert names == [["demo", ana.id], ["demo"], []]


async def test_somebody_elses_room_is_not_found_and_not_told_apart_from_none(people: MakePeople) -> None:
    ana, eve = await people("ana", "eve")
    room = await ana.room("secret quince")
    async with ana.socket("/ws", room) as socket:
        await socket.say(room, "secret quince")
    found = await search(eve, query="quince")
    assert (found["results"], found["conversations"]) == ([], [])
    theirs = await search(eve, 404, query="quince", conversation=room)
    missing = await search(eve, 404, query="quince", conversation="00000000-0000-7000-8000-000000000000")
    assert {**theirs, "request_id": None} == {**missing, "request_id": None}


async def test_a_bad_search_says_what_is_wrong(people: MakePeople) -> None:
    [ana] = await people("ana")
    assert (await search(ana, 413, query="a" * 10_000))["code"] == "too_large"
    assert str(MAX_QUERY_LENGTH) in (await search(ana, 413, query="a" * 10_000))["detail"]
    for wrong in (
        {}, {"query": ""}, {"query": "a", "limit": "101"}, {"query": "a", "limit": "0"}, {"query": "a", "sort": "x"},
        {"query": "a", "date_from": "soon"}, {"query": "a", "before": "x"},
    ):  # fmt: skip
        assert (await search(ana, 422, **wrong))["code"] == "bad_frame"
    assert (await search(ana, 400, query="a\0b"))["code"] == "bad_json"
    ana.http.headers.pop("authorization")
    assert (await search(ana, 401, query="a"))["code"] == "unauthenticated"


async def test_searches_are_limited(database: Database) -> None:
    async with run_studio(database, rate_limits=True) as studio:
        ana = await studio.person("ana")
        answers = [await ana.http.get("/api/search", params={"query": "a"}) for _ in range(30)]
    assert answers[0].status_code == 200
    assert answers[-1].status_code == 429
    assert answers[-1].json()["retry_after_s"] > 0
