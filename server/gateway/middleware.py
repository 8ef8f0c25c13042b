"""What wraps every request: an id, the security headers, the access log and its metrics."""

import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from loguru import logger

from server.protocol.ids import new_id
from server.telemetry import metrics

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; manifest-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
SECURITY_HEADERS = [
    (b"content-security-policy", CONTENT_SECURITY_POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=()"),
]
QUIET = {"/healthz", "/readyz", "/metrics"}


class RequestContext:
    """Pure ASGI: nothing between a handler and its socket but one wrapped `send`."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = new_id()
        scope["chat_studio.request_id"] = request_id
        began, status = time.perf_counter(), 500

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = message.setdefault("headers", [])
                present = {name for name, _ in headers}
                headers.extend(header for header in SECURITY_HEADERS if header[0] not in present)
                headers.append((b"x-request-id", request_id.encode()))
                if b"cache-control" not in present:
                    headers.append((b"cache-control", b"no-store"))
            await send(message)

        with logger.contextualize(request=request_id):
            try:
                await self._app(scope, receive, send_with_headers)
            finally:
                self._report(scope, status, time.perf_counter() - began)

    def _report(self, scope: Scope, status: int, seconds: float) -> None:
        # The route's template, never the path itself: an address may hold what a person typed.
        route = getattr(scope.get("route"), "path", None) or "other"
        metrics.requests.labels(route, scope["method"], str(status)).observe(seconds)
        if route not in QUIET:
            level = "INFO" if status < 500 else "ERROR"
            logger.log(level, "{} {} {} in {:.1f} ms", scope["method"], route, status, seconds * 1000)
