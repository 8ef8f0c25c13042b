"""An import beside a running server."""

from pathlib import Path

from server.hub.irc_import import import_irc
from tests.acceptance.conftest import MakePeople
from tests.running_studio import RunningStudio


async def test_who_has_the_room_open_sees_what_is_imported_in_order(
    shared_studio: RunningStudio, people: MakePeople, tmp_path: Path
) -> None:
    [ana] = await people("ana")
    file = tmp_path / "2005-05-19.txt"
    file.write_text("".join(f"[08:{n % 60:02}] <nick{n % 5}> line {n}\n" for n in range(120)))
    room = await ana.room("imported here", visibility="public")
    async with ana.socket("/ws", room) as socket:
        await socket.say(room, "before")
        report = await import_irc(shared_studio.parts.database, [file], "imported here", lambda *_: None)
        assert report.conversation == room
        await socket.say(room, "after")
        await socket.event("message.created", seq=122)
        texts = [event["data"]["text"] for event in socket.events(room)]
    assert texts == ["before", *(f"line {n}" for n in range(120)), "after"]
    page = await ana.call("GET", f"/api/conversations/{room}/messages?limit=2", expect=200)
    assert [message["actor"]["name"] for message in page["messages"]] == ["nick4", ana.name]
    assert page["messages"][0]["at"] == "2005-05-19T08:59:00.000Z"
    found = await ana.call("GET", "/api/search", params={"query": '"line 77"'}, expect=200)
    assert [result["message"]["text"] for result in found["results"]] == ["line 77"]
