"""HTTP in and out: from a `Route` and a request to an answer, the same way for every route.

In:   a request.
Out:  JSON of the route's shape, or problem details (RFC 9457) with the same codes as on the socket.
Order: identity, forgery check, rate, permission, then query and body. So a stranger learns nothing about shapes or
objects.
"""

import asyncio
import math
from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qsl

from loguru import logger
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route as StarletteRoute

from server.gateway.identity import Identifier, bearer_token, clear_session_cookie, set_session_cookie
from server.gateway.rate_limits import RateLimits
from server.gateway.routing import Answer, Call, Route
from server.hub.identity import Identity
from server.hub.permissions import STUDIO_WIDE, Permission, studio_refusal
from server.hub.studio import Studio
from server.protocol.codec import convert_text_fields, decode_body, encode
from server.protocol.errors import BadFrame, ChatError, Internal, TooLarge, Unauthenticated, Unavailable

MAX_BODY_BYTES = 1024 * 1024  # the largest JSON body is a batch of conversations
MAX_FORM_FIELDS = 20
STANDING_TIMEOUT_S = 1.5  # who calls, and whether they may: a send is refused within 3 s when the database stands still
DURABLE = frozenset({
    Permission.SEND, Permission.EDIT, Permission.DELETE, Permission.REACT, Permission.PIN, Permission.RUN,
    Permission.STOP, Permission.STEER,
})  # fmt: skip
FORM = "application/x-www-form-urlencoded"
PROBLEM_JSON = "application/problem+json"


class HttpGateway:
    """Turns routes into Starlette's, each with the whole way around it."""

    def __init__(self, studio: Studio, identifier: Identifier, limits: RateLimits) -> None:
        self._studio = studio
        self._identifier = identifier
        self._limits = limits

    def routes(self, collections: Iterable[Iterable[Route]]) -> list[StarletteRoute]:
        """One Starlette route a path, since a path that knows the method of another must answer 405, not 404."""
        by_path: dict[str, dict[str, Route]] = {}
        for routes in collections:
            for route in routes:
                by_path.setdefault(route.path, {})[route.method] = route
        return [
            StarletteRoute(path, self._endpoint(methods), methods=list(methods)) for path, methods in by_path.items()
        ]

    def _endpoint(self, methods: dict[str, Route]) -> Any:
        async def endpoint(request: Request) -> Response:
            method = "GET" if request.method == "HEAD" else request.method
            try:
                return await self._answer(methods[method], request)
            except ChatError as error:
                return problem(request, error)
            except ClientDisconnect:
                return Response(status_code=499)  # nobody reads it
            except Exception:  # noqa: BLE001 - the edge of a request: reported, and answered without a detail
                logger.exception("request failed")
                return problem(request, Internal())

        return endpoint

    async def _answer(self, route: Route, request: Request) -> Response:
        try:
            async with asyncio.timeout(STANDING_TIMEOUT_S if route.permission in DURABLE else None):
                call = await self._call(request)
                await self._permit(route, call)
        except TimeoutError:
            raise Unavailable() from None
        arguments: dict[str, object] = {}
        if route.query is not None:
            arguments["query"] = convert_text_fields(_query_fields(request), route.query)
        if route.body is not None:
            arguments["body"] = await _body(route, request)
        return self._reply(route, request, await route.handler(call, **arguments))

    async def _call(self, request: Request) -> Call:
        client = self._identifier.client(request.scope)
        identity = await self._identify(request, client.address)
        self._identifier.check_not_forged(request)
        self._limits.check_request(identity, client.address)
        origin = self._identifier.origin(request)
        return Call(request, self._studio, identity, client=client, origin=origin, limits=self._limits)

    async def _identify(self, request: Request, address: str) -> Identity | None:
        if bearer_token(request) is None:
            return await self._identifier.of_request(request)
        self._limits.check_credentials(address)
        try:
            return await self._identifier.of_request(request)
        except Unauthenticated:
            self._limits.note_bad_credential(address)
            raise

    async def _permit(self, route: Route, call: Call) -> None:
        identity = call.maybe_identity
        if route.permission in STUDIO_WIDE:
            error = studio_refusal(route.permission, identity.account_role if identity else None)
            if error is not None:
                raise error
            return
        caller = call.identity  # a stranger is stopped here, before a run is looked up
        conversation = call.request.path_params.get("conversation")
        if conversation is None:
            await self._studio.check_run(caller, route.permission, call.path("run"))
        else:
            await self._studio.check(caller, route.permission, conversation)

    def _reply(self, route: Route, request: Request, result: object) -> Response:
        if isinstance(result, Response):
            return result
        answer: Answer[Any] = result if isinstance(result, Answer) else Answer(result)
        status = answer.status or route.status
        if answer.body is None:
            response = Response(status_code=status, headers=answer.headers)
        else:
            response = Response(encode(answer.body), status, answer.headers, media_type="application/json")
        if answer.session is not None:
            if answer.session:
                set_session_cookie(request, response, answer.session)
            else:
                clear_session_cookie(response)
        return response


def _query_fields(request: Request) -> dict[str, str]:
    fields = dict(request.query_params)
    if len(fields) != len(request.query_params.multi_items()):
        raise BadFrame("the query names the same field twice")
    return fields


async def _body(route: Route, request: Request) -> object:
    assert route.body is not None
    expected = FORM if route.form else "application/json"
    raw = bytearray()
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > MAX_BODY_BYTES:
            raise TooLarge(f"a body may have {MAX_BODY_BYTES} bytes at most")
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if raw and media_type != expected:
        raise BadFrame(f"the content type must be {expected}")
    if route.form:
        return convert_text_fields(_form_fields(bytes(raw)), route.body)
    return decode_body(bytes(raw) if raw else b"{}", route.body)


def _form_fields(raw: bytes) -> dict[str, str]:
    try:
        pairs = parse_qsl(raw.decode(), keep_blank_values=True, max_num_fields=MAX_FORM_FIELDS, errors="strict")
    except ValueError:
        raise BadFrame("this is no form, or a very long one") from None
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise BadFrame("the form names the same field twice")
    return fields


def problem(request: Request, error: ChatError) -> Response:
    """RFC 9457 problem details; `code` is the wire's."""
    details: dict[str, object] = {
        "type": f"/docs#{error.code}",
        "title": error.title,
        "status": error.status,
        "code": error.code,
        "detail": error.detail,
        "retryable": error.retryable,
        "request_id": request.scope.get("chat_studio.request_id"),
    }
    headers = {}
    if error.retry_after_s is not None:
        details["retry_after_s"] = error.retry_after_s
        headers["Retry-After"] = str(math.ceil(error.retry_after_s))  # whole seconds: RFC 9110, section 10.2.3
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return Response(encode(details), error.status, headers, media_type=PROBLEM_JSON)
