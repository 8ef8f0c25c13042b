"""`backup`, `restore`, `upgrade-data`: care for what a studio has written."""

import asyncio
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from server.commands.setting_up import DataDir, fail, settings_of

T = TypeVar("T")


def backup(
    file: Annotated[Path, typer.Argument(help="The archive to write.")],
    force: Annotated[bool, typer.Option("--force", help="Replace a file of that name.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Write everything into one archive, also beside a running server."""
    from server.storage.backup import commands

    place = _place(data_dir)
    with _work_bar("backup") as report:
        made = _finish(commands.back_up(place, file, replace=force, report=report))
    size_mb = file.stat().st_size / 1e6
    print(f"{file}: {made.rows:,} rows and {len(made.files):,} files as of {made.created_at}, {size_mb:,.1f} MB")


def restore(
    file: Annotated[Path, typer.Argument(help="An archive that `chat-studio backup` made.")],
    force: Annotated[bool, typer.Option("--force", help="Replace the studio that is there.")] = False,
    disconnect: Annotated[
        bool, typer.Option("--disconnect", help="Cut servers that run on this database off, instead of refusing.")
    ] = False,
    end_sessions: Annotated[
        bool, typer.Option("--end-sessions", help="Everybody has to sign in again, programs too.")
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Put an archive back: into a new data directory, an empty database, or with --force over a studio."""
    from server.storage.backup import commands
    from server.storage.backup.replace import Wishes

    place = _place(data_dir)
    wishes = Wishes(replaces=force, disconnects=disconnect, ends_sessions=end_sessions)
    with _work_bar("restore") as report:
        made = _finish(commands.put_back(place, file, wishes, report))
    print(f"restored {made.rows:,} rows and {len(made.files):,} files as of {made.created_at}")


def upgrade_data(
    old_bin: Annotated[
        Path | None, typer.Option(help="Folder with the `postgres` that made the data. [default: looked for]")
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Bring a data directory of an older PostgreSQL to the version that this studio runs."""
    from loguru import logger

    from server.storage.upgrade_data import upgrade_data as upgrade

    place = _place(data_dir)
    if place.database_url is not None:
        fail("DATABASE_URL names a Postgres that is not ours; upgrade-data is for the one in the data directory")
    with _work_bar("upgrade") as report:
        line = _finish(upgrade(place.data_dir, old_bin, report, logger.info))
    print(line)


def _place(data_dir: Path | None) -> Any:
    from server.storage.backup.commands import Place

    settings = settings_of(data_dir=data_dir)
    return Place(settings.database_url, settings.data_dir)


def _finish(work: Coroutine[Any, Any, T]) -> T:
    """The result of long work on the data; what keeps it from its end is one line."""
    from server.storage.backup import BackupError
    from server.storage.embedded_postgres import PostgresError
    from server.storage.schema import SchemaError

    try:
        return asyncio.run(work)
    except (BackupError, PostgresError, SchemaError, OSError) as error:
        fail(str(error))
    except KeyboardInterrupt:
        # In the last moment it may have been done already; and a Ctrl-C cannot tell.
        fail("stopped before the end was reported: most likely nothing was changed; repeat the command to be sure")


@contextmanager
def _work_bar(name: str) -> Iterator[Callable[[int, int | None, str], None]]:
    """Takes bytes done, bytes in all where they are known, and what is being done."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(), DownloadColumn(), TimeElapsedColumn(), TextColumn("{task.fields[what]}"))
    with Progress(*columns, disable=not sys.stderr.isatty(), transient=True) as bar:
        task = bar.add_task(name, total=None, what="")
        yield lambda done_bytes, total, what: bar.update(task, completed=done_bytes, total=total, what=what)
