"""The web client's files, and its page for every address that is none of ours."""

from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from server.gateway.http_gateway import problem
from server.protocol.errors import NotFound

NOT_BUILT = "The web client has not been built: run `make web`, then reload. The interface under /api and /ws works.\n"
FOR_EVER = "public, max-age=31536000, immutable"  # their names hold a hash of what is in them


class Assets(StaticFiles):
    def file_response(self, *arguments: object, **named: object) -> Response:
        response = super().file_response(*arguments, **named)  # type: ignore[arg-type]
        response.headers["cache-control"] = FOR_EVER
        return response


def page_routes(dist: Path) -> list[BaseRoute]:
    """`dist` is what the web build makes: index.html, and assets/ with hashed names."""
    index = dist / "index.html"

    async def page(request: Request) -> Response:
        path = request.url.path
        if path.startswith(("/api/", "/v1/", "/ws/", "/assets/")):
            return problem(request, NotFound("there is no such address"))
        found = dist / path.lstrip("/")
        if path != "/" and "/" not in path.strip("/") and "." in path and found.is_file():
            return FileResponse(found, headers={"cache-control": "no-cache"})
        if not index.is_file():
            return PlainTextResponse(NOT_BUILT, 503)
        return FileResponse(index, headers={"cache-control": "no-cache"})

    routes: list[BaseRoute] = []
    if (dist / "assets").is_dir():
        routes.append(Mount("/assets", Assets(directory=dist / "assets")))
    return [*routes, Route("/{path:path}", page, methods=["GET", "HEAD"])]
