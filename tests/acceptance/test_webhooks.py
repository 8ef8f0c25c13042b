"""Webhooks as their owners and receivers see them: real requests to a real receiver on loopback."""

import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from server.hub import delivery_turn, log_readers
from server.hub.deliveries import RetryPolicy
from server.hub.webhook_receiver import ADMINS_ONLY
from server.protocol.ids import new_id
from server.storage.database import Database
from server.storage.webhooks import KEEPER_GONE
from tests.hook_receiver import NO_ANSWER, Delivery, HookReceiver, hook_receiver
from tests.running_studio import Person, RunningStudio, run_studio
from tests.unit.hub.test_deliveries import documented_check
from tests.waiting import until

QUICK = RetryPolicy(first_s=0.02, most_s=0.05, tries=3)


@pytest.fixture
async def hook() -> AsyncIterator[HookReceiver]:
    async with hook_receiver() as there:
        yield there


@pytest.fixture
async def studio(database: Database, hook: HookReceiver) -> AsyncIterator[RunningStudio]:
    async with run_studio(database, outbound_allow=[hook.origin]) as running:
        running.parts.log_readers.policy = QUICK
        yield running


@pytest.fixture
async def ana(studio: RunningStudio) -> Person:
    """An admin, since the receiver stands where only an exception leads."""
    return await studio.person("ana", "admin")


@pytest.fixture
async def room(ana: Person) -> str:
    return await ana.room()


def path(room: str, webhook: str = "", act: str = "") -> str:
    return "/".join(part for part in (f"/api/conversations/{room}/webhooks", webhook, act) if part)


async def add(person: Person, room: str, hook: HookReceiver, **more: Any) -> dict[str, Any]:
    made: dict[str, Any] = await person.call("POST", path(room), {"url": hook.url, **more}, expect=201)
    return made


async def say(person: Person, room: str, *texts: str) -> list[dict[str, Any]]:
    return [
        await person.call(
            "POST", f"/api/conversations/{room}/messages", {"id": new_id(), "text": text}, expect=201
        )
        for text in texts
    ]  # fmt: skip


def refusing(text: str, status: int = 500, times: int = 10_000) -> Callable[[Delivery], int]:
    """Answers `status` to the event of this text, so many times."""
    left = [times]

    def answer(delivery: Delivery) -> int:
        event = delivery.payload["event"]
        if event is None or event["data"].get("text") != text or left[0] == 0:
            return 204
        left[0] -= 1
        return status

    return answer


async def attempts(person: Person, room: str, webhook: str) -> list[tuple[int, int, str, int | None]]:
    """(seq, attempt, outcome, status) of each, the first one first."""
    found = (await person.call("GET", path(room, webhook, "deliveries"), expect=200))["deliveries"]
    return [(d["seq"], d["attempt"], d["outcome"], d["status"]) for d in reversed(found)]


async def letters(studio: RunningStudio) -> list[dict[str, Any]]:
    """As an admin lists them."""
    page = await (await admin_of(studio)).call("GET", "/api/admin/dead-letters", expect=200)
    found: list[dict[str, Any]] = page["dead_letters"]
    assert page["total"] == len(found)
    return found


async def admin_of(studio: RunningStudio) -> Person:
    known = [person for person in studio.people if person.name == "admin"]
    return known[0] if known else await studio.person("admin", "admin")


# -- what is sent -----------------------------------------------------------------------------------------------------


async def test_an_event_comes_signed_and_as_sockets_get_it(ana: Person, room: str, hook: HookReceiver) -> None:
    made = await add(ana, room, hook)
    async with ana.socket("/ws", room) as socket:
        await say(ana, room, "hello")
        frame = await socket.event("message.created")
    (delivery,) = await hook.took(1)
    assert documented_check()(made["secret"], delivery.headers, delivery.body)
    assert delivery.payload["event"] == frame
    assert delivery.payload["type"] == "message.created"
    assert delivery.payload["timestamp"] == frame["at"]
    assert (delivery.payload["webhook"], delivery.payload["conversation"]) == (made["id"], room)
    assert delivery.payload["id"] == delivery.id
    assert delivery.headers["content-type"] == "application/json"
    assert "." not in delivery.id


