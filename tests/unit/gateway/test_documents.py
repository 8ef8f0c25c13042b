"""The documents name everything there is, nothing else, and nothing that is wrong."""

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import pytest
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from starlette.requests import Request

from server.gateway.documents.asyncapi import CHANNELS, CLOSE_CODES, asyncapi_document
from server.gateway.documents.examples import example_of
from server.gateway.documents.openapi import FOR_OPERATORS, Problem, openapi_document
from server.gateway.documents.page import documentation_page
from server.gateway.http_gateway import problem
from server.gateway.routes import docs, users
from server.gateway.routing import Route
from server.protocol.codec import convert, convert_text_fields, decode_body, decode_frame, decode_stored, encode, parse
from server.protocol.errors import ChatError
from server.protocol.events import event_types
from server.protocol.frames import Event, client_frame_types, server_frame_types
from tests.route_table import ROUTES, each_route

SERVER = Path(__file__).parents[3] / "server"
Json = dict[str, Any]


@pytest.fixture(scope="module")
def openapi() -> Json:
    return as_sent(openapi_document(ROUTES))


@pytest.fixture(scope="module")
def asyncapi() -> Json:
    return as_sent(asyncapi_document())


@pytest.fixture(scope="module")
def page(openapi: Json, asyncapi: Json) -> "PageReader":
    return PageReader(documentation_page(openapi, asyncapi))


def as_sent(document: Json) -> Json:
    read = parse(encode(document).decode())
    assert isinstance(read, dict)
    return read


class TestOpenApi:
    def test_it_names_every_route_and_no_other(self, openapi: Json) -> None:
        named = {(method.upper(), path) for path, operations in openapi["paths"].items() for method in operations}
        assert named == {(route.method, route.path) for route in ROUTES} | {("GET", path) for path in FOR_OPERATORS}

    def test_it_follows_the_rules_of_openapi(self, openapi: Json) -> None:
        assert [error.message for error in OpenAPIV31SpecValidator(openapi).iter_errors()] == []

    def test_a_broken_document_breaks_the_rules(self, openapi: Json) -> None:
        broken = as_sent(openapi)
        broken["paths"]["/api/conversations/{conversation}"]["get"]["parameters"] = []
        assert list(OpenAPIV31SpecValidator(broken).iter_errors())

    @each_route
    def test_a_route_is_described_as_it_is_declared(self, route: Route, openapi: Json) -> None:
        operation = openapi["paths"][route.path][route.method.lower()]
        assert operation["x-permission"] == route.permission
        assert (operation.get("security") == []) == (route.permission == "anyone")
        assert ("requestBody" in operation) == (route.body is not None)
        named = {parameter["name"] for parameter in operation.get("parameters", []) if parameter["in"] == "query"}
        assert named == set(route.query.__struct_fields__ if route.query is not None else ())  # type: ignore[attr-defined]
        assert len(operation["summary"]) > 1

    @each_route
    def test_examples_are_taken_by_our_own_codec(self, route: Route, openapi: Json) -> None:
        operation = openapi["paths"][route.path][route.method.lower()]
        for media_type, content in operation.get("requestBody", {"content": {}})["content"].items():
            assert route.body is not None
            if media_type == "application/json":
                decode_body(encode(content["example"]), route.body)
            else:
                convert_text_fields(content["example"], route.body)
            validator_of(openapi, content["schema"]).validate(content["example"])
        for status in {"200", "201"} & operation["responses"].keys():
            for content in operation["responses"][status]["content"].values():
                if "example" in content:
                    assert route.answer is not None
                    decode_stored(encode(content["example"]), route.answer)
                    validator_of(openapi, content["schema"]).validate(content["example"])

    def test_every_error_code_is_in_the_closed_list(self, openapi: Json) -> None:
        codes = {shape.code for shape in all_errors()}
        assert set(openapi["components"]["schemas"]["Problem"]["properties"]["code"]["enum"]) == codes
        named = {
            code
            for response in openapi["components"]["responses"].values()
            for code in response["content"]["application/problem+json"]["examples"]
        }
        assert named == codes

    def test_the_shape_of_a_problem_is_the_one_that_is_sent(self, openapi: Json) -> None:
        request = Request({"type": "http", "headers": [], "chat_studio.request_id": "r-1"})
        validator = validator_of(openapi, {"$ref": "#/components/schemas/Problem"})
        for shape in all_errors():
            sent = problem(request, shape("words", retry_after_s=1.5))
            told = parse(bytes(sent.body).decode())
            assert isinstance(told, dict)
            assert told.keys() == set(Problem.__struct_fields__)
            validator.validate(told)

    def test_every_reference_leads_somewhere(self, openapi: Json) -> None:
        assert dead_references(openapi) == []


