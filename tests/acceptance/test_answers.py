"""What a room sees of an answer that is more than words."""

import asyncio
from collections.abc import AsyncGenerator

from server.ai.adapter import AnswerEvent, Finished, PartDelta, PartEnded, PartStarted, Request, Usage
from server.ai.failures import failed
from server.storage.database import Database
from tests.running_studio import run_studio


class Thinker:
    """Is busy once, then thinks, speaks, and refuses the rest."""

    name = "thinker"

    def __init__(self) -> None:
        self.asked = 0

    async def answer(self, request: Request) -> AsyncGenerator[AnswerEvent, None]:
        self.asked += 1
        if self.asked == 1:
            yield failed("overloaded", retry_after_s=0.0)
            return
        for index, (kind, text) in enumerate([("reasoning", "secretly"), ("text", "Hello"), ("refusal", "no more")]):
            yield PartStarted(index, kind)  # type: ignore[arg-type]
            for letter in text:
                await asyncio.sleep(0.01)
                yield PartDelta(index, letter)
            yield PartEnded(index, kind, text)  # type: ignore[arg-type]
        yield Usage(3, 7)
        yield Finished()


async def test_thoughts_are_kept_apart_from_the_text(database: Database) -> None:
    model = Thinker()
    async with run_studio(database, models=[model]) as studio:
        ana = await studio.person("ana")
        room = await ana.room()
        async with ana.socket("/ws", room) as hers:
            await hers.say(room, "@thinker hello")
            ended = (await hers.event("run.ended"))["data"]
            assert (ended["status"], ended["text"]) == ("finished", "Hello\n\nno more")
            assert ended["usage"] == {"input_tokens": 3, "output_tokens": 7, "estimated": False}
            assert [part["kind"] for part in ended["parts"]] == ["reasoning", "text", "refusal"]
            assert "".join(frame["text"] for frame in hers.of_type("delta")) == "Hello\n\nno more"
    assert model.asked == 2
