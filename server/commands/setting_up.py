"""What every command needs: its settings, the studio's database, and one plain line when something is in the way."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from server import __version__
from server.settings import Settings, SettingsError, load

DataDir = Annotated[Path | None, typer.Option(help="Where the studio's own Postgres and files live. [default: data]")]


def settings_of(**given: Any) -> Settings:
    from server.telemetry import error_reports, logs

    try:
        settings = load(**given)
    except SettingsError as error:
        fail(str(error))
    is_text = settings.log_format == "text" or (settings.log_format == "auto" and logs.is_terminal())
    logs.configure(settings.log_level, as_json=not is_text)
    error_reports.start(settings.sentry_dsn, __version__)
    return settings


def with_database(settings: Settings, work: Callable[[Any], Awaitable[str]]) -> str:
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
        fail(error.detail)
    except (PostgresError, SchemaError, OSError) as error:
        fail(str(error))


def fail(line: str) -> NoReturn:
    """One line on standard error, and out."""
    typer.echo(f"chat-studio: {line}", err=True)
    raise typer.Exit(2)