class TestAsyncApi:
    def test_it_names_every_frame_and_every_kind_of_event(self, asyncapi: Json) -> None:
        events = {f"event.{kind}" for kind in event_types}
        from_clients = {f"client.{name}" for name in client_frame_types}
        from_server = {f"server.{tag(shape)}" for shape in server_frame_types if shape is not Event}
        assert set(asyncapi["components"]["messages"]) == events | from_clients | from_server
        schemas = set(asyncapi["components"]["schemas"])
        assert schemas >= {shape.__name__ for shape in (*client_frame_types.values(), *server_frame_types)}
        assert schemas >= {shape.__name__ for shape in event_types.values()}

    def test_its_channels_are_the_three_addresses(self, asyncapi: Json) -> None:
        addresses = {channel["address"] for channel in asyncapi["channels"].values()}
        assert addresses == {"/ws", "/ws/room/{conversation}", "/ws/private/{user}"}
        for channel in asyncapi["channels"].values():
            assert set(re.findall(r"{(\w+)}", channel["address"])) == set(channel.get("parameters", {}))

    def test_every_frame_is_taken_or_told_on_every_channel(self, asyncapi: Json) -> None:
        takes = {f"{channel}.receive.{name}" for channel in CHANNELS for name in client_frame_types}
        tells = {f"{channel}.send.{tag(shape)}" for channel in CHANNELS for shape in server_frame_types}
        assert set(asyncapi["operations"]) == takes | tells
        for name, operation in asyncapi["operations"].items():
            assert operation["action"] == name.split(".")[1]

    def test_operations_use_messages_of_their_own_channel(self, asyncapi: Json) -> None:
        for operation in asyncapi["operations"].values():
            channel = operation["channel"]["$ref"]
            used = [*operation["messages"], *operation.get("reply", {}).get("messages", [])]
            assert used
            assert all(message["$ref"].startswith(f"{channel}/messages/") for message in used)

    def test_a_frame_with_an_id_has_an_answer(self, asyncapi: Json) -> None:
        for name, shape in client_frame_types.items():
            has_answer = "reply" in asyncapi["operations"][f"all.receive.{name}"]
            assert has_answer == ("id" in shape.__struct_fields__ or name == "hello")

    def test_examples_of_client_frames_are_taken_by_the_codec(self, asyncapi: Json) -> None:
        for name, shape in client_frame_types.items():
            message = asyncapi["components"]["messages"][f"client.{name}"]
            (example,) = message["examples"]
            frame = decode_frame(encode(example["payload"]).decode())
            assert type(frame) is shape
            validator_of(asyncapi, message["payload"]).validate(example["payload"])

    def test_examples_of_server_frames_and_events_have_their_shapes(self, asyncapi: Json) -> None:
        for shape in server_frame_types:
            assert isinstance(decode_stored(encode(example_of(shape)), shape), shape)
        for message in asyncapi["components"]["messages"].values():
            (example,) = message["examples"]
            validator_of(asyncapi, message["payload"]).validate(example["payload"])
        for kind, data in event_types.items():
            example = asyncapi["components"]["messages"][f"event.{kind}"]["examples"][0]["payload"]
            convert(example["data"], data)
            assert example["kind"] == kind

    def test_an_event_of_another_kind_does_not_fit(self, asyncapi: Json) -> None:
        messages = asyncapi["components"]["messages"]
        validator = validator_of(asyncapi, messages["event.message.created"]["payload"])
        assert not validator.is_valid(messages["event.run.ended"]["examples"][0]["payload"])
        created = messages["event.message.created"]["examples"][0]["payload"]
        assert not validator.is_valid({**created, "kind": "message.edited"})

    def test_every_close_code_of_the_sources_is_explained(self) -> None:
        used = {
            int(code)
            for path in SERVER.rglob("*.py")
            for code in re.findall(r"(?:\.end|Refused|close_with)\(\s*(\d{4})\b", path.read_text(encoding="utf-8"))
        }
        assert {1003, 1012, 4500, 4501, 4502} <= used
        # 1000 answers somebody who has left.
        assert used - {1000} <= CLOSE_CODES.keys()

    def test_codes_say_by_their_number_whether_to_come_back(self) -> None:
        for code, (_, is_passing) in CLOSE_CODES.items():
            if code >= 4000:
                assert is_passing == (code < 4500)

    def test_every_reference_leads_somewhere(self, asyncapi: Json) -> None:
        assert dead_references(asyncapi) == []


def test_a_shape_means_the_same_in_both_documents(openapi: Json, asyncapi: Json) -> None:
    ours, theirs = openapi["components"]["schemas"], asyncapi["components"]["schemas"]
    shared = ours.keys() & theirs.keys()
    assert "Event" in shared
    assert [name for name in sorted(shared) if ours[name] != theirs[name]] == []


