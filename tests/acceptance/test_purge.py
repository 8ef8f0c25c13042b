"""What is deleted as a whole is gone for good: after a while from everywhere, for erased accounts at once."""

from datetime import timedelta

import pytest

from server.ai.scripted import ScriptedModel
from server.storage import purge
from server.storage.database import Database
from server.storage.purge import GRACE
from tests.acceptance.test_erasure import erase, erased, everything
from tests.acceptance.test_retention import say
from tests.hook_receiver import HookReceiver, hook_receiver
from tests.running_studio import Person, RunningStudio, run_studio
from tests.waiting import until

SECRETS = ("zabaglione", "quince", "marmalade", "damson")
OWN = ("events", "messages", "message_words", "reactions", "runs", "memberships")


async def full_room(studio: RunningStudio, owner: Person, *others: Person) -> str:
    """With everything in it that may hold a text."""
    room = await owner.room("a quince party", members=[other.id for other in others])
    path = f"/api/conversations/{room}"
    await owner.call("PATCH", path, {"system_prompt": "speak of damsons: damson"}, expect=200)
    await owner.call("PATCH", path, {"title": "a marmalade party"}, expect=200, headers={"Idempotency-Key": "title"})
    said = await say(owner, room, "zabaglione", "the-id")
    await owner.call("PATCH", f"{path}/messages/{said['message']}", {"text": "more zabaglione"}, expect=200)
    await owner.call("PUT", f"{path}/messages/{said['message']}/reactions/%F0%9F%91%8D", expect=200)
    async with owner.socket("/ws", room) as socket:
        await socket.subscribe({room: {"seq": 0}})
        await owner.call("POST", f"{path}/runs", {}, expect=201, headers={"Idempotency-Key": "run"})
        await socket.event("run.ended")
    await owner.call("GET", "/api/search?query=zabaglione", expect=200)  # indexed
    return room


async def deleted(studio: RunningStudio, owner: Person, room: str, ago: timedelta) -> None:
    await owner.call("DELETE", f"/api/conversations/{room}", expect=204)
    await studio.parts.database.execute(
        "UPDATE conversations SET deleted_at = deleted_at - $2::interval WHERE id = $1", room, ago
    )


async def rows(studio: RunningStudio, room: str) -> dict[str, int]:
    return {
        table: await studio.parts.database.fetch_value(f"SELECT count(*) FROM {table} WHERE conversation = $1", room)
        for table in OWN
    }


async def test_a_deleted_conversation_is_gone_after_a_while(
    studio: RunningStudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(purge, "PIECE", 3)
    ana, ben = await studio.person("ana"), await studio.person("ben")
    room, other = await full_room(studio, ana, ben), await ana.room("stays", members=[ben.id])
    await say(ana, other, "a pear")
    before = await rows(studio, room)
    assert all(before.values()), before
    await deleted(studio, ana, room, GRACE - timedelta(minutes=5))
    assert await studio.parts.retention.run_once() == 0
    assert await rows(studio, room) == before | {"events": before["events"] + 1}
    await deleted_longer_ago(studio, room)
    assert await studio.parts.retention.run_once() == before["events"]
    assert not any((await rows(studio, room)).values())
    found = await everything(studio)
    assert [secret for secret in SECRETS if secret in found] == []
    assert "a pear" in found
    await ana.call("GET", f"/api/conversations/{room}", expect=404)
    await ana.call("POST", f"/api/conversations/{room}/messages", {"id": "the-id", "text": "zabaglione"}, expect=404)
    await ana.call("POST", f"/api/conversations/{room}/runs", {}, expect=404, headers={"Idempotency-Key": "run"})
    assert await studio.parts.retention.run_once() == 0
    assert await studio.parts.database.fetch("SELECT id FROM conversations WHERE id = $1", room)


async def deleted_longer_ago(studio: RunningStudio, room: str) -> None:
    await studio.parts.database.execute(
        "UPDATE conversations SET deleted_at = deleted_at - interval '10 minutes' WHERE id = $1", room
    )


async def test_a_log_that_was_shortened_before_leaves_nothing_either(studio: RunningStudio) -> None:
    """Shortening leaves rows with a client id below the floor, settings among them."""
    ana = await studio.person("ana")
    room = await full_room(studio, ana)
    await studio.parts.database.execute(
        "UPDATE heads SET first_seq = last_seq + 1 WHERE conversation = $1", room
    )  # as if all of it had been too old
    await deleted(studio, ana, room, GRACE + timedelta(minutes=5))
    await studio.parts.retention.run_once()
    assert not any((await rows(studio, room)).values())


async def test_a_webhook_still_passes_on_the_word_of_it(database: Database) -> None:
    async with (
        hook_receiver() as hook,
        run_studio(database, models=[ScriptedModel(pace_s=0.0)], outbound_allow=[hook.origin]) as studio,
    ):
        await passes_on(studio, hook)


async def passes_on(studio: RunningStudio, hook: HookReceiver) -> None:
    ana, database = await studio.person("ana", "admin"), studio.parts.database  # who may name a loopback address
    room = await full_room(studio, ana)
    await ana.call("POST", f"/api/conversations/{room}/webhooks", {"url": hook.url}, expect=201)
    hook.answer = lambda _: 500
    await say(ana, room, "one more zabaglione")
    await hook.wait_for(lambda: len(hook.came) >= 1)
    await deleted(studio, ana, room, GRACE + timedelta(minutes=5))
    await studio.parts.retention.run_once()
    assert await rows(studio, room) == dict.fromkeys(OWN, 0) | {"events": 1}
    found = await everything(studio)
    assert [secret for secret in SECRETS if secret in found] == []
    hook.answer = lambda _: 204
    await database.execute("UPDATE log_cursors SET next_at = now()")
    await hook.wait_for(lambda: any(came.payload["type"] == "conversation.deleted" for came in hook.came))

    async def is_told() -> bool:
        return bool(await database.fetch_value("SELECT count(*) = 0 FROM log_cursors"))

    await until(is_told)
    await studio.parts.retention.run_once()
    assert not any((await rows(studio, room)).values())


@pytest.mark.parametrize("kind", ["room", "assistant"])
async def test_an_erased_account_takes_its_own_conversations_with_it_at_once(studio: RunningStudio, kind: str) -> None:
    ana = await studio.person("ana")
    room = await full_room(studio, ana)
    await studio.parts.database.execute("UPDATE conversations SET kind = $2 WHERE id = $1", room, kind)
    silent = await ana.room("a silent quince")  # not one message of hers
    await erase(ana)
    await erased(studio, ana)
    for conversation in (room, silent):
        assert not any((await rows(studio, conversation)).values())
    found = await everything(studio)
    assert [secret for secret in SECRETS if secret in found] == []


async def test_an_account_that_keeps_its_messages_keeps_them_until_the_grace_is_over(studio: RunningStudio) -> None:
    ana = await studio.person("ana")
    room = await full_room(studio, ana)
    await erase(ana, "keep")
    await erased(studio, ana)
    assert (await rows(studio, room))["messages"] == 2