async def test_only_what_comes_later_and_only_the_kinds_that_are_wanted(
    ana: Person, room: str, hook: HookReceiver
) -> None:
    await say(ana, room, "before")
    await add(ana, room, hook, kinds=["message.created"])
    (first, _) = await say(ana, room, "first", "second")
    await ana.call("DELETE", f"/api/conversations/{room}/messages/{first['message']}", expect=200)
    await say(ana, room, "third")
    assert [delivery.seq for delivery in await hook.took(3)] == [2, 3, 5]


async def test_events_come_in_order_though_many_are_sent_at_once(ana: Person, room: str, hook: HookReceiver) -> None:
    made = await add(ana, room, hook)
    async with ana.socket("/ws", room) as socket:
        for number in range(60):
            await socket.send("send", conversation=room, text=f"{number}")
        assert [delivery.seq for delivery in await hook.took(60)] == list(range(1, 61))
    ids = {delivery.id for delivery in hook.taken}
    assert len(ids) == len(hook.came) == 60
    view = await ana.call("GET", path(room, made["id"]), expect=200)
    assert (view["seq"], view["waiting"]) == (60, 0)


async def test_what_another_program_committed_is_sent_too(
    studio: RunningStudio, ana: Person, room: str, hook: HookReceiver
) -> None:
    """Nobody announces it: the look at the cursors finds it."""
    await add(ana, room, hook)
    studio.parts.queue.observers.remove(studio.parts.log_readers.note)
    await say(ana, room, "unheard")
    (delivery,) = await hook.took(1)
    assert delivery.text == "unheard"


def test_a_dead_process_is_taken_over_within_fifteen_seconds() -> None:
    from server.storage.log_cursors import LEASE_S

    assert LEASE_S + log_readers.LOOK_EVERY_S <= 15
    assert 2 * log_readers.RENEW_EVERY_S < LEASE_S


async def test_a_message_deleted_before_its_try_comes_without_its_text(
    ana: Person, room: str, hook: HookReceiver, studio: RunningStudio
) -> None:
    studio.parts.log_readers.policy = RetryPolicy(first_s=0.02, most_s=0.05, tries=1000)
    await add(ana, room, hook, kinds=["message.created"])
    hook.answer = lambda _: 500
    (said,) = await say(ana, room, "a secret")
    await hook.wait_for(lambda: len(hook.came) >= 2)
    await ana.call("DELETE", f"/api/conversations/{room}/messages/{said['message']}", expect=200)
    hook.answer = lambda _: 204
    (delivery,) = await hook.took(1)
    assert b"a secret" not in delivery.body
    assert delivery.payload["event"]["data"]["redacted"] is True


async def test_a_message_deleted_while_the_one_before_it_is_sent_comes_without_its_text(
    ana: Person, room: str, hook: HookReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery_turn, "FRESH_S", 0.0)
    hook.may_answer.clear()
    await add(ana, room, hook, kinds=["message.created"])
    async with ana.socket("/ws", room) as socket:
        for text in ("one", "a secret", "three"):
            await socket.send("send", conversation=room, text=text)
        second = [await socket.event("message.created") for _ in range(3)][1]
    await hook.wait_for(lambda: len(hook.came) == 1)
    await ana.call("DELETE", f"/api/conversations/{room}/messages/{second['data']['id']}", expect=200)
    hook.may_answer.set()
    assert [delivery.text for delivery in await hook.took(3)] == ["one", "", "three"]


