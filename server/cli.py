"""The command line: `chat-studio serve`, `user add`, `import irc`. `--help` shows an example for each."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, NoReturn

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
    from server.serving import serve as run_server

    try:
        _run(lambda: run_server(settings), settings)
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
