"""The documents as they are served, and held against what answers."""

import re
from collections.abc import AsyncIterator

import pytest
import websockets

from server.gateway.documents.examples import example_of
from server.gateway.documents.openapi import FOR_OPERATORS
from server.protocol.codec import encode
from server.protocol.ids import new_id
from server.storage.database import Database
from tests.route_table import ROUTES
from tests.running_studio import Person, run_studio


@pytest.fixture(scope="module")
async def person(module_database: Database) -> AsyncIterator[Person]:
    async with run_studio(module_database) as studio:
        yield await studio.person("ana")


async def test_the_studio_serves_every_route_that_is_described(person: Person) -> None:
    document = await person.call("GET", "/openapi.json", expect=200)
    described = {(method.upper(), path) for path, operations in document["paths"].items() for method in operations}
    assert described == {(route.method, route.path) for route in ROUTES} | {("GET", path) for path in FOR_OPERATORS}
    for method, path in described:
        answer = await person.http.request("OPTIONS", re.sub(r"{\w+}", new_id(), path))
        assert (path, method in answer.headers.get("allow", "")) == (path, True)


@pytest.mark.parametrize("path", FOR_OPERATORS)
async def test_operators_need_no_sign_in(person: Person, path: str) -> None:
    del person.http.headers["authorization"]
    answer = await person.http.get(path)
    person.http.headers["authorization"] = f"Bearer {person.token}"
    _, media_type, answers = FOR_OPERATORS[path]
    assert answer.headers["content-type"].partition(";")[0] == media_type
    assert str(answer.status_code) in answers


async def test_every_described_address_takes_sockets(person: Person) -> None:
    document = await person.call("GET", "/asyncapi.json", expect=200)
    other = await person.call("GET", "/api/users", expect=200)
    assert other["users"]
    room = await person.room()
    for channel in document["channels"].values():
        path = channel["address"].replace("{conversation}", room)
        if "{user}" in path:
            with pytest.raises(websockets.InvalidStatus):  # nobody talks with themselves
                async with person.socket(path.replace("{user}", person.id)):
                    pass
            continue
        async with person.socket(path) as socket:
            assert socket.welcome["user"]["id"] == person.id


@pytest.mark.parametrize(
    ("path", "media_type"),
    [
        ("/docs", "text/html; charset=utf-8"),
        ("/docs/style.css", "text/css; charset=utf-8"),
        ("/openapi.json", "application/json"),
        ("/asyncapi.json", "application/json"),
    ],
)
async def test_documents_are_open_to_everybody_under_our_policy(person: Person, path: str, media_type: str) -> None:
    del person.http.headers["authorization"]
    answer = await person.http.get(path)
    person.http.headers["authorization"] = f"Bearer {person.token}"
    assert (answer.status_code, answer.headers["content-type"]) == (200, media_type)
    assert "'unsafe" not in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.content == (await person.http.get(path)).content


async def test_the_type_of_a_problem_is_an_address_on_the_page(person: Person) -> None:
    problem = await person.call("GET", f"/api/conversations/{new_id()}", expect=404)
    path, _, anchor = problem["type"].partition("#")
    page = (await person.http.get(path)).text
    assert f'id="{anchor}"' in page


async def test_where_an_idempotency_key_is_described_it_is_read(person: Person) -> None:
    """A key that is none is refused there, before anything is done, and overlooked everywhere else."""
    document = await person.call("GET", "/openapi.json", expect=200)
    room = await person.room()
    said = await person.call("POST", f"/api/conversations/{room}/messages", {"id": "a", "text": "hi"}, expect=201)
    run = (await person.call("POST", f"/api/conversations/{room}/runs", {}, expect=201))["run"]
    places = {"conversation": room, "message": said["message"], "run": run, "emoji": "%F0%9F%91%8D", "user": person.id}
    places["webhook"] = person.id  # of none
    found, described = set(), set()
    for route in ROUTES:
        if route.method == "GET" or not {"conversation", "run"} & set(re.findall(r"{(\w+)}", route.path)):
            continue
        parameters = document["paths"][route.path][route.method.lower()].get("parameters", [])
        if any(parameter["name"] == "Idempotency-Key" for parameter in parameters):
            described.add((route.method, route.path))
        elif route.path.endswith(("/leave", "{conversation}", "{user}")):
            continue  # would take the room away
        path = re.sub(r"{(\w+)}", lambda name: places[name[1]], route.path)
        content = None if route.body is None else encode(example_of(route.body))
        headers = {"idempotency-key": "no key!", "content-type": "application/json"}
        answer = await person.http.request(route.method, path, content=content, headers=headers)
        if answer.status_code == 422 and "Idempotency-Key" in answer.json()["detail"]:
            found.add((route.method, route.path))
    decide = {("POST", "/api/runs/{run}/decide")}  # finds nothing to decide before it would read the key
    assert found | decide == described | decide
    assert len(found) >= 9