async def test_messages_for_people_only_are_sent(ana: Person, room: str, hook: HookReceiver) -> None:
    """The mark keeps a message from models; a webhook is none, and the documentation says so."""
    await add(ana, room, hook)
    body = {"id": new_id(), "text": "between us", "people_only": True}
    await ana.call("POST", f"/api/conversations/{room}/messages", body, expect=201)
    (delivery,) = await hook.took(1)
    assert delivery.payload["event"]["data"]["people_only"] is True


# -- failures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [500, 404, 302, NO_ANSWER])
async def test_a_failed_delivery_is_tried_again_and_the_later_ones_wait(
    status: int, ana: Person, room: str, hook: HookReceiver
) -> None:
    made = await add(ana, room, hook)
    hook.answer = refusing("first", status, times=2)
    await say(ana, room, "first", "second")
    assert [delivery.text for delivery in await hook.took(2)] == ["first", "second"]
    assert [delivery.text for delivery in hook.came] == ["first", "first", "first", "second"]
    assert len({delivery.id for delivery in hook.came}) == 2
    shown = None if status in (302, NO_ANSWER) else status
    expected = [
        (1, 1, "retried", shown), (1, 2, "retried", shown), (1, 3, "delivered", 204), (2, 1, "delivered", 204),
    ]  # fmt: skip

    async def all_noted() -> bool:
        return len(await attempts(ana, room, made["id"])) == len(expected)

    await until(all_noted)
    assert await attempts(ana, room, made["id"]) == expected
    found = (await ana.call("GET", path(room, made["id"], "deliveries"), expect=200))["deliveries"]
    assert all("a-long-password" not in (delivery["detail"] or "") for delivery in found)


async def test_after_its_last_try_an_event_is_a_dead_letter_and_the_next_goes_on(
    studio: RunningStudio, ana: Person, room: str, hook: HookReceiver
) -> None:
    made = await add(ana, room, hook)
    hook.answer = refusing("poison")
    await say(ana, room, "poison", "fine")
    assert [delivery.text for delivery in await hook.took(1)] == ["fine"]
    assert [delivery.text for delivery in hook.came] == ["poison"] * 3 + ["fine"]
    (letter,) = await letters(studio)
    assert (letter["reader"], letter["target"], letter["conversation"]) == ("webhooks", made["id"], room)
    assert (letter["seq"], letter["kind"], letter["attempts"], letter["last_status"]) == (1, "message.created", 3, 500)
    assert letter["reason"] == "the receiver answered 500"
    assert letter["first_attempt_at"] <= letter["last_attempt_at"] <= letter["dead_at"]
    assert letter["retrying"] is False
    view = await ana.call("GET", path(room, made["id"]), expect=200)
    assert (view["dead_letters"], view["seq"], view["enabled"]) == (1, 2, True)


async def test_a_retried_dead_letter_arrives_under_its_old_id_and_is_gone(
    studio: RunningStudio, ana: Person, room: str, hook: HookReceiver
) -> None:
    await add(ana, room, hook)
    hook.answer = refusing("poison")
    (poison, _) = await say(ana, room, "poison", "fine")
    await hook.took(1)
    admin = await admin_of(studio)
    (letter,) = await letters(studio)
    await ana.call("DELETE", f"/api/conversations/{room}/messages/{poison['message']}", expect=200)
    retried = await admin.call("POST", f"/api/admin/dead-letters/{letter['id']}/retry", expect=200)
    assert retried["id"] == letter["id"]
    await hook.wait_for(lambda: any(delivery.seq == 1 for delivery in hook.taken))
    (late,) = [delivery for delivery in hook.taken if delivery.seq == 1]
    assert late.id == hook.came[0].id
    assert b"poison" not in late.body
    await until(lambda: empty(studio))
    await admin.call("POST", f"/api/admin/dead-letters/{letter['id']}/retry", expect=404)


