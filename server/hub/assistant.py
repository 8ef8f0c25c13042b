"""The assistant manager: answers of models, which belong to the room and not to whoever asked.

In:   a wish for an answer (a `run` frame, a mention, a message in an assistant conversation), and wishes to stop or
      steer it.
Out:  `run.started`, `run.steered` and `run.ended` in the log; in between the run carrier listens to the model.
Promises: any member with the right watches from the middle, stops and steers; each act is an event, a run ends once.
"""

import asyncio

from server.hub.hub import Hub
from server.hub.identity import Identity
from server.hub.message_drafts import body_hash
from server.hub.message_queue import MessageQueue
from server.hub.model_catalog import ModelCatalog
from server.hub.permissions import Permission
from server.hub.run_carrier import LiveRun, RunCarrier
from server.protocol.errors import BadFrame, ChatError, NotFound, TooLarge
from server.protocol.events import MessageCreated, MessageDeleted, RunEnded, RunStarted, RunSteered
from server.protocol.frames import MAX_TEXT_LENGTH, Actor
from server.protocol.ids import is_id, new_id
from server.storage.conversations import Conversations
from server.storage.message_log import Draft, Stored, data_of
from server.storage.messages import Messages
from server.storage.runs import Run, Runs
from server.telemetry import metrics


class Assistant:
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
        self._runs = runs
        self._messages = messages
        self._conversations = conversations
        self._carrier = RunCarrier(self._models, queue, hub, runs, messages, conversations)
        self._instructions: dict[str, str] = {}  # what a steer asked for, until its run starts
        queue.observers.append(self._on_committed)

    async def open(self) -> None:
        await self._carrier.open()

    async def settle(self) -> None:
        """Return when every answer that this process carries has ended."""
        while not self._carrier.is_idle:
            await asyncio.sleep(0.05)

    async def close(self) -> None:
        await self._carrier.close()

    # What people ask for

    async def start(
        self, identity: Identity, conversation: str, client_id: str, *, model: str | None, message: str | None
    ) -> tuple[Stored, RunStarted]:
        """Start an answer to `message`, or to the latest; returns the stored `run.started`."""
        if not is_id(conversation):
            raise NotFound("there is no such conversation")
        asked_model, asked_message = model, message
        if model is None:
            model = await self._model_for(conversation)
        await self._models.targets(model, user=identity.user_id, conversation=conversation)
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
        return await self._seal(
            await self._find(run),
            identity.actor,
            client_id,
            body_hash("stop", run),
            Permission.STOP,
            identity.account_role,
        )

    async def steer(self, identity: Identity, client_id: str, run: str, text: str) -> Stored:
        """Add an instruction that takes effect now: what was said is sealed as stopped, and a new run continues it."""
        if not text.strip():
            raise BadFrame("an instruction has a text")
        if len(text) > MAX_TEXT_LENGTH:
            raise TooLarge(f"an instruction may have {MAX_TEXT_LENGTH} characters")
        found = await self._find(run)
        draft = Draft(
            found.conversation,
            identity.actor,
            RunSteered(run=run, text=text),
            client_id,
            body_hash("steer", run, text),
            Permission.STEER,
            account_role=identity.account_role,
        )
        steered = await self._queue.append(draft)
        if not steered.repeat:
            await self._continue(found, identity.actor, text)
        return steered

    async def conversation_of(self, run: str) -> str:
        return (await self._find(run)).conversation

    async def _continue(self, found: Run, actor: Actor, instruction: str) -> None:
        await self._seal(found, actor, None, None, None, None)
        asked = await self._messages.reply_to_of(found.conversation, found.message)
        data = RunStarted(run=new_id(), message=new_id(), model=found.model, reply_to=asked, continues=found.id)
        self._instructions[data.run] = instruction
        await self._queue.append(Draft(found.conversation, actor, data))

    async def _find(self, run: str) -> Run:
        found = await self._runs.get(run)
        if found is None:
            raise NotFound("there is no such run")
        return found

    async def _model_for(self, conversation: str) -> str:
        """The conversation's own model, else the one that answers where none is named."""
        wanted = await self._conversations.model_of(conversation)
        return (
            wanted if wanted in self._models.names else await self._models.default(user=None, conversation=conversation)
        )

    async def _seal(
        self,
        found: Run,
        actor: Actor,
        client_id: str | None,
        hashed: bytes | None,
        permission: str | None,
        account_role: str | None,
    ) -> Stored:
        """End a run as stopped. While that is being decided no deltas go out; a refusal lets it go on."""
        live = self._carrier.live(found.id)
        ending = live or LiveRun(found.id, found.conversation, found.message, found.model, text=found.text)
        was_sealed, ending.is_sealed = ending.is_sealed, True
        draft = Draft(
            found.conversation, actor, ending.ended("stopped"), client_id, hashed, permission, account_role=account_role
        )
        try:
            stored = await self._queue.append(draft)
        except ChatError:
            ending.is_sealed = was_sealed
            raise
        if live is not None and live.task is not None:
            live.task.cancel()
        return stored

    # What the log says

    def _on_committed(self, stored: Stored, draft: Draft) -> None:
        """A repeated message is looked at too: the process that took it first may have died before it could act."""
        match draft.data:
            case RunStarted() if not stored.repeat:
                instruction = self._instructions.pop(draft.data.run, None)
                self._carrier.carry(stored.conversation, draft.data, draft.actor.id, instruction)
            case RunEnded() if not stored.repeat:
                metrics.runs.labels(draft.data.status).inc()
            case MessageDeleted() if not stored.repeat:
                self._carrier.message_deleted(draft.data.id)
            case MessageCreated() if draft.actor.kind == "user" and not draft.data.people_only:
                self._answer_if_asked(stored, draft, draft.data)

    def _answer_if_asked(self, stored: Stored, draft: Draft, data: MessageCreated) -> None:
        asked = [
            mention.id for mention in data.mentions if mention.kind == "model" and mention.id in self._models.names
        ]
        if not asked and stored.conversation_kind == "assistant":
            asked = [""]
        if asked:
            message = stored.message or data.id
            for model in dict.fromkeys(asked):
                self._carrier.spawn(self._answer(stored.conversation, draft.actor, model, message))

    async def _answer(self, conversation: str, actor: Actor, model: str, message: str) -> None:
        if not model:
            model = await self._model_for(conversation)
        data = RunStarted(run=new_id(), message=new_id(), model=model, reply_to=message)
        await self._queue.append(
            Draft(conversation, actor, data, f"answer:{message}:{model}"[:64], body_hash("answer", message, model))
        )
