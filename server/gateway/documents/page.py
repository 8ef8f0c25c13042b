"""The page at `/docs`, drawn on the server from the two documents: plain HTML, no script, one style sheet of our own.

In:   the OpenAPI and the AsyncAPI document.
Out:  one page that a browser's own search goes through. Every error code, frame, event kind, route and shape has an
anchor; problem details point to `/docs#<code>`.

Everything from the documents is escaped here; words between backquotes become code.
"""

import re
from collections.abc import Iterable, Iterator
from html import escape
from pathlib import Path
from typing import Any

from server.protocol.codec import pretty
from server.protocol.frames import MAX_SUBSCRIPTIONS, SUBPROTOCOL

Json = dict[str, Any]

STYLE = Path(__file__).with_name("style.css")
CONTENTS = {
    "sign-in": "Signing in",
    "http": "HTTP",
    "sockets": "Sockets",
    "client-frames": "Client frames",
    "server-frames": "Server frames",
    "events": "Events",
    "errors": "Errors",
    "close-codes": "Close codes",
    "permissions": "Permissions",
    "shapes": "Shapes",
}
SIGN_IN = (
    "A browser signs in with `POST /api/auth/login` and keeps an HttpOnly cookie. A program asks `POST "
    "/api/auth/token` for an access token and sends it as `Authorization: Bearer`. A socket takes either at its "
    "handshake (a cookie only with the studio's own `Origin`), or none: then its first frame is `hello` with a "
    "ticket from `POST /api/auth/ticket`, within 10 seconds. Credentials never stand in an address."
)
SOCKETS = (
    f"Three addresses speak the subprotocol `{SUBPROTOCOL}`. One socket follows at most {MAX_SUBSCRIPTIONS} "
    "conversations. Subscribing with a cursor sends what was missed, in order and whole, or answers `reset: true`: "
    "then the newest page is loaded over HTTP. The `id` of a durable frame is idempotent per conversation and "
    "person, for ever: a repeat gets the first answer again, and the same `id` with another body is a `conflict`."
)


