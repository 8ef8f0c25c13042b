"""The socket interface as AsyncAPI 3.0, made from the frame types, the event types and the dispatcher's own table.

In:   nothing; the types are the source.
Out:  the document, as plain values. `receive` is what the studio takes from a client, `send` what it says.
"""

from collections.abc import Iterable
from typing import Any

from server import __version__
from server.gateway.dispatch import FRAMES
from server.gateway.documents.examples import example_of
from server.gateway.documents.openapi import SCHEMA_REF, Json, error_types
from server.gateway.identity import SESSION_COOKIE
from server.protocol.codec import json_schemas
from server.protocol.events import EventData, event_types
from server.protocol.frames import (
    MAX_FRAME_BYTES,
    SUBPROTOCOL,
    Ack,
    ClientFrame,
    ErrorFrame,
    Event,
    Hello,
    Ping,
    Pong,
    ServerFrame,
    Subscribe,
    Subscribed,
    Welcome,
    client_frame_types,
    server_frame_types,
)

CHANNELS: dict[str, Json] = {
    "all": {
        "address": "/ws",
        "title": "All conversations",
        "description": "Any number of conversations over one socket.",
    },
    "room": {
        "address": "/ws/room/{conversation}",
        "title": "One conversation",
        "description": "Subscribed from the head to this conversation; frames may leave out `conversation`.",
        "parameters": {"conversation": {"description": "id of a conversation that the caller may read"}},
    },
    "private": {
        "address": "/ws/private/{user}",
        "title": "The private chat with one person",
        "description": "Opened if new, and subscribed from the head; frames may leave out `conversation`.",
        "parameters": {"user": {"description": "id of the other person"}},
    },
}

# code: (what happened, whether the client should come back)
CLOSE_CODES: dict[int, tuple[str, bool]] = {
    1002: ("protocol fault", False),
    1003: ("a binary frame; frames are text", False),
    1007: ("a text frame that is no UTF-8", False),
    1009: (f"a frame above {MAX_FRAME_BYTES} bytes", False),
    1011: ("something broke on our side", True),
    1012: ("this server is about to stop", True),
    1013: ("overloaded, or the database cannot be reached", True),
    4008: ("too slow for too long", True),
    4012: ("no sign of life for 40 s", True),
    4013: ("too many frames at once", True),
    4014: ("rights have changed", True),
    4500: ("the session has ended", False),
    4501: ("20 bad frames within a minute", False),
    4502: ("no `hello` with a valid ticket within 10 s", False),
    4503: ("the account was removed", False),
    4504: ("too many connections", False),
    4507: ("no such conversation for this person", False),
}

ABOUT = (
    f"Subprotocol `{SUBPROTOCOL}`: text frames, one JSON object each, at most {MAX_FRAME_BYTES} bytes. A frame with "
    "an `id` gets exactly one `ack`, `subscribed`, `pong` or `error` that carries it. Clients ignore frame types, "
    "event kinds and fields they do not know."
)
SECURITY_SCHEMES: dict[str, Json] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "programs: `Authorization` at the handshake"},
    "session": {
        "type": "httpApiKey",
        "in": "cookie",
        "name": SESSION_COOKIE,
        "description": "browsers: the cookie, with the studio's own `Origin`",
    },
}


