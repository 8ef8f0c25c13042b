"""People in a room: what one sends, everybody sees, once and in order."""

from server.protocol.ids import new_id
from tests.running_studio import RunningStudio


async def test_a_message_reaches_every_member_with_the_seq_of_its_ack(studio: RunningStudio) -> None:
    ana, ben = await studio.person("ana"), await studio.person("ben")
    room = await ana.room(members=[ben.id])
    async with ana.socket("/ws", room) as hers, ben.socket("/ws", room) as his:
        ack = await hers.say(room, "Grüße 👋 from ana")
        for socket in (hers, his):
            event = await socket.event("message.created")
            assert event["seq"] == ack["seq"] == 1
            assert event["data"]["text"] == "Grüße 👋 from ana"
            assert event["data"]["id"] == ack["message"]
            assert event["actor"] == {"kind": "user", "id": ana.id, "name": "ana"}


async def test_the_same_id_again_gets_the_first_answer_and_is_seen_once(studio: RunningStudio) -> None:
    ana = await studio.person("ana")
    room = await ana.room()
    async with ana.socket("/ws", room) as socket:
        first = await socket.say(room, "once", id="one")
        again = await socket.say(room, "once", id="one")
        assert again == first
        other = await socket.ask("send", id="one", conversation=room, text="something else")
        assert (other["type"], other["code"]) == ("error", "conflict")
        await socket.say(room, "next")
        await socket.settle()
        assert [event["seq"] for event in socket.events(room)] == [1, 2]


async def test_many_in_flight_keep_their_order(studio: RunningStudio) -> None:
    ana = await studio.person("ana")
    room = await ana.room()
    async with ana.socket("/ws", room) as socket:
        for number in range(300):
            await socket.send("send", conversation=room, text=f"{number}" + (" @ana" if number % 7 == 0 else ""))
        await socket.wait_for(lambda frame: frame["type"] == "event" and frame["seq"] == 300)
        texts = [event["data"]["text"].split()[0] for event in socket.events(room)]
        assert texts == [str(number) for number in range(300)]


async def test_resume_brings_what_was_missed_and_then_goes_on(studio: RunningStudio) -> None:
    ana, ben = await studio.person("ana"), await studio.person("ben")
    room = await ana.room(members=[ben.id])
    async with ana.socket("/ws", room) as hers:
        for number in range(40):
            await hers.say(room, f"{number}")
        async with ben.socket() as his:
            answer = await his.subscribe({room: {"seq": 10, "epoch": hers.welcome["conversations"][0]["epoch"]}})
            assert answer["conversations"][room]["reset"] is False
            await hers.say(room, "live")
            await his.wait_for(lambda frame: frame["type"] == "event" and frame["seq"] == 41)
            assert [event["seq"] for event in his.events(room)] == list(range(11, 42))


async def test_a_stranger_learns_nothing(studio: RunningStudio) -> None:
    ana, eve = await studio.person("ana"), await studio.person("eve")
    room = await ana.room()
    async with eve.socket() as socket:
        for conversation in (room, new_id(), "nonsense"):
            answer = await socket.ask("send", conversation=conversation, text="hello")
            assert (answer["code"], answer["retryable"]) == ("not_found", False)
            subscribed = await socket.subscribe({conversation: None})
            assert subscribed["conversations"][conversation] == {"error": "not_found"}


async def test_a_mention_of_the_demo_model_streams_an_answer_to_everybody(studio: RunningStudio) -> None:
    ana, ben = await studio.person("ana"), await studio.person("ben")
    room = await ana.room(members=[ben.id])
    async with ana.socket("/ws", room) as hers, ben.socket("/ws", room) as his:
        await hers.say(room, "@demo hello there")
        started = await his.event("run.started")
        ended = await his.event("run.ended")
        assert ended["data"]["status"] == "finished"
        said = [frame for frame in his.seen if frame["type"] == "delta" and frame["run"] == started["data"]["run"]]
        assert len(said) > 2
        assert "".join(frame["text"] for frame in said) == ended["data"]["text"]


async def test_any_member_stops_an_answer(studio: RunningStudio) -> None:
    ana, ben = await studio.person("ana"), await studio.person("ben")
    room = await ana.room(members=[ben.id])
    async with ana.socket("/ws", room) as hers, ben.socket("/ws", room) as his:
        await hers.say(room, "a question")
        asked = await hers.ask("run", conversation=room)
        await his.wait_for(lambda frame: frame["type"] == "delta")
        stopped = await his.ask("stop", run=asked["run"], id="stop-1")
        assert stopped["type"] == "ack"
        ended = await hers.event("run.ended")
        assert (ended["data"]["status"], ended["seq"], ended["actor"]["name"]) == ("stopped", stopped["seq"], "ben")
        assert await his.ask("stop", run=asked["run"], id="stop-1") == stopped
