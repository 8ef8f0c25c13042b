"""The interface described: OpenAPI and AsyncAPI documents, and the same two as a page for people."""

from collections.abc import Iterable
from functools import cached_property

from starlette.responses import Response

from server.gateway.routing import Call, Route, Routes
from server.hub.permissions import Permission
from server.protocol.codec import encode

FOR_AN_HOUR = {"Cache-Control": "public, max-age=3600"}


class JsonText(Response):
    media_type = "application/json"


class Page(Response):
    media_type = "text/html"


class Stylesheet(Response):
    media_type = "text/css"


def document_routes(collections: Iterable[Iterable[Route]]) -> Routes:
    """The routes that describe `collections`, and themselves."""
    routes = Routes()
    described = [*collections, routes]
    documents = _Documents(described)

    @routes.get("/openapi.json", permission=Permission.ANYONE)
    async def openapi(call: Call) -> JsonText:
        """The HTTP interface as OpenAPI 3.1."""
        return JsonText(documents.openapi)

    @routes.get("/asyncapi.json", permission=Permission.ANYONE)
    async def asyncapi(call: Call) -> JsonText:
        """The socket interface as AsyncAPI 3.0."""
        return JsonText(documents.asyncapi)

    @routes.get("/docs", permission=Permission.ANYONE)
    async def page(call: Call) -> Page:
        """Both, for people."""
        return Page(documents.page)

    @routes.get("/docs/style.css", permission=Permission.ANYONE)
    async def style(call: Call) -> Stylesheet:
        """How the page looks."""
        return Stylesheet(documents.style, headers=FOR_AN_HOUR)

    return routes


class _Documents:
    """Each is made when it is first asked for, and kept: few servers are asked, all should start fast and small."""

    def __init__(self, collections: list[Iterable[Route]]) -> None:
        self._collections = collections

    @cached_property
    def openapi(self) -> bytes:
        from server.gateway.documents.openapi import openapi_document

        return encode(openapi_document(self._routes()))

    @cached_property
    def asyncapi(self) -> bytes:
        from server.gateway.documents.asyncapi import asyncapi_document

        return encode(asyncapi_document())

    @cached_property
    def page(self) -> str:
        from server.gateway.documents.asyncapi import asyncapi_document
        from server.gateway.documents.openapi import openapi_document
        from server.gateway.documents.page import documentation_page

        return documentation_page(openapi_document(self._routes()), asyncapi_document())

    @cached_property
    def style(self) -> bytes:
        from server.gateway.documents.page import STYLE

        return STYLE.read_bytes()

    def _routes(self) -> list[Route]:
        return [route for collection in self._collections for route in collection]