async def test_a_dead_letter_that_fails_again_lies_there_again_and_holds_nobody_up(
    studio: RunningStudio, ana: Person, room: str, hook: HookReceiver
) -> None:
    await add(ana, room, hook)
    hook.answer = refusing("poison")
    await say(ana, room, "poison", "fine")
    await hook.took(1)
    admin = await admin_of(studio)
    assert await admin.call("POST", "/api/admin/dead-letters/retry", {"reader": "webhooks"}, expect=200) == {"count": 1}
    await hook.wait_for(lambda: [d.text for d in hook.came].count("poison") == 6)

    async def lies_there() -> bool:
        (letter,) = await letters(studio)
        return (letter["attempts"], letter["retrying"]) == (6, False)

    await until(lies_there)
    await say(ana, room, "later")
    assert [delivery.text for delivery in await hook.took(2)] == ["fine", "later"]
    (letter,) = await letters(studio)
    await admin.call("DELETE", f"/api/admin/dead-letters/{letter['id']}", expect=204)
    await admin.call("DELETE", f"/api/admin/dead-letters/{letter['id']}", expect=404)
    assert await letters(studio) == []


async def test_dead_letters_are_paged_filtered_and_deleted_together(
    studio: RunningStudio, ana: Person, room: str, hook: HookReceiver
) -> None:
    studio.parts.log_readers.policy = RetryPolicy(first_s=0.001, most_s=0.001, tries=1)
    other = await ana.room()
    await add(ana, room, hook)
    await add(ana, other, hook)
    hook.answer = lambda _: 400
    await say(ana, room, "1", "2", "3")
    await say(ana, other, "4")

    async def all_dead() -> bool:
        return len(await letters(studio)) == 4

    await until(all_dead)
    admin = await admin_of(studio)
    page = await admin.call("GET", "/api/admin/dead-letters?page=2&page_size=3", expect=200)
    assert (page["total"], page["total_pages"], len(page["dead_letters"])) == (4, 2, 1)
    for question, total in (
        (f"conversation={room}", 3), ("reader=webhooks", 4), ("reader=others", 0), ("conversation=x", 0),
    ):  # fmt: skip
        page = await admin.call("GET", f"/api/admin/dead-letters?{question}", expect=200)
        assert (question, page["total"]) == (question, total)
    assert await admin.call("POST", "/api/admin/dead-letters/delete", {"reader": "others"}) == {"count": 0}
    assert await admin.call("POST", "/api/admin/dead-letters/delete", {"reader": "webhooks"}) == {"count": 4}
    assert await letters(studio) == []


async def test_410_disables_the_webhook_and_nothing_is_lost(
    studio: RunningStudio, ana: Person, room: str, hook: HookReceiver
) -> None:
    made = await add(ana, room, hook)
    hook.answer = lambda _: 410
    await say(ana, room, "one", "two")

    async def is_disabled() -> bool:
        return not (await ana.call("GET", path(room, made["id"])))["enabled"]

    await until(is_disabled)
    assert len(hook.came) == 1
    view = await ana.call("GET", path(room, made["id"]))
    assert "410" in view["disabled_reason"]
    assert (view["seq"], view["waiting"], view["dead_letters"]) == (0, 2, 0)
    assert await attempts(ana, room, made["id"]) == [(1, 1, "gone", 410)]
    hook.answer = lambda _: 204
    view = await ana.call("PATCH", path(room, made["id"]), {"enabled": True}, expect=200)
    assert view["enabled"]
    assert view["disabled_reason"] is None
    assert [delivery.text for delivery in await hook.took(2)] == ["one", "two"]


async def test_what_was_missed_can_be_skipped(ana: Person, room: str, hook: HookReceiver) -> None:
    made = await add(ana, room, hook)
    view = await ana.call("PATCH", path(room, made["id"]), {"enabled": False}, expect=200)
    assert (view["enabled"], view["disabled_reason"]) == (False, "paused by hand")
    await say(ana, room, "missed")
    await ana.call("PATCH", path(room, made["id"]), {"enabled": True, "skip_missed": True}, expect=200)
    await say(ana, room, "heard")
    assert [delivery.text for delivery in await hook.took(1)] == ["heard"]


