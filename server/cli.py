"""The command line: `chat-studio serve`, `user add`, `import irc`, `backup`, `restore`, `upgrade-data`. `--help` shows an example for each."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import typer

from server import __version__
from server.settings import Settings, SettingsError, load

app = typer.Typer(
    name="chat-studio",
    help="A self-hosted, real-time chat studio: people and AI models talk in the same rooms.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
user_app = typer.Typer(help="Accounts, also beside a running server.", no_args_is_help=True)
import_app = typer.Typer(help="Bring conversations in from elsewhere.", no_args_is_help=True)
app.add_typer(user_app, name="user")
app.add_typer(import_app, name="import")

T = TypeVar("T")
DataDir = Annotated[Path | None, typer.Option(help="Where the studio's own Postgres and files live. [default: data]")]


@app.command(epilog="Example: chat-studio serve --port 9000 --data-dir /var/lib/chat-studio")
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on. [default: 127.0.0.1]")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one. [default: 8000]")] = None,
    data_dir: DataDir = None,
    workers: Annotated[int | None, typer.Option(help="Processes that share the port. [default: 1]")] = None,
) -> None:
    """Start the studio; Ctrl-C or SIGTERM stops it."""
    settings = _settings(host=host, port=port, data_dir=data_dir, workers=workers)
    from server.serving import StartError
    from server.serving import serve as serve_alone
    from server.workers import serve_workers

    try:
        _run(lambda: (serve_workers if settings.workers > 1 else serve_alone)(settings), settings)
    except StartError as error:
        _fail(str(error))


@app.command(hidden=True)
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
    settings = _settings(host=host, port=port, data_dir=data_dir, workers=workers)
    from server.serving import StartError
    from server.workers import serve_as_worker

    try:
        _run(lambda: serve_as_worker(settings, number, listener, directory), settings)
    except StartError as error:
        _fail(str(error))


@user_app.command("add", epilog="Example: chat-studio user add ana --role member")
def user_add(
    name: Annotated[str, typer.Argument(help="1 to 32 letters, digits or ._-[]{}^|\\")],
    role: Annotated[str, typer.Option(help="admin, member or guest.")] = "member",
    data_dir: DataDir = None,
) -> None:
    """Add an account; the password comes from a prompt, or from standard input."""
    if role not in ("admin", "member", "guest"):
        _fail(f"--role is admin, member or guest, not {role!r}")
    settings = _settings(data_dir=data_dir)
    if sys.stdin.isatty():
        password: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    else:
        password = sys.stdin.readline().rstrip("\r\n")

    async def add(database: Any) -> str:
        from server.hub.accounts import Accounts

        async def no_sockets(_: object) -> None:
            """A new account has none."""

        user = await Accounts(database, registration="closed", on_grants_ended=no_sockets).create_user(
            name, password, role
        )
        return f"{user.username} ({user.role}) was added"

    print(_with_database(settings, add))


@import_app.command("irc", epilog="Example: chat-studio import irc logs/2005-05-19.txt --room ubuntu")
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
        _fail(f"there is no file {missing[0]}")
    settings = _settings(data_dir=data_dir)

    async def load_logs(database: Any) -> str:
        from server.hub.irc_import import import_irc as load_irc

        with _progress_bar(sum(file.stat().st_size for file in files)) as progress:
            return str(await load_irc(database, files, room, progress, day=date.date() if date else None))

    print(_with_database(settings, load_logs))


@app.command(epilog="Example: chat-studio backup /backups/studio-2026-11-22.tar")
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


@app.command(epilog="Example: chat-studio restore /backups/studio-2026-11-22.tar --data-dir /var/lib/chat-studio")
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


@app.command("upgrade-data", epilog="Example: chat-studio upgrade-data --old-bin /usr/lib/postgresql/15/bin")
def upgrade_data(
    old_bin: Annotated[
        Path | None, typer.Option(help="Folder with the `postgres` that made the data. [default: looked for]")
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Bring a data directory of an older PostgreSQL to the version that this studio runs."""
    from server.storage.upgrade_data import upgrade_data as upgrade

    place = _place(data_dir)
    if place.database_url is not None:
        _fail("DATABASE_URL names a Postgres that is not ours; upgrade-data is for the one in the data directory")
    with _work_bar("upgrade") as report:
        line = _finish(upgrade(place.data_dir, old_bin, report, place.log))
    print(line)


