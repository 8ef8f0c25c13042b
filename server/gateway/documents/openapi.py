"""The HTTP interface as OpenAPI 3.1, made from the same `Route` objects that answer.

In:   every route of the studio.
Out:  the document, as plain values.

Nothing is written twice: a route's method, path, permission and shapes are read from the route, its words from the
docstrings of its handler and file, the errors from their closed list. spectree was tried for this and left: it learns
of routes by wrapping handlers in a validation of its own, gives every answer the media type application/json, though
problems have another, copies nested shapes once a parent, and refuses shapes with free-form JSON in them. What it would
have added to msgspec's schemas is this file.
"""

import re
import sys
from collections.abc import Iterable, Iterator
from inspect import getdoc, isclass
from typing import Any, get_type_hints

import msgspec
from msgspec import UNSET, UnsetType
from starlette.responses import Response

from server import __version__
from server.gateway.documents.examples import example_of, problem_example
from server.gateway.identity import SESSION_COOKIE
from server.gateway.routing import Route
from server.hub.permissions import (
    IN_PRIVATE_CHATS,
    REFUSED_BEHIND_A_BLOCK,
    ROLES_ALLOWED,
    STUDIO_WIDE,
    Permission,
)
from server.protocol.codec import json_schemas
from server.protocol.errors import ChatError
from server.protocol.events import event_types
from server.protocol.frames import FrameId

Json = dict[str, Any]

SCHEMA_REF = "#/components/schemas/{name}"
PROBLEM_JSON = "application/problem+json"
UNSAFE = frozenset({"POST", "PUT", "PATCH", "DELETE"})
OPEN = frozenset({Permission.ANYONE, Permission.SIGNED_IN})  # nobody who is signed in is refused
SECURITY_SCHEMES: dict[str, Json] = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "for programs: an access token from `POST /api/auth/token`",
    },
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": SESSION_COOKIE,
        "description": "for browsers: set at sign-in",
    },
}
# What answers beside the route table: operators ask here, without a sign-in.
FOR_OPERATORS = {
    "/healthz": ("The process lives and its event loop turns", "application/json", {"200": "it does"}),
    "/readyz": (
        "Whether new people should be sent here, and if not, why",
        "application/json",
        {"200": "yes", "503": "no, and why"},
    ),
    "/metrics": ("Figures for Prometheus", "text/plain", {"200": "in the text format"}),
}
PATH_PARAMETERS = {
    "conversation": "id of the conversation",
    "message": "id of the message",
    "user": "id of the person",
    "run": "id of the answer of a model",
    "session": "id of the sign-in",
    "webhook": "id of the webhook",
    "letter": "id of the dead letter",
    "emoji": "the emoji itself, percent-encoded",
}


