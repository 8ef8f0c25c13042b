"""`import …`: conversations from elsewhere."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from server.commands.setting_up import DataDir, fail, settings_of, with_database

app = typer.Typer(help="Bring conversations in from elsewhere.", no_args_is_help=True)


@app.callback()
def imports() -> None:
    """A verb for each kind of source, even while there is only one."""


@app.command("irc", epilog="Example: chat-studio import irc logs/2005-05-19.txt --room ubuntu")
def import_irc(
    files: Annotated[list[Path], typer.Argument(help="IRC logs, one a day; the date stands in the file's name.")],
    room: Annotated[str, typer.Option(help="Title of the room; it is made if there is none.")],
    date: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="The day of a log whose name does not tell it.")
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Load IRC logs into a room, with authors and times. Loading the same log again adds nothing."""
    missing = [file for file in files if not file.is_file()]
    if missing:
        fail(f"there is no file {missing[0]}")
    settings = settings_of(data_dir=data_dir)

    async def load_logs(database: Any) -> str:
        from server.hub.irc_import import import_irc as load_irc

        with _progress_bar(sum(file.stat().st_size for file in files)) as progress:
            return str(await load_irc(database, files, room, progress, day=date.date() if date else None))

    print(with_database(settings, load_logs))


@contextmanager
def _progress_bar(total_bytes: int) -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal; elsewhere nothing is drawn."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), TextColumn("{task.percentage:>3.0f}%"), TextColumn("{task.fields[messages]} messages"))
    with Progress(*columns, TimeRemainingColumn(), disable=not sys.stderr.isatty(), transient=True) as bar:
        task = bar.add_task("import", total=total_bytes, messages=0)
        yield lambda done_bytes, messages: bar.update(task, completed=done_bytes, messages=messages)
