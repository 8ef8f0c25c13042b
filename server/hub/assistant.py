"""The assistant manager: answers of models, which belong to the room and not to whoever asked.

In:   a wish for an answer (a `run` frame, a mention, a message in an assistant conversation), and wishes to stop or
steer it.
Out:  `run.started`, deltas to everybody who watches, `run.ended`.
Promises: every run ends, once, in finished, stopped, failed or interrupted. It goes on without viewers and without
whoever asked. Its text is checkpointed each second; a run whose carrier has died is found by its lease and ended with
the text it had. Deltas are passing frames: coalesced, with offsets, never stored one by one.
"""

import asyncio
from collections.abc import Awaitable, Iterable
from contextlib import aclosing
from dataclasses import dataclass, field

from loguru import logger

from server.ai.adapter import Failed, Finished, Model, PartDelta, PartEnded, Request, Turn, Usage
from server.hub.hub import Hub
from server.hub.identity import Identity
from server.hub.message_drafts import body_hash
from server.hub.message_queue import MessageQueue
from server.hub.permissions import Permission
from server.protocol.errors import BadFrame, ChatError, NotFound, Unavailable
from server.protocol.events import MessageCreated, RunEnded, RunStarted, RunSteered
from server.protocol.frames import MAX_TEXT_LENGTH, Actor, DeltaFrame, ServerFrame
from server.protocol.ids import new_id
from server.storage.conversations import Conversations
from server.storage.message_log import Draft, Stored, data_of
from server.storage.messages import Messages
from server.storage.runs import Run, Runs
from server.telemetry import metrics

DELTA_S = 0.04  # 25 frames a second look fluent; more would only cost
CHECKPOINT_S = 1.0  # so much text at most is lost with its worker
SWEEP_S = 5.0  # with a lease of 15 s, a dead run is marked within 20 s
CONTEXT_TURNS = 40


@dataclass
class LiveRun:
    """A run carried by this process."""

    id: str
    conversation: str
    message: str
    model: str
    text: str = ""
    published: int = 0  # code points already passed on
    is_sealed: bool = False  # somebody is ending it: no more deltas
    task: asyncio.Task[None] | None = None
    usage: Usage | None = None
    instruction: str | None = None
    parts: list[dict[str, object]] = field(default_factory=list)