async def test_events_that_retention_took_first_are_not_passed_in_silence(
    studio: RunningStudio, ana: Person, room: str, hook: HookReceiver
) -> None:
    made = await add(ana, room, hook)
    await ana.call("PATCH", path(room, made["id"]), {"enabled": False}, expect=200)
    await say(ana, room, "one", "two", "three")
    await studio.parts.database.execute("UPDATE heads SET first_seq = 3 WHERE conversation = $1", room)
    await ana.call("PATCH", path(room, made["id"]), {"enabled": True}, expect=200)
    assert [delivery.text for delivery in await hook.took(1)] == ["three"]
    (letter,) = await letters(studio)
    assert letter["reason"] == "the events 1 to 2 left the log before they were delivered"
    assert (letter["seq"], letter["attempts"], letter["first_attempt_at"]) == (1, 0, None)
    await (await admin_of(studio)).call("POST", f"/api/admin/dead-letters/{letter['id']}/retry", expect=200)

    async def lies_there() -> bool:
        return [letter["retrying"] for letter in await letters(studio)] == [False]

    await until(lies_there)
    assert len(hook.came) == 1


async def test_days_of_failure_disable_the_webhook(
    studio: RunningStudio, ana: Person, room: str, hook: HookReceiver
) -> None:
    studio.parts.log_readers.policy = RetryPolicy(first_s=0.02, most_s=0.05, tries=1000, disable_after_s=0.2)
    made = await add(ana, room, hook)
    hook.answer = lambda _: 503
    await say(ana, room, "hello")

    async def is_disabled() -> bool:
        return not (await ana.call("GET", path(room, made["id"])))["enabled"]

    await until(is_disabled)
    view = await ana.call("GET", path(room, made["id"]))
    assert "nothing could be delivered" in view["disabled_reason"]
    assert "503" in view["disabled_reason"]


@pytest.mark.parametrize("status", [429, 503])
async def test_a_receiver_that_asks_for_patience_gets_it(
    status: int, studio: RunningStudio, ana: Person, room: str, hook: HookReceiver
) -> None:
    studio.parts.log_readers.policy = RetryPolicy(first_s=0.001, most_s=1800.0, tries=3)
    made = await add(ana, room, hook)
    hook.answer, hook.more = (lambda _: status), {"Retry-After": "1000000"}
    before = time.time()
    await say(ana, room, "hello")

    async def waits() -> bool:
        return bool((await ana.call("GET", path(room, made["id"])))["next_try_at"])

    await until(waits)
    waiting = await studio.parts.database.fetch_value("SELECT extract(epoch FROM next_at)::float8 FROM log_cursors")
    assert 1790 <= waiting - before <= 1830  # our own longest pause, not twelve days
    assert len(hook.came) == 1
    hook.answer = lambda _: 204
    await ana.call("PATCH", path(room, made["id"]), {"url": hook.url + "2"}, expect=200)  # a new address: tried at once
    await hook.took(1)


async def test_a_webhook_that_hangs_holds_up_no_other(ana: Person, room: str, hook: HookReceiver) -> None:
    async with hook_receiver() as other:
        hook.may_answer.clear()
        await add(ana, room, hook)
        await say(ana, room, "one")
        await hook.wait_for(lambda: len(hook.came) == 1)
        assert (await ana.call("POST", path(room), {"url": other.url}))["code"] == "rejected"
        second = await ana.room()
        await add(ana, second, hook)  # the same receiver hangs there too, and the room goes on
        await say(ana, second, "two")
        await hook.wait_for(lambda: len(hook.came) == 2)
        hook.may_answer.set()
        assert sorted(delivery.text for delivery in await hook.took(2)) == ["one", "two"]


# -- managing ---------------------------------------------------------------------------------------------------------


