"""The table of rights, written down a second time, by hand, the way a person would explain it."""

from itertools import product

import pytest

from server.hub.permissions import ROLES_ALLOWED, STUDIO_WIDE, Permission, may_read, refusal, studio_refusal
from server.protocol.errors import ChatError, Forbidden, NotFound, Unauthenticated
from server.storage.conversations import PROMPT_ROLES
from server.storage.standings import Standing

# Columns: owner, moderator, member, reader, somebody who reads a public room without being in it.
# `own` stands for: only what they wrote themselves.
IN_A_ROOM = """
    read                 yes  yes  yes  yes  yes
    react                yes  yes  yes  yes  no
    send                 yes  yes  yes  no   no
    edit                 own  own  own  no   no
    delete               yes  yes  own  no   no
    pin                  yes  yes  no   no   no
    run                  yes  yes  yes  no   no
    stop                 yes  yes  yes  no   no
    steer                yes  yes  yes  no   no
    decide               yes  yes  no   no   no
    join                 yes  yes  yes  yes  yes
    leave                yes  yes  yes  yes  no
    invite               yes  yes  no   no   no
    kick                 yes  yes  no   no   no
    set_role             yes  no   no   no   no
    change_settings      yes  yes  no   no   no
    set_retention        yes  no   no   no   no
    delete_conversation  yes  no   no   no   no
    manage_webhooks      yes  yes  no   no   no
"""
ROLES = ("owner", "moderator", "member", "reader", None)
TABLE = {
    (Permission(name), role): word
    for name, *words in (line.split() for line in IN_A_ROOM.strip().splitlines())
    for role, word in zip(ROLES, words, strict=True)
}
IN_CONVERSATIONS = [permission for permission in Permission if permission not in STUDIO_WIDE]


def test_the_table_is_whole() -> None:
    assert {permission for permission, _ in TABLE} == set(IN_CONVERSATIONS) == set(ROLES_ALLOWED)


@pytest.mark.parametrize(("permission", "role"), TABLE)
def test_a_role_may_do_what_the_table_says(permission: Permission, role: str | None) -> None:
    for is_own in (False, True):
        standing = Standing("room", "public", role, "member", is_own=is_own)
        is_allowed = TABLE[permission, role] == "yes" or (TABLE[permission, role] == "own" and is_own)
        assert type(refusal(permission, standing)) is (type(None) if is_allowed else Forbidden)


@pytest.mark.parametrize("permission", IN_CONVERSATIONS)
def test_a_stranger_never_learns_that_a_private_room_exists(permission: Permission) -> None:
    for account_role, is_own in product(("admin", "member", "guest"), (False, True)):
        standing = Standing("room", "private", None, account_role, is_own=is_own)
        assert isinstance(refusal(permission, standing), NotFound)


@pytest.mark.parametrize("permission", IN_CONVERSATIONS)
def test_a_guest_is_a_stranger_to_public_rooms_too(permission: Permission) -> None:
    assert isinstance(refusal(permission, Standing("room", "public", None, "guest")), NotFound)
    assert isinstance(refusal(permission, Standing("room", "public", None, None)), NotFound)


def test_an_invited_guest_is_a_member_like_others() -> None:
    assert refusal(Permission.SEND, Standing("room", "private", "member", "guest")) is None


def test_an_admin_of_the_studio_says_how_long_things_are_kept_where_they_may_read() -> None:
    for role, visibility in ((None, "public"), ("member", "private"), ("reader", "public")):
        assert refusal(Permission.SET_RETENTION, Standing("room", visibility, role, "admin")) is None
    assert isinstance(refusal(Permission.SET_RETENTION, Standing("room", "private", None, "admin")), NotFound)
    assert isinstance(refusal(Permission.SET_RETENTION, Standing("private", "private", "member", "admin")), Forbidden)


def test_an_admin_of_the_studio_reads_no_private_conversations() -> None:
    for kind in ("room", "private", "assistant"):
        assert not may_read(Standing(kind, "private", None, "admin"))