ABOUT = (
    "Rooms in which people and AI models talk. The socket interface is described by `/asyncapi.json`, both for "
    "people at `/docs`. Times are RFC 3339 in UTC, ids are UUIDv7. What is missing and what belongs to somebody "
    "else both answer 404."
)


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """Problem details (RFC 9457). `code` never changes; `detail` is for the person who called; the same `request_id`
    stands in the server's log."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    retryable: bool
    request_id: str | None
    retry_after_s: float | UnsetType = UNSET


def openapi_document(routes: Iterable[Route]) -> Json:
    routes = list(routes)
    shapes = _Shapes(routes)
    paths: dict[str, Json] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, shapes)
    for path, (summary, media_type, answers) in FOR_OPERATORS.items():
        paths[path] = {"get": _for_operators(path, summary, media_type, answers)}
    return {
        "openapi": "3.1.1",
        "info": {
            "title": "Chat Studio",
            "version": __version__,
            "description": ABOUT,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/", "description": "this studio"}],
        "security": [{"bearer": []}, {"session": []}],
        "tags": [*_tags(routes), {"name": "operation", "description": "What operators and their machines ask."}],
        "paths": paths,
        "components": {
            "schemas": shapes.components,
            "responses": dict(_problem_responses()),
            "securitySchemes": SECURITY_SCHEMES,
        },
        "x-permissions": permissions_table(),
    }


def error_types() -> list[type[ChatError]]:
    """One class a code: where one refines another under the same code, the broader."""
    found: dict[str, type[ChatError]] = {}
    waiting = list(ChatError.__subclasses__())
    while waiting:
        shape = waiting.pop(0)
        if "code" in vars(shape) and shape.__module__ == ChatError.__module__:  # the closed list, not a client's own
            found.setdefault(shape.code, shape)
        waiting.extend(shape.__subclasses__())
    return sorted(found.values(), key=lambda error: (error.status, error.code))


def permissions_table() -> dict[str, Json]:
    """Who may what, as the table of rights says."""
    table: dict[str, Json] = {}
    for permission in Permission:
        if permission in STUDIO_WIDE:
            table[permission.value] = {"scope": "studio"}
            continue
        table[permission.value] = {"scope": "conversation", "roles": sorted(ROLES_ALLOWED[permission])}
        if permission in IN_PRIVATE_CHATS:
            table[permission.value]["roles_in_private_chats"] = sorted(IN_PRIVATE_CHATS[permission])
        table[permission.value]["refused_behind_a_block"] = permission in REFUSED_BEHIND_A_BLOCK
    return table


def takes_idempotency_key(route: Route) -> bool:
    """The acts that end in the log: over HTTP the header stands in for the frame's `id`, unless the body has one."""
    is_act = route.handler.__module__.rpartition(".")[2] in ("messages", "runs") and route.method in UNSAFE
    return is_act and not route.path.endswith("/read") and "id" not in getattr(route.body, "__struct_fields__", ())


class _Shapes:
    """The schemas of everything that routes take and give."""

    def __init__(self, routes: list[Route]) -> None:
        self._queries = {route.query for route in routes if route.query is not None}
        wanted = {shape for route in routes for shape in (route.body, route.answer, route.query) if shape is not None}
        ordered = [Problem, *sorted(wanted, key=str), *event_types.values()]
        schemas, self.components = json_schemas(ordered, SCHEMA_REF)
        self._schemas = dict(zip(ordered, schemas, strict=True))
        self.components["Problem"]["properties"]["code"] = {"enum": [error.code for error in error_types()]}
        if "Event" in self.components:
            self.components["Event"]["properties"]["data"] = {
                "anyOf": [self._schemas[kind] for kind in event_types.values()]
            }
            self.components["Event"]["properties"]["kind"] = {"enum": list(event_types)}
        self._parameters = {query: self._query_parameters(query) for query in self._queries}

    def of(self, shape: type) -> Json:
        return self._schemas[shape]

    def parameters_of(self, query: type) -> list[Json]:
        return self._parameters[query]

    def _query_parameters(self, query: type) -> list[Json]:
        schema = self.components.pop(self._schemas[query]["$ref"].rpartition("/")[2])
        return [
            {"name": name, "in": "query", "required": name in schema["required"], "schema": described}
            for name, described in schema["properties"].items()
        ]


def _operation(route: Route, shapes: _Shapes) -> Json:
    summary, description = _words(route)
    operation: Json = {
        "operationId": f"{_tag(route)}_{route.handler.__name__}",
        "tags": [_tag(route)],
        "summary": summary,
        "x-permission": route.permission.value,
        "responses": {str(200 if _is_raw(route) else route.status): _answer(route, shapes)},
    }
    if description:
        operation["description"] = description
    parameters = list(_parameters(route, shapes))
    if parameters:
        operation["parameters"] = parameters
    if route.body is not None:
        media_type = "application/x-www-form-urlencoded" if route.form else "application/json"
        content = {"schema": shapes.of(route.body), "example": example_of(route.body)}
        operation["requestBody"] = {"required": _needs_body(route.body), "content": {media_type: content}}
    if route.permission is Permission.ANYONE:
        operation["security"] = []
    for other, words in (("200", "it was there already"), ("201", "made")):
        # Its words tell that it may answer either; the shape is the same.
        if other in f"{summary} {description}" and other not in operation["responses"]:
            operation["responses"][other] = {**_answer(route, shapes), "description": words}
    for status in sorted(_error_statuses(route)):
        operation["responses"][str(status)] = {"$ref": f"#/components/responses/Problem{status}"}
    return operation


