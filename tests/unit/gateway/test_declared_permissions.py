"""Whatever a stranger can reach says what it takes: every route and every client frame has a permission."""

import inspect
import re
from typing import Any

import pytest

from server.gateway.dispatch import FRAMES
from server.gateway.routing import Route, Routes
from server.hub.permissions import STUDIO_WIDE, Permission
from server.protocol.frames import ClientFrame, Hello, client_frame_types
from tests.route_table import COLLECTIONS, MODULES, ROUTES, each_route

# What a stranger may ask for without a sign-in. A new one belongs here only after some thought.
OPEN_TO_ANYONE = {
    ("GET", "/api/auth/policy"),
    ("POST", "/api/auth/register"),
    ("POST", "/api/auth/login"),
    ("POST", "/api/auth/link"),
    ("POST", "/api/auth/token"),
    ("GET", "/openapi.json"),
    ("GET", "/asyncapi.json"),
    ("GET", "/docs"),
    ("GET", "/docs/style.css"),
}


@each_route
def test_a_route_declares_its_permission(route: Route) -> None:
    assert isinstance(route.permission, Permission)


@each_route
def test_a_permission_in_a_conversation_has_one_to_be_checked_in(route: Route) -> None:
    """And the other way round: what names a conversation or a run is never judged by the account alone."""
    names = set(re.findall(r"{(\w+)}", route.path))
    assert (route.permission not in STUDIO_WIDE) == bool(names & {"conversation", "run"})


@pytest.mark.parametrize("name", client_frame_types)
def test_a_frame_declares_its_permission(name: str) -> None:
    assert isinstance(FRAMES[client_frame_types[name]].permission, Permission)


def test_every_frame_type_is_known_to_the_codec_and_the_dispatcher() -> None:
    assert set(FRAMES) == set(client_frame_types.values()) == concrete_frames(ClientFrame)


def test_only_these_are_open_to_anyone() -> None:
    assert {(route.method, route.path) for route in ROUTES if route.permission is Permission.ANYONE} == OPEN_TO_ANYONE
    assert {frame for frame, handling in FRAMES.items() if handling.permission is Permission.ANYONE} == {Hello}


def test_a_route_without_a_permission_cannot_be_made() -> None:
    for verb in ("get", "post", "put", "patch", "delete"):
        parameter = inspect.signature(getattr(Routes, verb)).parameters["permission"]
        assert parameter.default is inspect.Parameter.empty
        add: Any = getattr(Routes(), verb)
        with pytest.raises(TypeError, match="permission"):
            add("/api/planted")


def test_a_planted_route_with_something_else_for_a_permission_is_noticed() -> None:
    routes = Routes()

    @routes.get("/api/planted", permission=None)  # type: ignore[arg-type]
    async def planted(call: object) -> None: ...

    assert [route for route in (*ROUTES, *routes) if not isinstance(route.permission, Permission)] == list(routes)


def test_every_file_of_routes_is_looked_at() -> None:
    assert len(COLLECTIONS) >= 7
    assert {module.__name__.rpartition(".")[2] for module in MODULES} >= {"auth", "conversations", "messages", "runs"}
    assert len({(route.method, route.path) for route in ROUTES}) == len(ROUTES)


def concrete_frames(base: type[ClientFrame]) -> set[type[ClientFrame]]:
    """Those at the ends of the tree; what stands between is a base."""
    found = set()
    for shape in base.__subclasses__():
        found |= concrete_frames(shape) if shape.__subclasses__() else {shape}
    return found
