"""A studio with a bus over Redis, and with a Redis that is not there."""

from pathlib import Path

from server.storage.database import Database
from tests.redis_server import RedisServer
from tests.running_studio import Person, run_studio
from tests.studio_process import free_port, studio_on
from tests.waiting import until


async def test_a_start_without_redis_serves_and_is_not_ready(tmp_path: Path) -> None:
    url = f"redis://:hush@127.0.0.1:{free_port()}/0"
    async with studio_on(tmp_path / "data", REDIS_URL=url, CHAT_STUDIO_SAMPLE_ROOM="off") as studio:
        await studio.start()
        answer = await studio.get("/readyz")
        assert (answer.status_code, answer.json()["problems"]) == (503, ["bus"])
        [ana] = await studio.people(["ana"])
        room = await ana.room()
        async with ana.socket("/ws", room) as hers:
            await hers.say(room, "hello")
            await hers.event("message.created")
        assert await studio.stop() == 0
        log = studio.log.read_text()
        assert "the bus is away" in log
        assert "hush" not in log + studio.out


async def test_readiness_follows_redis(database: Database, redis_server: RedisServer) -> None:
    async with run_studio(database, redis_url=redis_server.url) as studio:
        ana = await studio.person("ana")

        async def is_ready() -> bool:
            return (await ana.http.get("/readyz")).status_code == 200

        async def is_not_ready() -> bool:
            return not await is_ready()

        await until(is_ready)
        await redis_server.kill()
        await until(is_not_ready)
        await redis_server.start()
        await until(is_ready)


async def test_two_nodes_tell_each_other_what_is_said(database: Database, redis_server: RedisServer) -> None:
    async with (
        run_studio(database, redis_url=redis_server.url) as first,
        run_studio(database, redis_url=redis_server.url) as second,
    ):
        ana, ben = await first.person("ana"), await second.person("ben")
        room = await ana.room(members=[ben.id])
        async with ana.socket("/ws", room) as hers, ben.socket("/ws", room) as his:
            for number in range(20):
                speaker, listener = (hers, his) if number % 2 else (his, hers)
                await speaker.say(room, f"{number}")
                for socket in (speaker, listener):
                    heard = await socket.event("message.created")
                    assert heard["data"]["text"] == f"{number}"
            large = "\N{ROBOT FACE}" * 8000  # 32 KB: only its number travels
            await hers.say(room, large)
            assert (await his.event("message.created"))["data"]["text"] == large


async def test_who_is_invited_while_redis_is_away_is_told_when_it_is_back(
    database: Database, redis_server: RedisServer
) -> None:
    async with (
        run_studio(database, redis_url=redis_server.url) as one,
        run_studio(database, redis_url=redis_server.url) as two,
    ):
        ana, ben = await one.person("ana"), await one.person("ben")
        elsewhere = Person(two.port, ben.id, ben.name)
        elsewhere.token = ben.token
        async with elsewhere, elsewhere.socket() as his:
            await redis_server.kill()
            empty = await ana.room("nobody has said a word here", members=[ben.id])
            old = await ana.room("an older one")
            await ana.call("PUT", f"/api/conversations/{old}/members/{ben.id}", {"role": "member"}, expect=201)
            await redis_server.start()
            untold = {empty, old}
            while untold:  # either may be told twice: by the notice that waited for Redis, and by who looked after it
                told = await his.wait_for(lambda f: f["type"] == "conversation.added")
                untold.discard(told["conversation"]["id"])
