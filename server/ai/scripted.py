"""The built-in `demo` model: answers without any provider, word by word, and says that it is a demo.

It ships as the model of a studio that has none yet, and as the double that tests stream from. `pace_s` is the time
between two words; `script` replaces what it says.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Callable

from server.ai.adapter import AnswerEvent, Finished, PartDelta, PartEnded, PartStarted, Request, Usage

DEMO = "demo"
PACE_S = 0.03  # about 30 words a second: the pace of a quick hosted model

Script = Callable[[Request], str]


class ScriptedModel:
    def __init__(self, name: str = DEMO, *, script: Script | None = None, pace_s: float = PACE_S) -> None:
        self.name = name
        self._script = script or introduce
        self._pace_s = pace_s

    async def answer(self, request: Request) -> AsyncGenerator[AnswerEvent, None]:
        text = self._script(request)
        yield PartStarted(0, "text")
        words = re.findall(r"\S+\s*", text)
        for word in words:
            await asyncio.sleep(self._pace_s)
            yield PartDelta(0, word)
        yield PartEnded(0, "text", text)
        asked = sum(len(turn.text.split()) for turn in request.turns)
        yield Usage(input_tokens=asked, output_tokens=len(words), estimated=True)
        yield Finished()


def introduce(request: Request) -> str:
    """What the demo says: it repeats the question, so that one sees it was heard, and tells what it cannot do."""
    last = next((turn for turn in reversed(request.turns) if turn.role == "user"), None)
    heard = re.sub(r"@demo\b[,:]?\s*", "", last.text).strip() if last else ""
    lines = []
    if last and heard:
        quoted = heard if len(heard) <= 280 else heard[:280].rstrip() + " …"
        lines.append(f"{last.author}, you wrote:\n\n> " + quoted.replace("\n", "\n> "))
    lines.append(
        "I am the **demo model** that comes with Chat Studio. I am a script, not an AI: I can show how an answer "
        "streams into a room, but I cannot think about it."
    )
    lines.append(
        "Everybody here sees these words arrive at the same time, and every member may stop me in the middle. Close "
        "the page and come back: the answer goes on without you."
    )
    return "\n\n".join(lines)
