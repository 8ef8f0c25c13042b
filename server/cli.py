"""The command line, `chat-studio`: which verbs there are. Each lives in server/commands; `--help` shows an example."""

import typer

from server import __version__
from server.commands import data_care, imports, letters, serve, users

app = typer.Typer(
    name="chat-studio",
    help="A self-hosted, real-time chat studio: people and AI models talk in the same rooms.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command(epilog="Example: chat-studio serve --port 9000 --data-dir /var/lib/chat-studio")(serve.serve)
app.command(hidden=True)(serve.worker)
app.add_typer(users.app, name="user")
app.add_typer(imports.app, name="import")
app.add_typer(letters.app, name="dead-letters")
app.command(epilog="Example: chat-studio backup /backups/studio-2026-11-22.tar")(data_care.backup)
app.command(epilog="Example: chat-studio restore /backups/studio-2026-11-22.tar --data-dir /var/lib/chat-studio")(
    data_care.restore
)
app.command("upgrade-data", epilog="Example: chat-studio upgrade-data --old-bin /usr/lib/postgresql/15/bin")(
    data_care.upgrade_data
)


@app.command(epilog="Example: chat-studio version")
def version() -> None:
    """Show the version."""
    typer.echo(__version__)


def main() -> None:
    app()
