"""Whoever has lost the right gets nothing more, on open sockets too, by whichever path the right was lost."""

from collections.abc import Awaitable, Callable

import pytest

from server.bus.memory_bus import MemoryBus
from server.hub import grant_watch
from server.protocol.ids import new_id
from tests.running_studio import PASSWORD, Person, RunningStudio

NEW_PASSWORD = "another horse, another battery"
Act = Callable[[RunningStudio, Person, Person], Awaitable[None]]


async def logout(studio: RunningStudio, admin: Person, ben: Person) -> None:
    await ben.call("POST", "/api/auth/logout", expect=204)


async def password_changed_elsewhere(studio: RunningStudio, admin: Person, ben: Person) -> None:
    other = Person(studio.port, ben.id, ben.name)
    async with other:
        await other.sign_in()
        body = {"current_password": PASSWORD, "new_password": NEW_PASSWORD}
        await other.call("POST", "/api/auth/password", body, expect=204)


async def session_ended_elsewhere(studio: RunningStudio, admin: Person, ben: Person) -> None:
    other = Person(studio.port, ben.id, ben.name)
    async with other:
        await other.sign_in()
        await other.call("DELETE", "/api/auth/sessions", expect=204)


async def account_disabled(studio: RunningStudio, admin: Person, ben: Person) -> None:
    await admin.call("PATCH", f"/api/admin/users/{ben.id}", {"disabled": True}, expect=200)


async def role_changed(studio: RunningStudio, admin: Person, ben: Person) -> None:
    await admin.call("PATCH", f"/api/admin/users/{ben.id}", {"role": "guest"}, expect=200)


async def grant_gone_without_a_word(studio: RunningStudio, admin: Person, ben: Person) -> None:
    """As when the node that ended it died before it could say so."""
    await studio.parts.database.execute("DELETE FROM grants WHERE user_id = $1", ben.id)


async def session_expired(studio: RunningStudio, admin: Person, ben: Person) -> None:
    await studio.parts.database.execute(
        "UPDATE tokens SET expires_at = now() - interval '1 second' "
        "WHERE grant_id IN (SELECT id FROM grants WHERE user_id = $1)",
        ben.id,
    )


ENDED, CHANGED = 4500, 4014


@pytest.mark.parametrize("is_bus_deaf", [False, True], ids=["told", "untold"])
@pytest.mark.parametrize(
    ("act", "code"),
    [
        (logout, ENDED),
        (password_changed_elsewhere, ENDED),
        (session_ended_elsewhere, ENDED),
        (account_disabled, ENDED),
        (role_changed, CHANGED),
        (grant_gone_without_a_word, ENDED),
        (session_expired, ENDED),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
async def test_a_lost_sign_in_ends_its_sockets(
    studio: RunningStudio, monkeypatch: pytest.MonkeyPatch, act: Act, code: int, is_bus_deaf: bool
) -> None:
    """With a deaf bus nobody hears of it, and the watch finds out."""
    admin, ben = await studio.person("ana", "admin"), await studio.person("ben")
    room = await admin.room(members=[ben.id])
    async with ben.socket("/ws", room) as socket, admin.socket("/ws", room) as hers:
        if is_bus_deaf:
            monkeypatch.setattr(MemoryBus, "publish", lambda *_: None)
        await act(studio, admin, ben)
        if is_bus_deaf or act in (grant_gone_without_a_word, session_expired):
            await studio.parts.grant_watch.check()
        assert await socket.closed() == code
        await hers.settle()
        assert not hers.connection.close_code


@pytest.mark.parametrize("way", ["kick", "leave", "delete", "close the door"])
async def test_who_is_no_member_any_more_hears_nothing_that_comes_after(studio: RunningStudio, way: str) -> None:
    ana, ben = await studio.person("ana"), await studio.person("ben")
    is_public = way == "close the door"
    room = await ana.room(members=[] if is_public else [ben.id], visibility="public" if is_public else "private")
    async with ana.socket("/ws", room) as hers, ben.socket("/ws", room) as his:
        await hers.say(room, "before")
        await his.event("message.created")
        match way:
            case "kick":
                await ana.call("DELETE", f"/api/conversations/{room}/members/{ben.id}", expect=204)
                await ben.call("POST", f"/api/conversations/{room}/join", expect=404)
            case "leave":
                await ben.call("POST", f"/api/conversations/{room}/leave", expect=204)
            case "delete":
                await ana.call("DELETE", f"/api/conversations/{room}", expect=204)
            case "close the door":
                await ana.call("PATCH", f"/api/conversations/{room}", {"visibility": "private"}, expect=200)
        removed = await his.wait_for(lambda frame: frame["type"] == "conversation.removed")
        assert removed["conversation"] == room
        if way != "delete":
            await hers.say(room, "after")
            await hers.settle()
        await his.settle()
        assert sum(frame["type"] == "conversation.removed" for frame in his.seen) == 1
        texts = [event["data"].get("text") for event in his.events(room)]
        assert "after" not in texts
        answer = await his.ask("send", conversation=room, text="let me in", id=new_id())
        assert (answer["type"], answer["code"]) == ("error", "not_found")


def test_a_lost_sign_in_is_found_within_ten_seconds() -> None:
    assert grant_watch.ASK_EVERY_S <= 5.0
