"""`user …`: accounts, also beside a running server."""

import sys
from typing import Annotated, Any

import typer

from server.commands.setting_up import DataDir, fail, settings_of, with_database

app = typer.Typer(help="Accounts, also beside a running server.", no_args_is_help=True)


@app.command("add", epilog="Example: chat-studio user add ana --role member")
def user_add(
    name: Annotated[str, typer.Argument(help="1 to 32 letters, digits or ._-[]{}^|\\")],
    role: Annotated[str, typer.Option(help="admin, member or guest.")] = "member",
    data_dir: DataDir = None,
) -> None:
    """Add an account; the password comes from a prompt, or from standard input."""
    if role not in ("admin", "member", "guest"):
        fail(f"--role is admin, member or guest, not {role!r}")
    settings = settings_of(data_dir=data_dir)
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

    print(with_database(settings, add))