def documentation_page(openapi: Json, asyncapi: Json) -> str:
    schemas = {**asyncapi["components"]["schemas"], **openapi["components"]["schemas"]}
    messages = asyncapi["components"]["messages"]
    replies = {name.partition(".receive.")[2]: operation for name, operation in asyncapi["operations"].items()}
    sections = {
        "sign-in": [_paragraph(SIGN_IN)],
        "http": [_paragraph(openapi["info"]["description"]), *_http(openapi)],
        "sockets": [_paragraph(SOCKETS), _paragraph(asyncapi["info"]["description"]), _channels(asyncapi["channels"])],
        "client-frames": _messages(messages, "client.", schemas, replies),
        "server-frames": _messages(messages, "server.", schemas),
        "events": _messages(messages, "event.", schemas),
        "errors": [_errors(openapi)],
        "close-codes": [_close_codes(asyncapi["x-close-codes"])],
        "permissions": [_permissions(openapi["x-permissions"])],
        "shapes": [_shape(name, schema) for name, schema in sorted(schemas.items())],
    }
    body = "\n".join(
        f'<section id="{anchor}"><h2>{escape(CONTENTS[anchor])}</h2>\n{"".join(parts)}</section>'
        for anchor, parts in sections.items()
    )
    links = "".join(f'<li><a href="#{anchor}">{escape(title)}</a></li>' for anchor, title in CONTENTS.items())
    version = escape(openapi["info"]["version"])
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Chat Studio: the interface</title>
<link rel="stylesheet" href="/docs/style.css">
</head>
<body>
<header>
<h1>Chat Studio: the interface</h1>
<p>Version {version}. For machines: <a href="/openapi.json">OpenAPI</a>, <a href="/asyncapi.json">AsyncAPI</a>.</p>
</header>
<nav aria-label="Contents"><ul>{links}</ul></nav>
<main>
{body}
</main>
</body>
</html>
"""


def _http(openapi: Json) -> Iterator[str]:
    for tag in openapi["tags"]:
        yield f'<h3 id="http-{escape(tag["name"])}">{_words(tag["description"])}</h3>'
        for path, operations in openapi["paths"].items():
            for method, operation in operations.items():
                if tag["name"] in operation["tags"]:
                    yield _route(method.upper(), path, operation)


def _route(method: str, path: str, operation: Json) -> str:
    bodies = operation.get("requestBody", {}).get("content", {})
    parts = [
        f'<h4><a href="#{escape(operation["operationId"])}"><code>{method} {escape(path)}</code></a></h4>',
        _paragraph(f"{operation['summary']}. {operation.get('description', '')}"),
        _permission(operation["x-permission"]),
        _parameters(operation.get("parameters", [])),
        *(
            f"<p>Takes {_type(content['schema'])} as <code>{escape(kind)}</code>:</p>{_example(content)}"
            for kind, content in bodies.items()
        ),
        _answers(operation["responses"]),
    ]
    return f'<article id="{escape(operation["operationId"])}">{"".join(parts)}</article>\n'


def _parameters(parameters: list[Json]) -> str:
    if not parameters:
        return ""
    rows = (
        (
            f"<code>{escape(parameter['name'])}</code>",
            parameter["in"],
            _type(parameter["schema"]),
            _words(parameter.get("description", "")) or ("needed" if parameter["required"] else ""),
        )
        for parameter in parameters
    )
    return _table(("parameter", "in", "type", ""), rows)


def _answers(responses: Json) -> str:
    parts, errors = [], []
    for status, response in responses.items():
        if "$ref" in response:
            errors.append(f'<a href="#status-{status}">{status}</a>')
            continue
        contents = response.get("content", {})
        shown = " or ".join(
            _type(content["schema"]) if "$ref" in content.get("schema", {}) else f"<code>{escape(kind)}</code>"
            for kind, content in contents.items()
        )
        parts.append(
            f"<p>Answers <code>{status}</code> ({_words(response['description'])}){': ' + shown if shown else ''}</p>"
        )
        # One example is enough: 200 and 201 of one route have the same shape.
        parts += [_example(content) for content in contents.values()] if len(parts) == 1 else []
    if errors:
        parts.append(f"<p>Errors: {', '.join(errors)}</p>")
    return "".join(parts)


def _channels(channels: Json) -> str:
    rows = (
        (f"<code>{escape(channel['address'])}</code>", _words(channel["title"]), _words(channel["description"]))
        for channel in channels.values()
    )
    return _table(("address", "for", ""), rows)


def _messages(messages: Json, prefix: str, schemas: Json, replies: Json | None = None) -> list[str]:
    made = []
    for key, message in messages.items():
        if not key.startswith(prefix):
            continue
        name = message["name"]
        operation = (replies or {}).get(name)
        parts = [
            f'<h3><a href="#{escape(key)}"><code>{escape(name)}</code></a></h3>',
            _paragraph(message["summary"]),
            _permission(operation["x-permission"]) if operation else "",
            _answered_by(operation) if operation else "",
            _fields(_payload(message["payload"], schemas)),
            "".join(_code(example["payload"]) for example in message["examples"]),
        ]
        made.append(f'<article id="{escape(key)}">{"".join(parts)}</article>\n')
    return made


def _payload(payload: Json, schemas: Json) -> Json:
    """The shape that tells the reader something: of an event, its `data`."""
    if "allOf" in payload:
        payload = payload["allOf"][1]["properties"]["data"]
    found: Json = schemas[payload["$ref"].rpartition("/")[2]]
    return found


def _answered_by(operation: Json) -> str:
    names = [message["$ref"].rpartition("/")[2] for message in operation.get("reply", {}).get("messages", [])]
    links = " or ".join(
        f'<a href="#{escape(name)}"><code>{escape(name.partition(".")[2])}</code></a>' for name in names
    )
    return f"<p>Answered by {links}</p>" if links else "<p>No answer</p>"


def _errors(openapi: Json) -> str:
    rows = []
    for response in openapi["components"]["responses"].values():
        for index, (code, example) in enumerate(response["content"]["application/problem+json"]["examples"].items()):
            problem = example["value"]
            status = problem["status"]
            rows.append(
                (
                    f'<code id="{escape(code)}">{escape(code)}</code>',
                    str(status) if index else f'<span id="status-{status}">{status}</span>',
                    _words(problem["title"]),
                    "yes" if problem["retryable"] else "no",
                )
            )
    return _table(("code", "HTTP status", "meaning", "worth another try"), rows)


def _close_codes(codes: list[Json]) -> str:
    rows = (
        (
            f'<code id="close-{close["code"]}">{close["code"]}</code>',
            _words(close["description"]),
            "yes" if close["come_back"] else "no",
        )
        for close in codes
    )
    return _table(("code", "meaning", "come back"), rows)


def _permissions(permissions: Json) -> str:
    rows = []
    for name, permission in permissions.items():
        roles = ", ".join(permission.get("roles", [])) or "those who may read it"
        in_private = permission.get("roles_in_private_chats")
        if permission["scope"] == "studio":
            roles = "by the account alone"
        if in_private is not None:
            roles += f" (in private chats: {'both sides' if in_private else 'nobody'})"
        if permission.get("refused_behind_a_block"):
            roles += " (not between people of whom one has blocked the other)"
        rows.append((f'<code id="permission-{escape(name)}">{escape(name)}</code>', permission["scope"], escape(roles)))
    return _table(("permission", "looks at", "who"), rows)


def _permission(name: str) -> str:
    return f'<p>Permission: <a href="#permission-{escape(name)}"><code>{escape(name)}</code></a></p>'


def _shape(name: str, schema: Json) -> str:
    parts = [f"<h3><code>{escape(name)}</code></h3>", _paragraph(schema.get("description", "")), _fields(schema)]
    return f'<article id="shape-{escape(name)}">{"".join(parts)}</article>\n'


def _fields(schema: Json) -> str:
    required = set(schema.get("required", ()))
    rows = [
        (f"<code>{escape(name)}</code>", _type(field), "" if name in required else "optional")
        for name, field in schema.get("properties", {}).items()
    ]
    return _table(("field", "type", ""), rows) if rows else "<p>No fields</p>"


def _type(schema: Json) -> str:
    """A schema in words, as HTML."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#shape-{name}">{name}</a>'
    if "enum" in schema:
        return " or ".join(f"<code>{escape(str(value))}</code>" for value in schema["enum"])
    if "anyOf" in schema:
        return " or ".join(_type(choice) for choice in schema["anyOf"])
    match schema.get("type"):
        case "array":
            return f"list of {_type(schema.get('items', {}))}{_bounds(schema, 'Items', 'entries')}"
        case "object":
            inner = schema.get("additionalProperties")
            values = _type(inner) if isinstance(inner, dict) else "anything"
            return f"map of {values}{_bounds(schema, 'Properties', 'entries')}"
        case "string":
            shown = {"uuid": "id"}.get(schema.get("format", ""), "text")
            if "pattern" in schema:
                return f"{shown} like <code>{escape(schema['pattern'])}</code>"
            return f"{shown}{_bounds(schema, 'Length', 'characters')}"
        case "integer" | "number" as kind:
            least, most = schema.get("minimum"), schema.get("maximum")
            return f"{kind}{'' if least is None else f' from {least}'}{'' if most is None else f' to {most}'}"
        case "boolean":
            return "true or false"
        case "null":
            return "null"
        case _:
            return "any JSON"


def _bounds(schema: Json, noun: str, unit: str) -> str:
    least, most = schema.get(f"min{noun}"), schema.get(f"max{noun}")
    match least, most:
        case None, None:
            return ""
        case None, _:
            return f", up to {most} {unit}"
        case _, None:
            return f", at least {least} {unit}"
        case _:
            return f", {least} to {most} {unit}"


def _example(content: Json) -> str:
    return _code(content["example"]) if "example" in content else ""


def _code(value: object) -> str:
    return f"<pre><code>{escape(pretty(value))}</code></pre>"


def _paragraph(text: str) -> str:
    return f"<p>{_words(text.strip())}</p>" if text.strip() else ""


def _words(text: str) -> str:
    """Prose: escaped, with `code` between backquotes and no others of a docstring's marks."""
    return re.sub(r"`+([^`]+)`+", r"<code>\1</code>", escape(text, quote=False))


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in heads)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
