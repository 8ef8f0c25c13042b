"""Carrying runs: listening to a model for as long as its answer takes, whoever watches.

In:   runs that have just started, or that another process left behind.
Out:  deltas to everybody who watches, a checkpoint each second, and `run.ended`.
Promises: every run that is carried ends, once. A run holds a lease; whoever lost it stops at once, and a run whose
lease has run out is found and ended as interrupted with the text it had. Deltas are passing frames: coalesced, with
offsets, never stored one by one; without viewers none are sent and the run goes on.
"""

import asyncio
from collections.abc import Awaitable
from contextlib import aclosing, suppress
from dataclasses import dataclass, field

from loguru import logger
from msgspec import UNSET

from server.ai.adapter import Failed, Finished, PartDelta, PartEnded, PartStarted, Request, Usage, said
from server.ai.fallback import answer_of
from server.hub.hub import Hub
from server.hub.message_queue import MessageQueue
from server.hub.model_catalog import ModelCatalog
from server.protocol.errors import ChatError
from server.protocol.events import RunEnded, RunStarted
from server.protocol.frames import Actor, DeltaFrame, ServerFrame
from server.storage.conversations import Conversations
from server.storage.message_log import Draft
from server.storage.messages import Messages
from server.storage.runs import Run, Runs

DELTA_S = 0.04  # 25 frames a second look fluent; more would only cost
CHECKPOINT_S = 1.0  # so much text at most is lost with its worker
SWEEP_S = 5.0  # with a lease of 15 s, a dead run is marked within 20 s
CLOSE_TIMEOUT_S = 2.0
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
    instruction: str | None = None  # what a steer asked for
    asked_by: str | None = None
    parts: list[dict[str, object]] = field(default_factory=list)

    def ended(self, status: str, failure: Failed | None = None) -> RunEnded:
        """The event that ends it, with what it has said so far."""
        is_whole = status == "finished" and bool(self.parts)
        usage = self.usage
        return RunEnded(
            run=self.id,
            message=self.message,
            status=status,
            text=self.text,
            parts=self.parts if is_whole else ([{"kind": "text", "text": self.text}] if self.text else []),
            usage=None
            if usage is None
            else {
                "input_tokens": usage.input_tokens,
                "output_tokens": usage.output_tokens,
                "estimated": usage.estimated,
            },
            cost=None,
            error=UNSET
            if failure is None
            else {"code": "model_error", "kind": failure.kind, "message": failure.message},
        )


class RunCarrier:
    def __init__(
        self,
        models: ModelCatalog,
        queue: MessageQueue,
        hub: Hub,
        runs: Runs,
        messages: Messages,
        conversations: Conversations,
    ) -> None:
        self._models = models
        self._queue = queue
        self._hub = hub
        self._runs = runs
        self._messages = messages
        self._conversations = conversations
        self._live: dict[str, LiveRun] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        hub.live_answers_of = self.live_answers

    def live(self, run: str) -> LiveRun | None:
        """The run, when this process carries it."""
        return self._live.get(run)

    @property
    def is_idle(self) -> bool:
        """Whether this process carries no run."""
        return not self._live

    def live_answers(self, conversation: str) -> list[ServerFrame]:
        """One delta from 0 for each run of the conversation, up to where the passed deltas go on."""
        return [
            _delta(run, 0, run.text[: run.published])
            for run in self._live.values()
            if run.conversation == conversation and run.published
        ]

    def carry(self, conversation: str, data: RunStarted, asked_by: str, instruction: str | None) -> None:
        run = LiveRun(data.run, conversation, data.message, data.model, instruction=instruction, asked_by=asked_by)
        self._live[run.id] = run
        run.task = self.spawn(self._run(run))

    def message_deleted(self, message: str) -> None:
        """Whoever deletes a message that is still being written has heard enough of it."""
        for run in self._live.values():
            if run.message == message and not run.is_sealed:
                run.is_sealed, run.text = True, ""
                if run.task is not None:
                    run.task.cancel()
                self.spawn(self._end_for_certain(run, "stopped", None))

    async def open(self) -> None:
        self.spawn(self._sweep())

    async def close(self) -> None:
        """End what this process carries, with the text it has."""
        for run in tuple(self._live.values()):
            run.is_sealed = True
            if run.task is not None:
                run.task.cancel()
            with suppress(ChatError, TimeoutError):  # the lease runs out, and whoever sweeps next finds it
                await asyncio.wait_for(self._end(run, "interrupted"), CLOSE_TIMEOUT_S)
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

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
        spoken: set[int] = set()  # thoughts and calls of tools are parts of the answer and not of its text
        try:
            targets = await self._models.targets(run.model, user=run.asked_by, conversation=run.conversation)
            async with aclosing(answer_of(targets, request)) as events:
                async for event in events:
                    match event:
                        case PartStarted(kind="text" | "refusal"):
                            # A room reads one message, however many parts the model made of it.
                            run.text += "\n\n" if run.text else ""
                            spoken.add(event.index)
                        case PartDelta() if event.index in spoken:
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
        # A model must not tell somebody what was said before they came.
        first = await self._conversations.visible_from(run.conversation, run.asked_by)
        page = await self._messages.page(
            run.conversation, before=None, after=None, limit=CONTEXT_TURNS, visible_from=first
        )
        turns = [
            said("assistant" if message.actor.kind == "model" else "user", message.actor.name, message.text)
            for message in page.messages
            if message.text and not message.people_only and message.id != run.message
        ]
        if run.instruction is not None:
            turns.append(said("user", "instruction", run.instruction))
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
            except ChatError:
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
            except ChatError as error:
                if not error.retryable:
                    return  # stopped, or its conversation deleted, in the same moment
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, 5.0)

    async def _end(self, run: LiveRun, status: str, failure: Failed | None = None) -> None:
        actor = Actor("model", run.model, run.model)
        await self._queue.append(Draft(run.conversation, actor, run.ended(status, failure)))

    async def _sweep(self) -> None:
        while True:
            try:
                for run in await self._runs.abandoned():
                    if run.id not in self._live:
                        await self._interrupt(run)
            except ChatError:
                pass  # the database is away; the runs wait
            except Exception:  # noqa: BLE001 - the sweep must not end
                logger.exception("abandoned runs could not be looked for")
            await asyncio.sleep(SWEEP_S)

    async def _interrupt(self, run: Run) -> None:
        """One that cannot be ended must not keep the others from it."""
        try:
            await self._end(LiveRun(run.id, run.conversation, run.message, run.model, text=run.text), "interrupted")
        except ChatError as error:
            logger.info("run {} could not be marked: {}", run.id, error.code)

    def spawn(self, work: Awaitable[None]) -> asyncio.Task[None]:
        """Run `work` as a task of ours; what breaks it is reported."""

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
