"""Answers of models over HTTP: start, stop, steer."""

from server.gateway.routes.conversations import Body
from server.gateway.routes.messages import idempotency_key
from server.gateway.routing import Answer, Call, Routes
from server.hub.permissions import Permission
from server.protocol.errors import NotFound
from server.protocol.frames import Name
from server.protocol.views import Done, RunAsked

routes = Routes()


class RunBody(Body, frozen=True, kw_only=True):
    """`message`: what to answer; the latest where none is named."""

    model: Name | None = None
    message: str | None = None


class SteerBody(Body, frozen=True, kw_only=True):
    text: str


class DecideBody(Body, frozen=True, kw_only=True):
    call: str
    approve: bool


@routes.post("/api/conversations/{conversation}/runs", permission=Permission.RUN, status=201)
async def start(call: Call, body: RunBody) -> Answer[RunAsked]:
    """Ask a model for an answer. 201 the first time, 200 when the same key comes again."""
    call.limits.check_send(call.identity.user_id)
    stored, data = await call.studio.assistant.start(
        call.identity, call.path("conversation"), idempotency_key(call), model=body.model, message=body.message
    )
    asked = RunAsked(run=data.run, message=data.message, seq=stored.seq)
    return Answer(asked, status=200 if stored.repeat else 201)


@routes.post("/api/runs/{run}/stop", permission=Permission.STOP)
async def stop(call: Call) -> Done:
    """End an answer with what it has said so far."""
    stored = await call.studio.assistant.stop(call.identity, idempotency_key(call), call.path("run"))
    return Done(seq=stored.seq)


@routes.post("/api/runs/{run}/steer", permission=Permission.STEER)
async def steer(call: Call, body: SteerBody) -> Done:
    """Add an instruction: what was said is sealed, and a new answer goes on from there."""
    call.limits.check_send(call.identity.user_id)
    stored = await call.studio.assistant.steer(call.identity, idempotency_key(call), call.path("run"), body.text)
    return Done(seq=stored.seq)


@routes.post("/api/runs/{run}/decide", permission=Permission.DECIDE)
async def decide(call: Call, body: DecideBody) -> Done:
    """Allow or refuse a tool call that an answer has proposed."""
    raise NotFound("this run has proposed no such call")