def _parameters(route: Route, shapes: _Shapes) -> Iterator[Json]:
    for name in re.findall(r"{(\w+)}", route.path):
        schema: Json = {"type": "string"} if name == "emoji" else {"type": "string", "format": "uuid"}
        yield {"name": name, "in": "path", "required": True, "description": PATH_PARAMETERS[name], "schema": schema}
    if route.query is not None:
        yield from shapes.parameters_of(route.query)
    if takes_idempotency_key(route):
        (schema,), _ = json_schemas([FrameId], SCHEMA_REF)
        description = "like the `id` of a frame: a repeat with the same key is answered, not done again"
        yield {
            "name": "Idempotency-Key",
            "in": "header",
            "required": False,
            "description": description,
            "schema": schema,
        }


def _answer(route: Route, shapes: _Shapes) -> Json:
    if _is_raw(route):
        return {"description": "as asked", "content": {_returned(route).media_type or "application/octet-stream": {}}}
    if route.answer is None:
        return {"description": "done"}
    content = {"schema": shapes.of(route.answer), "example": example_of(route.answer)}
    return {"description": "made" if route.status == 201 else "as asked", "content": {"application/json": content}}


def _is_raw(route: Route) -> bool:
    """Whether the handler writes the answer itself; its class then tells the media type."""
    returned = _returned(route)
    return isclass(returned) and issubclass(returned, Response)


def _returned(route: Route) -> Any:
    return get_type_hints(route.handler).get("return")


def _error_statuses(route: Route) -> set[int]:
    """What may come back. A wrong token is refused everywhere, even where none is needed."""
    statuses = {401, 429, 500, 503}
    is_unsafe = route.method in UNSAFE
    if route.permission not in OPEN or is_unsafe:
        statuses.add(403)
    if "{" in route.path or is_unsafe:
        statuses.add(404)
    if route.query is not None or is_unsafe:
        statuses.add(422)
    if is_unsafe:
        statuses.add(409)
    if route.body is not None:
        statuses |= {400, 413}
    return statuses


def _problem_responses() -> Iterator[tuple[str, Json]]:
    by_status: dict[int, list[type[ChatError]]] = {}
    for error in error_types():
        by_status.setdefault(error.status, []).append(error)
    for status, errors in by_status.items():
        content: Json = {
            "schema": {"$ref": SCHEMA_REF.format(name="Problem")},
            "examples": {error.code: {"value": problem_example(error)} for error in errors},
        }
        response: Json = {
            "description": "; ".join(f"`{error.code}`: {error.title}" for error in errors),
            "content": {PROBLEM_JSON: content},
        }
        if any(error.retryable for error in errors):
            response["headers"] = {
                "Retry-After": {"description": "seconds, where known", "schema": {"type": "integer"}}
            }
        yield f"Problem{status}", response


def _for_operators(path: str, summary: str, media_type: str, answers: dict[str, str]) -> Json:
    content = {media_type: {"schema": {"type": "object" if media_type == "application/json" else "string"}}}
    return {
        "operationId": path.strip("/"),
        "tags": ["operation"],
        "summary": summary,
        "x-permission": Permission.ANYONE.value,
        "security": [],
        "responses": {status: {"description": words, "content": content} for status, words in answers.items()},
    }


def _tags(routes: list[Route]) -> list[Json]:
    modules = {_tag(route): route.handler.__module__ for route in routes}
    return [{"name": tag, "description": _first_line(sys.modules[module].__doc__)} for tag, module in modules.items()]


def _tag(route: Route) -> str:
    return route.handler.__module__.rpartition(".")[2]


def _words(route: Route) -> tuple[str, str]:
    """The first sentence of the handler's docstring, or its name, and what follows."""
    text = " ".join((getdoc(route.handler) or "").split())
    if not text:
        return route.handler.__name__.replace("_", " ").capitalize(), ""
    first, stop, rest = text.partition(". ")
    return (first + stop).rstrip(" ."), rest


def _needs_body(body: type) -> bool:
    return any(field.required for field in msgspec.structs.fields(body))


def _first_line(text: str | None) -> str:
    return (text or "").strip().partition("\n")[0]