def asyncapi_document() -> Json:
    shapes = [*client_frame_types.values(), *server_frame_types, *event_types.values()]
    schemas, components = json_schemas(shapes, SCHEMA_REF)
    schema_of = dict(zip(shapes, schemas, strict=True))
    components["Event"]["properties"]["kind"] = {"enum": list(event_types)}
    components["Event"]["properties"]["data"] = {"anyOf": [schema_of[kind] for kind in event_types.values()]}
    components["ErrorFrame"]["properties"]["code"] = {"enum": [error.code for error in error_types()]}
    messages = {
        **{_name(frame): _message(frame, schema_of[frame]) for frame in client_frame_types.values()},
        **{_name(frame): _message(frame, schema_of[frame]) for frame in server_frame_types if frame is not Event},
        **{_event_name(kind): _event(kind, schema_of) for kind in event_types},
    }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Chat Studio sockets",
            "version": __version__,
            "description": ABOUT,
            "license": {"name": "MIT"},
        },
        "defaultContentType": "application/json",
        "channels": {name: _channel(channel, messages) for name, channel in CHANNELS.items()},
        "operations": {key: value for channel in CHANNELS for key, value in _operations(channel)},
        "components": {
            "schemas": components,
            "messages": messages,
            "securitySchemes": SECURITY_SCHEMES,
        },
        "x-close-codes": [
            {"code": code, "description": words, "come_back": is_passing}
            for code, (words, is_passing) in CLOSE_CODES.items()
        ],
    }


def _name(frame: type[ClientFrame] | type[ServerFrame]) -> str:
    """A client and a server frame may have the same type, such as `typing`."""
    side = "client" if issubclass(frame, ClientFrame) else "server"
    return f"{side}.{frame.__struct_config__.tag}"


def _event_name(kind: str) -> str:
    return f"event.{kind}"


def _message(frame: type[ClientFrame] | type[ServerFrame], schema: Json) -> Json:
    tag = str(frame.__struct_config__.tag)
    return {
        "name": tag,
        "title": tag,
        "summary": _summary(frame),
        "payload": schema,
        "examples": [{"name": tag, "payload": example_of(frame)}],
    }


def _event(kind: str, schema_of: dict[Any, Json]) -> Json:
    data = event_types[kind]
    narrowed = {"properties": {"kind": {"const": kind}, "data": schema_of[data]}}
    example = {**example_of(Event), "kind": kind, "data": example_of(data)}
    return {
        "name": kind,
        "title": kind,
        "summary": _summary(data),
        "payload": {"allOf": [schema_of[Event], narrowed]},
        "examples": [{"name": kind, "payload": example}],
    }


def _summary(shape: type[ClientFrame] | type[ServerFrame] | type[EventData]) -> str:
    return " ".join((shape.__doc__ or "").split())


def _channel(channel: Json, messages: Iterable[str]) -> Json:
    return {
        **channel,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
        "bindings": {"ws": {"method": "GET", "bindingVersion": "0.1.0"}},
    }


def _operations(channel: str) -> Iterable[tuple[str, Json]]:
    here = {"$ref": f"#/channels/{channel}"}
    security = [{"$ref": "#/components/securitySchemes/bearer"}, {"$ref": "#/components/securitySchemes/session"}]
    for frame in client_frame_types.values():
        operation: Json = {
            "action": "receive",
            "channel": here,
            "summary": _summary(frame),
            "messages": [_in_channel(channel, _name(frame))],
            "x-permission": FRAMES[frame].permission.value,
        }
        if frame is not Hello:
            operation["security"] = security
        if answers := _answers(frame):
            operation["reply"] = {
                "channel": here,
                "messages": [_in_channel(channel, _name(answer)) for answer in answers],
            }
        yield f"{channel}.receive.{frame.__struct_config__.tag}", operation
    for told in server_frame_types:
        names = [_event_name(kind) for kind in event_types] if told is Event else [_name(told)]
        yield (
            f"{channel}.send.{told.__struct_config__.tag}",
            {
                "action": "send",
                "channel": here,
                "summary": _summary(told),
                "messages": [_in_channel(channel, name) for name in names],
            },
        )


def _answers(frame: type[ClientFrame]) -> list[type[ServerFrame]]:
    """What comes back to this very frame; a frame that has no `id` hears only of its own errors, without one."""
    if frame is Hello:
        return [Welcome]
    if "id" not in frame.__struct_fields__:
        return []
    if frame is Subscribe:
        return [Subscribed, ErrorFrame]
    return [Pong if frame is Ping else Ack, ErrorFrame]


def _in_channel(channel: str, message: str) -> Json:
    return {"$ref": f"#/channels/{channel}/messages/{message}"}