@app.command(epilog="Example: chat-studio version")
def version() -> None:
    """Show the version."""
    print(__version__)


def main() -> None:
    app()


def _settings(**given: Any) -> Settings:
    from server.telemetry import error_reports, logs

    try:
        settings = load(**given)
    except SettingsError as error:
        _fail(str(error))
    is_text = settings.log_format == "text" or (settings.log_format == "auto" and logs.is_terminal())
    logs.configure(settings.log_level, as_json=not is_text)
    error_reports.start(settings.sentry_dsn, __version__)
    return settings


def _with_database(settings: Settings, work: Callable[[Any], Awaitable[str]]) -> str:
    """Run `work` on the studio's database, beside a running server or alone."""
    from server.protocol.errors import ChatError
    from server.storage.database import Database
    from server.storage.embedded_postgres import EmbeddedPostgres, PostgresError
    from server.storage.schema import SchemaError, bring_up_to_date

    async def run() -> str:
        postgres = None if settings.database_url else EmbeddedPostgres(settings.data_dir)
        dsn = settings.database_url or await postgres.start()  # type: ignore[union-attr]
        try:
            await bring_up_to_date(dsn)
            database = Database(dsn)
            await database.open()
            try:
                return await work(database)
            finally:
                await database.close()
        finally:
            if postgres is not None:
                await postgres.stop()

    try:
        return asyncio.run(run())
    except ChatError as error:
        _fail(error.detail)
    except (PostgresError, SchemaError, OSError) as error:
        _fail(str(error))


def _place(data_dir: Path | None) -> Any:
    from loguru import logger

    from server.storage.backup.commands import Place

    settings = _settings(data_dir=data_dir)
    return Place(settings.database_url, settings.data_dir, logger.info)


def _finish(work: Coroutine[Any, Any, T]) -> T:
    """The result of long work on the data; what keeps it from its end is one line."""
    from server.storage.backup import BackupError
    from server.storage.embedded_postgres import PostgresError
    from server.storage.schema import SchemaError

    try:
        return asyncio.run(work)
    except (BackupError, PostgresError, SchemaError, OSError) as error:
        _fail(str(error))
    except KeyboardInterrupt:
        _fail("stopped before the end; nothing was changed")


@contextmanager
def _work_bar(name: str) -> Iterator[Callable[[int, int | None, str], None]]:
    """Takes bytes done, bytes in all where they are known, and what is being done."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(), DownloadColumn(), TimeElapsedColumn(), TextColumn("{task.fields[what]}"))
    with Progress(*columns, disable=not sys.stderr.isatty(), transient=True) as bar:
        task = bar.add_task(name, total=None, what="")
        yield lambda done_bytes, total, what: bar.update(task, completed=done_bytes, total=total, what=what)


@contextmanager
def _progress_bar(total_bytes: int) -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal; elsewhere nothing is drawn."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), TextColumn("{task.percentage:>3.0f}%"), TextColumn("{task.fields[messages]} messages"))
    with Progress(*columns, TimeRemainingColumn(), disable=not sys.stderr.isatty(), transient=True) as bar:
        task = bar.add_task("import", total=total_bytes, messages=0)
        yield lambda done_bytes, messages: bar.update(task, completed=done_bytes, messages=messages)


def _run(work: Callable[[], Awaitable[None]], settings: Settings) -> None:
    try:
        import uvloop

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(work())  # type: ignore[arg-type]
    except ImportError:
        asyncio.run(work())  # type: ignore[arg-type]


def _fail(line: str) -> NoReturn:
    """One line on standard error, and out."""
    typer.echo(f"chat-studio: {line}", err=True)
    raise typer.Exit(2)