def test_a_room_in_which_one_is_a_member_is_readable_whatever_it_is() -> None:
    for kind, visibility, role in product(("room", "private", "assistant"), ("public", "private"), ROLES[:4]):
        assert may_read(Standing(kind, visibility, role, "guest"))


def test_both_sides_of_a_private_chat_are_equal() -> None:
    allowed = {
        permission
        for permission in IN_CONVERSATIONS
        if refusal(permission, Standing("private", "private", "member", is_own=True)) is None
    }
    assert allowed == set(IN_CONVERSATIONS) - {
        Permission.LEAVE,
        Permission.INVITE,
        Permission.KICK,
        Permission.SET_ROLE,
        Permission.CHANGE_SETTINGS,
        Permission.SET_RETENTION,
        Permission.MANAGE_WEBHOOKS,
        Permission.DECIDE,
    }
    of_owner = {
        permission
        for permission in IN_CONVERSATIONS
        if refusal(permission, Standing("private", "private", "owner", is_own=True)) is None
    }
    assert of_owner - allowed <= {Permission.DECIDE}


def test_a_block_ends_what_would_reach_the_other_side_and_nothing_else() -> None:
    sides = {
        "by me": Standing("private", "private", "member", is_own=True, blocks_peer=True),
        "by them": Standing("private", "private", "member", is_own=True, blocked_by_peer=True),
    }
    free = Standing("private", "private", "member", is_own=True)
    allowed = {permission for permission in IN_CONVERSATIONS if refusal(permission, free) is None}
    for standing in sides.values():
        refused = {permission for permission in allowed if isinstance(refusal(permission, standing), Forbidden)}
        assert refused == {
            Permission.SEND, Permission.EDIT, Permission.REACT, Permission.PIN, Permission.RUN, Permission.STEER,
        }  # fmt: skip
    texts = {name: str(refusal(Permission.SEND, standing)) for name, standing in sides.items()}
    assert "unblock" in texts["by me"]
    assert "block" not in texts["by them"]


def test_who_is_blocked_and_blocks_is_told_of_their_own_block() -> None:
    both = Standing("private", "private", "member", blocks_peer=True, blocked_by_peer=True)
    assert "unblock" in str(refusal(Permission.SEND, both))


def test_who_may_change_the_system_prompt_and_nobody_else_reads_it() -> None:
    assert set(PROMPT_ROLES) == ROLES_ALLOWED[Permission.CHANGE_SETTINGS]


def test_in_a_private_chat_nobody_touches_the_messages_of_the_other() -> None:
    other = Standing("private", "private", "member", is_own=False)
    assert isinstance(refusal(Permission.DELETE, other), Forbidden)
    assert isinstance(refusal(Permission.EDIT, other), Forbidden)


def test_a_moderator_removes_no_owner() -> None:
    by_role = {
        (role, subject): refusal(Permission.KICK, Standing("room", "private", role, subject_role=subject))
        for role, subject in product(("owner", "moderator"), ROLES[:4])
    }
    assert [pair for pair, error in by_role.items() if error is not None] == [("moderator", "owner")]


@pytest.mark.parametrize(
    ("permission", "refused"),
    [
        (Permission.ANYONE, {}),
        (Permission.SIGNED_IN, {None: Unauthenticated}),
        (Permission.STUDIO_MEMBER, {None: Unauthenticated, "guest": Forbidden}),
        (Permission.ADMIN, {None: Unauthenticated, "guest": Forbidden, "member": Forbidden}),
    ],
)
def test_studio_wide_rights_go_by_the_account(
    permission: Permission, refused: dict[str | None, type[ChatError]]
) -> None:
    answers = {role: studio_refusal(permission, role) for role in (None, "guest", "member", "admin")}
    assert {role: type(error) for role, error in answers.items() if error is not None} == refused


def test_every_permission_is_of_one_kind() -> None:
    assert set(Permission) == STUDIO_WIDE | set(ROLES_ALLOWED)
    assert not STUDIO_WIDE & set(ROLES_ALLOWED)