async def test_the_secret_is_shown_once_and_both_sign_while_it_is_changed(
    ana: Person, room: str, hook: HookReceiver
) -> None:
    check = documented_check()
    made = await add(ana, room, hook, description="a bot")
    assert made["secret"].startswith("whsec_")
    view = await ana.call("GET", path(room, made["id"]), expect=200)
    assert view == {name: value for name, value in made.items() if name != "secret"}
    assert (await ana.call("GET", path(room), expect=200)) == {"webhooks": [view]}
    renewed = await ana.call("POST", path(room, made["id"], "secret"), expect=201)
    assert renewed["secret"] != made["secret"]
    assert renewed["previous_secret_until"]
    await say(ana, room, "hello")
    (delivery,) = await hook.took(1)
    assert check(made["secret"], delivery.headers, delivery.body)
    assert check(renewed["secret"], delivery.headers, delivery.body)
    once_more = await ana.call("POST", path(room, made["id"], "secret"), expect=201)
    await say(ana, room, "again")
    delivery = (await hook.took(2))[1]
    assert check(once_more["secret"], delivery.headers, delivery.body)
    assert check(renewed["secret"], delivery.headers, delivery.body)
    assert not check(made["secret"], delivery.headers, delivery.body)


async def test_a_ping_is_sent_at_once_and_its_answer_told(ana: Person, room: str, hook: HookReceiver) -> None:
    made = await add(ana, room, hook)
    told = await ana.call("POST", path(room, made["id"], "test"), expect=200)
    assert (told["delivered"], told["status"], told["detail"]) == (True, 204, None)
    (ping,) = hook.taken
    assert (ping.payload["type"], ping.payload["event"]) == ("ping", None)
    assert documented_check()(made["secret"], ping.headers, ping.body)
    hook.answer = lambda _: 404
    told = await ana.call("POST", path(room, made["id"], "test"), expect=200)
    assert (told["delivered"], told["status"], told["detail"]) == (False, 404, "the receiver answered 404")
    hook.answer = lambda _: NO_ANSWER
    told = await ana.call("POST", path(room, made["id"], "test"), expect=200)
    assert (told["delivered"], told["status"]) == (False, None)
    assert "127.0.0.1" in told["detail"]
    assert "a-long-password" not in told["detail"]


async def test_addresses_that_may_not_be_called_are_not_stored(ana: Person, room: str, hook: HookReceiver) -> None:
    made = await add(ana, room, hook)
    for url in ("http://127.0.0.1:1/", "http://10.0.0.1/", "ftp://example.org/", "http://user:pw@example.org/", "x"):
        refused = await ana.call("POST", path(room), {"url": url}, expect=422)
        assert (url, refused["code"]) == (url, "rejected")
        await ana.call("PATCH", path(room, made["id"]), {"url": url}, expect=422)
    await ana.call("POST", path(room), {"url": hook.url, "kinds": ["message.sung"]}, expect=422)
    await ana.call("PATCH", path(room, made["id"]), {}, expect=422)
    assert (await ana.call("GET", path(room), expect=200))["webhooks"] == [
        {name: value for name, value in made.items() if name != "secret"}
    ]


async def test_a_conversation_has_ten_webhooks_at_most(ana: Person, room: str, hook: HookReceiver) -> None:
    for _ in range(10):
        await add(ana, room, hook)
    assert (await ana.call("POST", path(room), {"url": hook.url}, expect=409))["code"] == "conflict"


