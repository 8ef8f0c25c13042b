"""`serve`, and the hidden `worker` that it starts when there are several."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from server.commands.setting_up import DataDir, fail, settings_of


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on. [default: 127.0.0.1]")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one. [default: 8000]")] = None,
    data_dir: DataDir = None,
    workers: Annotated[int | None, typer.Option(help="Processes that share the port. [default: 1]")] = None,
) -> None:
    """Start the studio; Ctrl-C or SIGTERM stops it."""
    settings = settings_of(host=host, port=port, data_dir=data_dir, workers=workers)
    from server.serving import StartError
    from server.serving import serve as serve_alone
    from server.workers import serve_workers

    try:
        _run(lambda: (serve_workers if settings.workers > 1 else serve_alone)(settings))
    except StartError as error:
        fail(str(error))


def worker(
    number: Annotated[int, typer.Option()],
    listener: Annotated[int, typer.Option(help="Descriptor of the inherited socket.")],
    directory: Annotated[Path, typer.Option(help="Where the workers find each other.")],
    host: Annotated[str, typer.Option()],
    port: Annotated[int, typer.Option()],
    data_dir: Annotated[Path, typer.Option()],
    workers: Annotated[int, typer.Option()],
) -> None:
    """One of several workers; `serve --workers` starts it."""
    settings = settings_of(host=host, port=port, data_dir=data_dir, workers=workers)
    from server.serving import StartError
    from server.workers import serve_as_worker

    try:
        _run(lambda: serve_as_worker(settings, number, listener, directory))
    except StartError as error:
        fail(str(error))


def _run(work: Callable[[], Awaitable[None]]) -> None:
    new_loop: Callable[[], asyncio.AbstractEventLoop] | None = None
    with suppress(ImportError):
        from uvloop import new_event_loop as new_loop
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(work())  # type: ignore[arg-type]
