"""What the README shows works as it stands there."""

import asyncio
import re
import sys
from pathlib import Path

from tests.running_studio import PASSWORD, RunningStudio

README = Path(__file__).parents[2] / "README.md"


def block(language: str, holding: str) -> str:
    """The fenced block of this language that holds a certain word."""
    found: list[str] = re.findall(rf"```{language}\n(.*?)```", README.read_text(), re.DOTALL)
    (one,) = [text for text in found if holding in text]
    return one


async def test_the_program_in_ten_lines_sends_a_message(studio: RunningStudio) -> None:
    ana = await studio.person("ana")
    room = await ana.room()
    program = block("python", "websockets").replace("127.0.0.1:8000", f"127.0.0.1:{studio.port}")
    assert PASSWORD in program
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "error", "-c", program, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await asyncio.wait_for(child.communicate(), 30)
    assert child.returncode == 0, output.decode()
    assert "'type': 'ack'" in output.decode()
    page = await ana.call("GET", f"/api/conversations/{room}/messages", expect=200)
    assert [message["text"] for message in page["messages"]] == ["hello"]


def test_every_setting_the_readme_names_exists_and_every_setting_is_named() -> None:
    from server.settings import Settings

    text = README.read_text().partition("## Settings")[2].partition("\n## ")[0]
    named = {name.lower() for name in re.findall(r"`([A-Z_]{3,})`", text)} - {"chat_studio_"}
    assert named == set(Settings.model_fields)