async def test_a_webhook_of_another_conversation_is_not_found(ana: Person, room: str, hook: HookReceiver) -> None:
    made, other = await add(ana, room, hook), await ana.room()
    for method, act in (
        ("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "test"), ("POST", "secret"), ("GET", "deliveries"),
    ):  # fmt: skip
        body = {"description": "mine"} if method == "PATCH" else None
        await ana.call(method, path(other, made["id"], act), body, expect=404)
    assert hook.came == []


async def test_a_deleted_webhook_is_called_no_more(
    studio: RunningStudio, ana: Person, room: str, hook: HookReceiver
) -> None:
    made = await add(ana, room, hook)
    hook.answer = refusing("poison")
    await say(ana, room, "poison", "fine")
    await hook.took(1)
    assert len(await letters(studio)) == 1
    await ana.call("DELETE", path(room, made["id"]), expect=204)
    assert await letters(studio) == []
    await add(ana, room, hook)
    await say(ana, room, "later")
    later = (await hook.took(2))[1]
    assert later.payload["webhook"] != made["id"]


@pytest.mark.parametrize("way", ["kicked", "left", "demoted", "disabled", "erased", "no_admin"])
async def test_a_webhook_is_paused_when_its_keeper_loses_the_right_to_it(
    way: str, studio: RunningStudio, ana: Person, room: str, hook: HookReceiver
) -> None:
    ben = await studio.person("ben", "admin")
    member, account = f"/api/conversations/{room}/members/{ben.id}", f"/api/admin/users/{ben.id}"
    await ana.call("PUT", member, {"role": "moderator"}, expect=201)
    made = await add(ben, room, hook, kinds=["message.created"])
    assert made["kept_by"] == ben.id
    await say(ana, room, "with ben")
    await hook.took(1)
    match way:
        case "kicked":
            await ana.call("DELETE", member, expect=204)
        case "left":
            await ben.call("POST", f"/api/conversations/{room}/leave", expect=204)
        case "demoted":
            await ana.call("PUT", member, {"role": "member"}, expect=200)
        case "disabled":
            await ana.call("PATCH", account, {"disabled": True}, expect=200)
        case "erased":
            await ana.call("DELETE", account)
        case "no_admin":
            await ana.call("PATCH", account, {"role": "member"}, expect=200)
    await say(ana, room, "without ben")

    async def is_paused() -> bool:
        return bool(await studio.parts.database.fetch_value("SELECT disabled_at IS NOT NULL FROM log_cursors"))

    await until(is_paused)
    assert [delivery.text for delivery in hook.came] == ["with ben"]
    view = await ana.call("GET", path(room, made["id"]), expect=200)
    assert view["enabled"] is False
    assert view["disabled_reason"] == (ADMINS_ONLY if way == "no_admin" else KEEPER_GONE)
    view = await ana.call("PATCH", path(room, made["id"]), {"enabled": True}, expect=200)
    assert (view["enabled"], view["kept_by"]) == (True, ana.id)
    assert [delivery.text for delivery in await hook.took(2)] == ["with ben", "without ben"]


async def test_that_its_keeper_is_gone_shows_before_anything_is_to_be_sent(
    studio: RunningStudio, ana: Person, room: str, hook: HookReceiver
) -> None:
    ben = await studio.person("ben", "admin")
    await ana.call("PUT", f"/api/conversations/{room}/members/{ben.id}", {"role": "moderator"}, expect=201)
    made = await add(ben, room, hook)
    await ana.call("PATCH", f"/api/admin/users/{ben.id}", {"disabled": True}, expect=200)
    view = await ana.call("GET", path(room, made["id"]), expect=200)
    assert (view["enabled"], view["disabled_reason"]) == (False, KEEPER_GONE)


async def test_only_admins_of_the_studio_send_to_what_the_operators_exception_opens(
    studio: RunningStudio, ana: Person, room: str, hook: HookReceiver
) -> None:
    ben = await studio.person("ben")
    await ana.call("PUT", f"/api/conversations/{room}/members/{ben.id}", {"role": "moderator"}, expect=201)
    refused = await ben.call("POST", path(room), {"url": hook.url}, expect=422)
    assert (refused["code"], refused["detail"]) == ("rejected", ADMINS_ONLY)
    own = await ben.call("POST", path(room), {"url": "https://hooks.invalid/ben"}, expect=201)
    await ben.call("PATCH", path(room, own["id"]), {"url": hook.url}, expect=422)
    admins = await add(ana, room, hook)
    await ben.call("PATCH", path(room, admins["id"]), {"url": hook.url + "/other"}, expect=422)
    await ben.call("PATCH", path(room, admins["id"]), {"description": "the robot"}, expect=200)
    await ben.call("PATCH", path(room, admins["id"]), {"enabled": False}, expect=200)
    await ben.call("PATCH", path(room, admins["id"]), {"enabled": True}, expect=422)
    assert (await ben.call("POST", path(room, admins["id"], "test"), expect=200))["delivered"]
    # The address was his before the operator opened it.
    await studio.parts.database.execute("UPDATE webhooks SET url = $2 WHERE id = $1", own["id"], hook.url)
    await ben.call("POST", path(room, own["id"], "test"), expect=422)
    assert len(hook.came) == 1


async def test_whoever_may_read_sees_that_programs_are_told(
    studio: RunningStudio, ana: Person, room: str, hook: HookReceiver
) -> None:
    ben = await studio.person("ben")
    await ana.call("PUT", f"/api/conversations/{room}/members/{ben.id}", {"role": "reader"}, expect=201)
    made = await add(ana, room, hook, description="the robot")
    hosts = f"/api/conversations/{room}/webhook-hosts"
    told = {"description": "the robot", "host": "127.0.0.1", "enabled": True}
    assert await ben.call("GET", hosts, expect=200) == {"webhooks": [told]}
    await ana.call("PATCH", path(room, made["id"]), {"enabled": False}, expect=200)
    assert await ben.call("GET", hosts, expect=200) == {"webhooks": [{**told, "enabled": False}]}
    await ben.call("GET", path(room), expect=403)


async def test_of_a_deleted_conversation_only_the_word_of_it_goes_out(
    studio: RunningStudio, ana: Person, room: str, hook: HookReceiver
) -> None:
    await add(ana, room, hook)
    await add(ana, room, hook, kinds=["message.created"])
    hook.answer = lambda _: 500
    await say(ana, room, "unsent")
    await hook.wait_for(lambda: len(hook.came) >= 2)
    # A try of what was said may be under way while the conversation goes: it stays unanswered, and has no next one.
    hook.answer = lambda delivery: 204 if delivery.payload["type"] == "conversation.deleted" else 500
    await ana.call("DELETE", f"/api/conversations/{room}", expect=204)
    (delivery,) = await hook.took(1)
    assert delivery.payload["type"] == "conversation.deleted"

    async def has_gone() -> bool:
        return bool(await studio.parts.database.fetch_value("SELECT count(*) = 0 FROM log_cursors"))

    await until(has_gone)
    assert await studio.parts.database.fetch_value("SELECT count(*) FROM webhooks") == 0


async def test_neither_secret_nor_address_is_logged(
    ana: Person, room: str, hook: HookReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    from loguru import logger

    lines: list[str] = []
    sink = logger.add(lines.append, level="TRACE")
    try:
        made = await add(ana, room, hook)
        hook.answer = refusing("first", NO_ANSWER, times=1)
        await say(ana, room, "first")
        await hook.took(1)
    finally:
        logger.remove(sink)
    logged = "".join(lines) + caplog.text
    assert made["secret"] not in logged
    assert "a-long-password" not in logged


async def empty(studio: RunningStudio) -> bool:
    return not await letters(studio)


async def test_metrics_tell_of_attempts_and_letters(
    studio: RunningStudio, ana: Person, room: str, hook: HookReceiver
) -> None:
    await add(ana, room, hook)
    hook.answer = refusing("poison")
    await say(ana, room, "poison", "fine")
    await hook.took(1)
    await studio.parts.log_readers.measure()
    page = (await ana.http.get("/metrics")).text
    assert 'chat_delivery_attempts_total{outcome="dead",reader="webhooks"}' in page
    assert 'chat_delivery_attempts_total{outcome="delivered",reader="webhooks"}' in page
    assert 'chat_dead_letters{reader="webhooks"} 1.0' in page
    assert 'chat_delivery_lag_events{reader="webhooks"}' in page
