"""What was committed and never announced still reaches everybody."""

from server.hub import feeds
from server.hub.permissions import ROLES_ALLOWED, Permission
from server.protocol.events import MessageCreated
from server.protocol.frames import Actor
from server.protocol.ids import new_id
from server.storage.message_log import Draft, MessageLog
from tests.running_studio import RunningStudio


async def test_an_event_of_another_program_arrives_without_an_announcement(studio: RunningStudio) -> None:
    ana = await studio.person("ana")
    room = await ana.room()
    log = MessageLog(studio.parts.database, lambda *_: None, sending_roles=sorted(ROLES_ALLOWED[Permission.SEND]))
    async with ana.socket("/ws", room) as socket:
        for number in range(3):
            data = MessageCreated(id=new_id(), client_id=None, text=f"{number}")
            await log.append([Draft(room, Actor("user", ana.id, "ana"), data)])
        seen = [await socket.event("message.created") for _ in range(3)]
        assert [event["data"]["text"] for event in seen] == ["0", "1", "2"]
        ack = await socket.say(room, "live")
        assert ack["seq"] == 4
        await socket.settle()
        assert [event["seq"] for event in socket.events(room)] == [1, 2, 3, 4]


def test_holes_are_looked_for_well_within_five_seconds() -> None:
    assert feeds.COMPARE_EVERY_S <= 2.5
