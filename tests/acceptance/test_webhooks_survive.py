"""What was committed is delivered, whoever dies; and by one process at a time, however many there are."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from server.hub.deliveries import RetryPolicy
from server.storage.database import Database
from tests.acceptance.test_webhooks import add, letters, path, refusing, say
from tests.conftest import opened
from tests.hook_receiver import HookReceiver, hook_receiver
from tests.running_studio import RunningStudio, run_studio
from tests.studio_process import COMMAND, Ended, StudioProcess, copy_data_dir, make_people, run, studio_on
from tests.waiting import until

MESSAGES = 40


@pytest.fixture
async def hook() -> AsyncIterator[HookReceiver]:
    async with hook_receiver() as there:
        yield there


@pytest.fixture
async def process(made_studio: Path, tmp_path: Path, hook: HookReceiver) -> AsyncIterator[StudioProcess]:
    """A studio of its own that may call the receiver."""
    data_dir = copy_data_dir(made_studio, tmp_path / "data")
    async with studio_on(data_dir, CHAT_STUDIO_OUTBOUND_ALLOW=hook.origin) as studio:
        await studio.start()
        yield studio


async def test_a_kill_between_commit_and_delivery_loses_nothing(process: StudioProcess, hook: HookReceiver) -> None:
    (ana,) = await process.people(["ana"], "admin")
    room = await ana.room()
    await add(ana, room, hook)
    hook.may_answer.clear()
    await say(ana, room, *(f"{number}" for number in range(5)))
    await hook.wait_for(lambda: len(hook.came) == 1)
    await process.kill()
    hook.may_answer.set()
    await process.start()
    await hook.wait_for(lambda: len(hook.came) == 6)
    assert [delivery.seq for delivery in hook.came] == [1, 1, 2, 3, 4, 5]
    assert len({delivery.id for delivery in hook.came}) == 5  # a receiver can tell the repeat


async def test_what_was_committed_while_no_reader_ran_is_delivered_by_the_next(
    database_dsn: str, hook: HookReceiver
) -> None:
    async with opened(database_dsn) as database, run_studio(database, outbound_allow=[hook.origin]) as studio:
        ana = await studio.person("ana", "admin")
        room = await ana.room()
        await add(ana, room, hook)
        await studio.parts.log_readers.close()
        await say(ana, room, "one", "two")
        assert hook.came == []
        async with opened(database_dsn) as other, run_studio(other, outbound_allow=[hook.origin]):
            assert [delivery.text for delivery in await hook.took(2)] == ["one", "two"]


async def test_two_workers_share_the_work_and_deliver_each_event_once(database_dsn: str, hook: HookReceiver) -> None:
    async with (
        opened(database_dsn) as one_database,
        opened(database_dsn) as other_database,
        run_studio(one_database, outbound_allow=[hook.origin]) as one,
        run_studio(other_database, outbound_allow=[hook.origin]) as other,
    ):
        (ana,) = await make_people(one_database, one.port, ["ana"], "admin")
        (same,) = await make_people(other_database, other.port, ["ben"])
        room = await ana.room(visibility="public")
        await same.call("POST", f"/api/conversations/{room}/join", expect=200)
        webhooks = [(await add(ana, room, hook, kinds=["message.created"]))["id"] for _ in range(3)]
        async with ana.socket("/ws", room) as here, same.socket("/ws", room) as there:
            for number in range(MESSAGES):
                await (here, there)[number % 2].send("send", conversation=room, text=f"{number}")
            await hook.took(3 * MESSAGES)
        await until(lambda: all_done(one_database))
        for webhook in webhooks:
            seqs = [delivery.seq for delivery in hook.came if delivery.payload["webhook"] == webhook]
            assert seqs == list(range(2, MESSAGES + 2))
        await ana.http.aclose()
        await same.http.aclose()


async def all_done(database: Database) -> bool:
    return bool(
        await database.fetch_value(
            "SELECT bool_and(c.seq = h.last_seq) FROM log_cursors c JOIN heads h USING (conversation)"
        )
    )


async def test_another_worker_takes_over_from_one_that_is_killed(
    database_dsn: str, tmp_path: Path, hook: HookReceiver
) -> None:
    settings = {"DATABASE_URL": database_dsn, "CHAT_STUDIO_OUTBOUND_ALLOW": hook.origin}
    async with opened(database_dsn) as database, studio_on(tmp_path / "data", **settings) as first:
        await first.start()
        (ana,) = await make_people(database, first.port, ["ana"], "admin")
        room = await ana.room()
        await add(ana, room, hook)
        hook.may_answer.clear()
        await say(ana, room, "one", "two")
        await hook.wait_for(lambda: len(hook.came) == 1)
        async with run_studio(database, outbound_allow=[hook.origin]):
            await first.kill()
            hook.may_answer.set()
            await hook.wait_for(lambda: len(hook.came) == 3)
            await until(lambda: all_done(database))
        assert [delivery.text for delivery in hook.came] == ["one", "one", "two"]
        assert hook.came[0].id == hook.came[1].id
        await ana.http.aclose()


async def test_a_stop_waits_for_the_attempt_in_flight_and_begins_no_other(
    database_dsn: str, hook: HookReceiver
) -> None:
    async with opened(database_dsn) as database:
        async with run_studio(database, outbound_allow=[hook.origin]) as studio:
            ana = await studio.person("ana", "admin")
            room = await ana.room()
            await add(ana, room, hook)
            hook.answer = lambda _: stop_and_take(studio)
            await say(ana, room, "one", "two")
            await hook.took(1)
        assert [delivery.text for delivery in hook.came] == ["one"]
        assert await database.fetch_value("SELECT seq FROM log_cursors") == 1
        assert await database.fetch_value("SELECT holder FROM log_cursors") is None
        hook.answer = lambda _: 204
        async with run_studio(database, outbound_allow=[hook.origin]):
            assert [delivery.text for delivery in await hook.took(2)] == ["one", "two"]


def stop_and_take(studio: RunningStudio) -> int:
    """The stop begins while the receiver thinks."""
    studio.parts.hub.spawn(studio.parts.log_readers.close())
    return 204


async def test_a_restart_goes_on_with_the_tries_where_they_were(database_dsn: str, hook: HookReceiver) -> None:
    policy = RetryPolicy(first_s=0.01, most_s=0.02, tries=4)
    hook.answer = lambda _: 500
    async with opened(database_dsn) as database:
        async with run_studio(database, outbound_allow=[hook.origin]) as studio:
            studio.parts.log_readers.policy = policy
            ana = await studio.person("ana", "admin")
            room = await ana.room()
            made = await add(ana, room, hook)
            hook.answer = lambda _: 500 if len(hook.came) < 2 else stop_and_take(studio) + 296
            await say(ana, room, "one")
            await hook.wait_for(lambda: len(hook.came) == 2)
            await until(lambda: tries_are(database, 2))
        hook.answer = lambda _: 500
        async with run_studio(database, outbound_allow=[hook.origin]) as studio:
            studio.parts.log_readers.policy = policy
            await hook.wait_for(lambda: len(hook.came) == 4)

            async def is_dead() -> bool:
                return [letter["attempts"] for letter in await letters(studio)] == [4]

            await until(is_dead)
            assert len(hook.came) == 4
            assert (await letters(studio))[0]["target"] == made["id"]


async def tries_are(database: Database, count: int) -> bool:
    found = await database.fetch_value("SELECT tries FROM log_cursors")
    return bool(found == count)


# -- the command line, beside a running server ------------------------------------------------------------------------


async def test_dead_letters_from_the_command_line(database_dsn: str, tmp_path: Path, hook: HookReceiver) -> None:
    async def command(*words: str) -> Ended:
        return await run(
            str(COMMAND), "dead-letters", *words, environment={"DATABASE_URL": database_dsn}, cwd=tmp_path
        )  # fmt: skip

    async with opened(database_dsn) as database, run_studio(database, outbound_allow=[hook.origin]) as studio:
        empty = await command("list")
        assert (empty.code, empty.out) == (0, "there are no dead letters\n")
        studio.parts.log_readers.policy = RetryPolicy(first_s=0.001, most_s=0.001, tries=1)
        ana = await studio.person("ana", "admin")
        room = await ana.room()
        made = await add(ana, room, hook)
        hook.answer = refusing("bad")
        await say(ana, room, "bad", "bad", "bad", "bad", "fine")
        await hook.took(1)
        found = {letter["seq"]: letter["id"] for letter in await letters(studio)}
        listed = await command("list", "--reader", "webhooks", "--limit", "3")
        assert listed.code == 0, listed.err
        lines = listed.out.splitlines()
        assert len(lines) == 4
        assert lines[0].startswith(found[4])
        assert f"webhooks {made['id']}  message.created, 4 of {room}  1 tries: the receiver answered 500" in lines[0]
        assert lines[3] == "and 1 more"
        assert "bad" not in listed.out
        hook.answer = lambda _: 204
        retried = await command("retry", found[2])
        assert (retried.code, retried.out) == (0, f"{found[2]} will be tried again\n")
        await hook.wait_for(lambda: [delivery.seq for delivery in hook.taken] == [5, 2])
        deleted = await command("delete", found[1])
        assert (deleted.code, deleted.out) == (0, f"{found[1]} deleted\n")
        every = await command("retry", "--all")
        assert (every.code, every.out) == (0, "2 will be tried again\n")
        await hook.wait_for(lambda: [delivery.seq for delivery in hook.taken] == [5, 2, 3, 4])

        async def all_gone() -> bool:
            return not await letters(studio)

        await until(all_gone)
        assert (await command("delete", "--all", "--reader", "webhooks")).out == "0 deleted\n"
        for words in (["retry"], ["delete", found[1], "--all"], ["retry", found[1], "--reader", "webhooks"]):
            refused = await command(*words)
            assert (refused.code, refused.out) == (2, "")
            assert "--all" in refused.err
        for words in (["retry", found[1]], ["delete", "nonsense"]):
            refused = await command(*words)
            assert (refused.code, refused.err) == (2, "chat-studio: there is no such dead letter\n")
        await ana.call("DELETE", path(room, made["id"]), expect=204)
