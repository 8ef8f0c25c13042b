"""Every route and every frame that concerns a conversation, for every role and every stranger.

What the table of rights says of its permission is what the design says of the act.
"""

import pytest

from server.gateway.dispatch import FRAMES
from server.hub.permissions import STUDIO_WIDE, Permission, refusal
from server.protocol.errors import Forbidden, NotFound
from server.protocol.frames import client_frame_types
from server.storage.standings import Standing
from tests.permission_table import (
    BLOCKED_ROWS,
    FRAME_ROWS,
    HTTP_ROWS,
    PRIVATE_CHAT_ROWS,
    ROLES,
    WITHOUT_A_CONVERSATION,
    Row,
)
from tests.route_table import ROUTES

PERMISSIONS = {(route.method, route.path): route.permission for route in ROUTES}
ROWS = [*HTTP_ROWS, *(row for row in FRAME_ROWS if row.frame not in WITHOUT_A_CONVERSATION)]
each_row = pytest.mark.parametrize("row", ROWS, ids=str)


def permission_of(row: Row) -> Permission:
    if row.method:
        return PERMISSIONS[row.method, row.path]
    return FRAMES[client_frame_types[row.frame]].permission


def test_the_table_has_every_route_and_every_frame_that_concerns_a_conversation() -> None:
    assert {(row.method, row.path) for row in HTTP_ROWS} == {
        (route.method, route.path) for route in ROUTES if route.permission not in STUDIO_WIDE
    }
    assert {row.frame for row in FRAME_ROWS} == client_frame_types.keys() - {"hello"}
    for row in FRAME_ROWS:
        assert (permission_of(row) in STUDIO_WIDE) == (row.frame in WITHOUT_A_CONVERSATION)
    assert all(len(row.words) == len(ROLES) for row in (*HTTP_ROWS, *FRAME_ROWS))


@each_row
@pytest.mark.parametrize("role", ROLES)
def test_a_role(row: Row, role: str) -> None:
    word = dict(zip(ROLES, row.words, strict=True))[role]
    is_own = ":own" in row.act
    standing = Standing("room", "public", None if role == "visitor" else role, "member", is_own=is_own)
    error = refusal(permission_of(row), standing)
    if word in ("yes", "none"):
        assert error is None
    elif not row.is_judged_later:
        assert isinstance(error, Forbidden)


@each_row
def test_strangers(row: Row) -> None:
    for visibility, account_role in (
        ("private", "member"), ("private", "admin"), ("private", "guest"), ("public", "guest"), ("public", None),
    ):  # fmt: skip
        standing = Standing("room", visibility, None, account_role, is_own=True)
        assert isinstance(refusal(permission_of(row), standing), NotFound)


@pytest.mark.parametrize("row", PRIVATE_CHAT_ROWS, ids=str)
def test_a_side_of_a_private_chat(row: Row) -> None:
    error = refusal(permission_of(row), Standing("private", "private", "member", "member", is_own=":own" in row.act))
    if row.words == ("yes",):
        assert error is None
    elif not row.is_judged_later:
        assert isinstance(error, Forbidden)


@pytest.mark.parametrize("row", BLOCKED_ROWS, ids=str)
def test_behind_a_block(row: Row) -> None:
    for word, blocks in zip(row.words, (True, False), strict=True):
        standing = Standing(
            "private", "private", "member", "member", is_own=True, blocks_peer=blocks, blocked_by_peer=not blocks
        )
        error = refusal(permission_of(row), standing)
        assert type(error) is (type(None) if word == "yes" else Forbidden)
