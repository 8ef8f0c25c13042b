"""The web client's files, and its page for every address that is none of ours."""

from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from server.gateway.http_gateway import problem
from server.protocol.errors import BadFrame, ChatError, MethodNotAllowed, NotFound

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
        if _is_interface(path):
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


async def refusal(request: Request, refused: Exception) -> Response:
    """Problem details also for what Starlette itself refuses: a method that an address does not take."""
    assert isinstance(refused, HTTPException)
    if refused.status_code == 405 and not ("path" in request.path_params and _is_interface(request.url.path)):
        error: ChatError = MethodNotAllowed()
    elif refused.status_code in (404, 405):
        error = NotFound("there is no such address")
    else:
        error = BadFrame(refused.detail)
    response = problem(request, error)
    response.headers.update(refused.headers if isinstance(error, MethodNotAllowed) and refused.headers else {})
    return response


def _is_interface(path: str) -> bool:
    return path in ("/api", "/v1", "/ws") or path.startswith(("/api/", "/v1/", "/ws/", "/assets/"))
