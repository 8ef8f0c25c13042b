"""How a route is written down: method, path, permission and the shapes of what goes in and out, in one place.

```python
@routes.post("/api/conversations", permission=Permission.STUDIO_MEMBER, status=201)
async def create(call: Call, body: NewConversation) -> Conversation: ...
```

The parameter named `body` is decoded strictly, `query` from the query string; the annotation of the answer is what
`/openapi.json` shows. A handler may answer an `Answer` to choose another status or to set cookies. Every route has a
permission, which is checked before the handler runs; where the path names a `{conversation}`, against the caller's
standing in it.
"""

import inspect
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, get_args, get_origin, get_type_hints

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from server.gateway.rate_limits import RateLimits
from server.hub.access import ClientInfo
from server.hub.identity import Identity
from server.hub.permissions import Permission
from server.hub.studio import Studio
from server.protocol.errors import Unauthenticated

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Route:
    method: str
    path: str
    permission: Permission
    handler: Callable[..., Awaitable[object]]
    status: int
    body: type | None
    query: type | None
    answer: type | None
    form: bool = False


@dataclass
class Answer(Generic[T]):
    """An answer with more to it than its body."""

    body: T
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    session: str | None = None  # a session token to set as a cookie; the empty string takes the cookie away


class Routes:
    """Collects the routes of one file."""

    def __init__(self) -> None:
        self._routes: list[Route] = []

    def __iter__(self) -> Iterator[Route]:
        return iter(self._routes)

    def get(self, path: str, *, permission: Permission) -> Callable[[T], T]:
        return self._add("GET", path, permission, 200)

    def post(self, path: str, *, permission: Permission, status: int = 200, form: bool = False) -> Callable[[T], T]:
        return self._add("POST", path, permission, status, form)

    def put(self, path: str, *, permission: Permission, status: int = 200) -> Callable[[T], T]:
        return self._add("PUT", path, permission, status)

    def patch(self, path: str, *, permission: Permission, status: int = 200) -> Callable[[T], T]:
        return self._add("PATCH", path, permission, status)

    def delete(self, path: str, *, permission: Permission, status: int = 200) -> Callable[[T], T]:
        return self._add("DELETE", path, permission, status)

    def _add(self, method: str, path: str, permission: Permission, status: int, form: bool = False) -> Callable[[T], T]:
        def note(handler: Any) -> Any:
            hints = get_type_hints(handler)
            answer = hints.get("return")
            if get_origin(answer) is Answer:
                answer = get_args(answer)[0]
            if answer is type(None) or (inspect.isclass(answer) and issubclass(answer, Response)):
                answer = None
            self._routes.append(
                Route(
                    method=method,
                    path=path,
                    permission=permission,
                    handler=handler,
                    status=204 if status == 200 and answer is None else status,
                    body=hints.get("body"),
                    query=hints.get("query"),
                    answer=answer,
                    form=form,
                )
            )
            return handler

        return note


class Query(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The base of what a query string may hold."""


class Call:
    """One HTTP request on its way to a handler: who calls, from where, and the studio it calls on."""

    def __init__(
        self,
        request: Request,
        studio: Studio,
        identity: Identity | None,
        *,
        client: ClientInfo,
        origin: str,
        limits: RateLimits,
    ) -> None:
        self.request = request
        self.studio = studio
        self.client = client
        self.origin = origin  # where links into the studio lead
        self.limits = limits
        self._identity = identity

    @property
    def identity(self) -> Identity:
        """Who calls; a route with any permission but ANYONE always has one."""
        if self._identity is None:
            raise Unauthenticated()
        return self._identity

    @property
    def maybe_identity(self) -> Identity | None:
        return self._identity

    def path(self, name: str) -> str:
        value: str = self.request.path_params[name]
        return value