def test_all_schemas_are_sound(openapi: Json, asyncapi: Json) -> None:
    for document in (openapi, asyncapi):
        for schema in document["components"]["schemas"].values():
            OAS31Validator.check_schema(schema)


class TestPage:
    def test_every_code_route_frame_event_and_shape_has_an_anchor(
        self, page: "PageReader", openapi: Json, asyncapi: Json
    ) -> None:
        operations = [operation for path in openapi["paths"].values() for operation in path.values()]
        assert page.anchors >= {shape.code for shape in all_errors()}
        assert page.anchors >= {operation["operationId"] for operation in operations}
        assert page.anchors >= set(asyncapi["components"]["messages"])
        assert page.anchors >= {f"close-{code}" for code in CLOSE_CODES}
        assert page.anchors >= {f"shape-{name}" for name in openapi["components"]["schemas"]}

    def test_no_anchor_stands_twice_and_every_link_leads_somewhere(self, page: "PageReader") -> None:
        assert len(page.anchors) == page.anchor_count
        assert {link[1:] for link in page.links if link.startswith("#")} <= page.anchors
        assert {link for link in page.links if not link.startswith("#")} == {"/openapi.json", "/asyncapi.json"}

    def test_it_works_under_our_policy(self, page: "PageReader") -> None:
        """No script, no style of its own, nothing from elsewhere."""
        assert page.tags.isdisjoint({"script", "style", "img", "iframe", "base", "object", "form"})
        assert page.style_sheets == ["/docs/style.css"]
        assert not page.has_inline_code
        style = Path(docs.__file__).parents[1] / "documents" / "style.css"
        assert "url(" not in style.read_text()
        assert "@import" not in style.read_text()

    def test_words_of_the_documents_are_shown_as_text(self, openapi: Json, asyncapi: Json) -> None:
        hostile = "<script>alert(1)</script>\"'`<b>`"
        planted = as_sent(openapi)
        operation = planted["paths"]["/api/conversations"]["post"]
        operation["summary"] = operation["description"] = hostile
        planted["info"]["version"] = hostile
        planted["components"]["schemas"]["Conversation"]["description"] = hostile
        planted["components"]["schemas"]["Conversation"]["properties"][hostile] = {"enum": [hostile]}
        read = PageReader(documentation_page(planted, asyncapi))
        assert "script" not in read.tags
        assert "b" not in read.tags
        assert not read.has_inline_code


def test_nothing_of_this_is_loaded_before_somebody_asks() -> None:
    script = "import sys, server.app; print([name for name in sys.modules if 'gateway.documents' in name])"
    asked = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert asked.stdout.strip() == "[]"


def test_a_new_route_is_described_without_a_word_more(openapi: Json) -> None:
    planted = replace(next(iter(users.routes)), path="/api/planted")
    document = openapi_document([*ROUTES, planted])
    assert "get" in document["paths"]["/api/planted"]
    assert "/api/planted" not in openapi["paths"]


def all_errors() -> list[type[ChatError]]:
    """Every class of the closed list, found without the code that is tested."""
    found: list[type[ChatError]] = []
    waiting = list(ChatError.__subclasses__())
    while waiting:
        found.append(waiting.pop())
        waiting += found[-1].__subclasses__()
    return [shape for shape in found if shape.__module__ == "server.protocol.errors"]


def tag(shape: type[msgspec.Struct]) -> str:
    return str(shape.__struct_config__.tag)


def validator_of(document: Json, schema: Json) -> OAS31Validator:
    return OAS31Validator({**schema, "components": document["components"]})


def dead_references(document: Json) -> list[str]:
    return [reference for reference in references(document) if not leads_somewhere(document, reference)]


def references(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def leads_somewhere(document: Json, reference: str) -> bool:
    place: Any = document
    for part in reference.removeprefix("#/").split("/"):
        if not isinstance(place, dict) or part not in place:
            return False
        place = place[part]
    return True


class PageReader(HTMLParser):
    """What stands in a page, as a browser would see it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.anchors: set[str] = set()
        self.anchor_count = 0
        self.links: set[str] = set()
        self.style_sheets: list[str] = []
        self.has_inline_code = False
        self.feed(text)

    def handle_starttag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(name)
        given = dict(attributes)
        self.has_inline_code |= any(key == "style" or key.startswith("on") for key in given)
        if anchor := given.get("id"):
            self.anchors.add(anchor)
            self.anchor_count += 1
        if name == "a":
            self.links.add(given.get("href") or "")
        if name == "link":
            self.style_sheets.append(given.get("href") or "")
