"""The progress bar of an import: on a terminal, a bar that moves; elsewhere nothing, so that logs stay short."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from server.hub.irc_import import Progress as Told


@contextmanager
def progress_bar() -> Iterator[Told]:
    console = Console(stderr=True)
    columns = (BarColumn(), TextColumn("{task.percentage:>3.0f} %"), TextColumn("{task.fields[messages]:,} messages"))
    with Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None, messages=0)

        def show(bytes_read: int, bytes_in_all: int, messages: int) -> None:
            bar.update(task, completed=bytes_read, total=bytes_in_all, messages=messages)

        yield show