class Assistant:
    def __init__(
        self,
        models: Iterable[Model],
        queue: MessageQueue,
        hub: Hub,
        runs: Runs,
        messages: Messages,
        conversations: Conversations,
    ) -> None:
        self._models = {model.name: model for model in models}
        self._queue = queue
        self._hub = hub
        self._runs = runs
        self._messages = messages
        self._conversations = conversations
        self._live: dict[str, LiveRun] = {}
        self._instructions: dict[str, str] = {}  # what a steer asked for, until its run starts
        self._tasks: set[asyncio.Task[None]] = set()
        hub.live_answers_of = self.live_answers
        queue.observers.append(self._on_committed)

    @property
    def model_names(self) -> frozenset[str]:
        return frozenset(self._models)

    async def open(self) -> None:
        self._spawn(self._sweep())

    async def close(self) -> None:
        """End what this process carries, with the text it has."""
        for run in tuple(self._live.values()):
            run.is_sealed = True
            if run.task is not None:
                run.task.cancel()
            try:
                await asyncio.wait_for(self._end(run, "interrupted"), 2.0)
            except (ChatError, TimeoutError):
                pass  # the lease runs out, and whoever sweeps next finds it
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # What people ask for

    async def start(
        self, identity: Identity, conversation: str, client_id: str, *, model: str | None, message: str | None
    ) -> tuple[Stored, RunStarted]:
        """Start an answer to `message`, or to the latest; returns the stored `run.started`."""
        asked_model, asked_message = model, message
        if model is None:
            row = await self._conversations.model_of(conversation)
            model = row if row in self._models else next(iter(self._models))
        if model not in self._models:
            raise NotFound(f"there is no model named {model[:64]!r}")
        if message is None:
            message = await self._messages.latest(conversation)
        data = RunStarted(run=new_id(), message=new_id(), model=model, reply_to=message)
        draft = Draft(
            conversation, identity.actor, data, client_id, body_hash("run", asked_model, asked_message), Permission.RUN,
            target=message, account_role=identity.account_role,
        )  # fmt: skip
        stored = await self._queue.append(draft)
        return stored, data_of(stored, RunStarted)

    async def stop(self, identity: Identity, client_id: str, run: str) -> Stored:
        """End a run with what it has said so far; whoever stops it is the actor of `run.ended`."""
        found = await self._find(run)
        live = self._live.get(run)
        return await self._seal(
            found, live, identity.actor, client_id, body_hash("stop", run), Permission.STOP, identity.account_role
        )

    async def steer(self, identity: Identity, client_id: str, run: str, text: str) -> Stored:
        """Add an instruction that takes effect now: what was said is sealed as stopped, and a new run continues it."""
        if not text.strip() or len(text) > MAX_TEXT_LENGTH:
            raise BadFrame(f"an instruction has 1 to {MAX_TEXT_LENGTH} characters")
        found = await self._find(run)
        live = self._live.get(run)
        steered = await self._queue.append(
            Draft(
                found.conversation,
                identity.actor,
                RunSteered(run=run, text=text),
                client_id,
                body_hash("steer", run, text),
                Permission.STEER,
                account_role=identity.account_role,
            )
        )
        if not steered.repeat:
            await self._seal(found, live, identity.actor, None, None, None, None)
            asked = await self._messages.reply_to_of(found.conversation, found.message)
            data = RunStarted(run=new_id(), message=new_id(), model=found.model, reply_to=asked, continues=run)
            self._instructions[data.run] = text
            await self._queue.append(Draft(found.conversation, identity.actor, data))
        return steered

    async def conversation_of(self, run: str) -> str:
        return (await self._find(run)).conversation

    async def _find(self, run: str) -> Run:
        found = await self._runs.get(run)
        if found is None:
            raise NotFound("there is no such run")
        return found

    async def _seal(
        self, found: Run, live: LiveRun | None, actor: Actor, client_id: str | None, hashed: bytes | None,
        permission: str | None, account_role: str | None,
    ) -> Stored:  # fmt: skip
        was_sealed = live.is_sealed if live else False
        if live is not None:
            live.is_sealed = True
        text = live.text if live is not None else found.text
        data = RunEnded(
            run=found.id,
            message=found.message,
            status="stopped",
            text=text,
            parts=_parts(text),
            usage=_usage(live),
            cost=None,
        )
        try:
            stored = await self._queue.append(
                Draft(found.conversation, actor, data, client_id, hashed, permission, account_role=account_role)
            )
        except ChatError:
            if live is not None:
                live.is_sealed = was_sealed
            raise
        if live is not None and live.task is not None:
            live.task.cancel()
        return stored

    # What the log says

    def _on_committed(self, stored: Stored, draft: Draft) -> None:
        """A repeat is looked at too: the process that took the first one may have died before it could act."""
        match draft.data:
            case RunStarted() if not stored.repeat:
                self._carry(stored, draft.data)
            case RunEnded() if not stored.repeat:
                metrics.runs.labels(draft.data.status).inc()
            case MessageCreated() if (
                draft.actor.kind == "user" and not draft.data.people_only and draft.by_import is None
            ):
                self._answer_if_asked(stored, draft, draft.data)

    def _answer_if_asked(self, stored: Stored, draft: Draft, data: MessageCreated) -> None:
        asked = [mention.id for mention in data.mentions if mention.kind == "model" and mention.id in self._models]
        if not asked and stored.conversation_kind == "assistant":
            asked = [""]
        if asked:
            message = data_of(stored, MessageCreated).id
            for model in dict.fromkeys(asked):
                self._spawn(self._answer(stored.conversation, draft.actor, model, message))

    async def _answer(self, conversation: str, actor: Actor, model: str, message: str) -> None:
        if not model:
            wanted = await self._conversations.model_of(conversation)
            model = wanted if wanted in self._models else next(iter(self._models))
        data = RunStarted(run=new_id(), message=new_id(), model=model, reply_to=message)
        await self._queue.append(
            Draft(conversation, actor, data, f"answer:{message}:{model}"[:64], body_hash("answer", message, model))
        )

    # Carrying a run

    def _carry(self, stored: Stored, data: RunStarted) -> None:
        run = LiveRun(
            data.run, stored.conversation, data.message, data.model, instruction=self._instructions.pop(data.run, None)
        )
        self._live[run.id] = run
        run.task = self._spawn(self._run(run))

    async def _run(self, run: LiveRun) -> None:
        try:
            token = await self._runs.claim(run.id)
            if token is None:
                return
            helpers = [
                asyncio.create_task(self._publish_deltas(run)),
                asyncio.create_task(self._keep_checkpoints(run, token)),
            ]
            try:
                failure = await self._listen_to_model(run)
            finally:
                for helper in helpers:
                    helper.cancel()
                await asyncio.gather(*helpers, return_exceptions=True)
            if not run.is_sealed:
                self._publish_delta(run)
                run.is_sealed = True
                await self._end_for_certain(run, "failed" if failure else "finished", failure)
        finally:
            self._live.pop(run.id, None)

    async def _listen_to_model(self, run: LiveRun) -> Failed | None:
        request = await self._request(run)
        try:
            async with aclosing(self._models[run.model].answer(request)) as events:
                async for event in events:
                    match event:
                        case PartDelta() if not run.is_sealed:
                            run.text += event.text
                        case PartEnded():
                            run.parts.append({"kind": event.kind, "text": event.text})
                        case Usage():
                            run.usage = event
                        case Failed():
                            return event
                        case Finished():
                            return None
        except Exception:  # noqa: BLE001 - the edge of a task: reported
            logger.exception("a model broke off")
        return Failed("bad_response", "the model broke off")

    async def _request(self, run: LiveRun) -> Request:
        page = await self._messages.page(run.conversation, before=None, after=None, limit=CONTEXT_TURNS, visible_from=1)
        turns = [
            Turn("assistant" if message.actor.kind == "model" else "user", message.actor.name, message.text)
            for message in page.messages
            if message.text and not message.people_only and message.id != run.message
        ]
        if run.instruction is not None:
            turns.append(Turn("user", "instruction", run.instruction))
        return Request(run.model, tuple(turns), await self._conversations.system_prompt_of(run.conversation))

    async def _publish_deltas(self, run: LiveRun) -> None:
        while True:
            await asyncio.sleep(DELTA_S)
            self._publish_delta(run)

    def _publish_delta(self, run: LiveRun) -> None:
        if run.is_sealed or len(run.text) == run.published:
            return
        frame = _delta(run, run.published, run.text[run.published :])
        run.published = len(run.text)
        self._hub.pass_on(run.conversation, frame, droppable=False)

    async def _keep_checkpoints(self, run: LiveRun, token: str) -> None:
        while True:
            await asyncio.sleep(CHECKPOINT_S)
            try:
                is_ours = await self._runs.checkpoint(run.id, token, run.text)
            except Unavailable:
                continue  # the lease outlasts a short absence of the database
            if not is_ours and run.task is not None:
                run.is_sealed = True
                run.task.cancel()
                return

    async def _end_for_certain(self, run: LiveRun, status: str, failure: Failed | None) -> None:
        pause_s = 0.2
        while True:
            try:
                await self._end(run, status, failure)
                return
            except Unavailable:
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, 5.0)
            except ChatError:
                return  # stopped, or its conversation deleted, in the same moment

    async def _end(self, run: LiveRun, status: str, failure: Failed | None = None) -> None:
        data = RunEnded(
            run=run.id, message=run.message, status=status, text=run.text, parts=run.parts or _parts(run.text),
            usage=_usage(run), cost=None,
        )  # fmt: skip
        if failure is not None:
            data = RunEnded(
                run=run.id, message=run.message, status=status, text=run.text, parts=_parts(run.text),
                usage=_usage(run), cost=None, error={"code": "model_error", "kind": failure.kind, "message": failure.message},
            )  # fmt: skip
        await self._queue.append(Draft(run.conversation, Actor("model", run.model, run.model), data))

    # Whoever comes in the middle, and what was left behind

    def live_answers(self, conversation: str) -> list[ServerFrame]:
        """One delta from 0 for each run of the conversation, up to where the passed deltas go on."""
        return [
            _delta(run, 0, run.text[: run.published])
            for run in self._live.values()
            if run.conversation == conversation and run.published
        ]

    async def _sweep(self) -> None:
        while True:
            try:
                for run in await self._runs.abandoned():
                    if run.id not in self._live:
                        await self._end(
                            LiveRun(run.id, run.conversation, run.message, run.model, text=run.text), "interrupted"
                        )
            except ChatError:
                pass  # the database is away, or somebody else was quicker
            await asyncio.sleep(SWEEP_S)

    def _spawn(self, work: Awaitable[None]) -> asyncio.Task[None]:
        async def guarded() -> None:
            try:
                await work
            except ChatError as error:
                logger.info("a run was refused: {}", error.code)
            except Exception:  # noqa: BLE001 - the edge of a task: reported
                logger.exception("a run broke")

        task = asyncio.get_running_loop().create_task(guarded())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _delta(run: LiveRun, offset: int, text: str) -> DeltaFrame:
    return DeltaFrame(
        conversation=run.conversation, run=run.id, message=run.message, part=0, kind="text", offset=offset, text=text
    )


def _parts(text: str) -> list[dict[str, object]]:
    return [{"kind": "text", "text": text}] if text else []


def _usage(run: LiveRun | None) -> dict[str, int | bool] | None:
    if run is None or run.usage is None:
        return None
    usage = run.usage
    return {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens, "estimated": usage.estimated}
