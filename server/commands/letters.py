"""`dead-letters …`: side effects that could not be done, also beside a running server."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from server.commands.setting_up import DataDir, fail, settings_of, with_database

if TYPE_CHECKING:
    from server.hub.dead_letters import DeadLetterDesk

app = typer.Typer(help="Side effects, such as webhooks, that could not be done.", no_args_is_help=True)

LetterId = Annotated[str | None, typer.Argument(metavar="ID", help="Of one dead letter, as `list` shows it.")]
AllLetters = Annotated[bool, typer.Option("--all", help="All of them, or all of --reader.")]
OfReader = Annotated[str | None, typer.Option(help="Those of one reader of the log only, such as webhooks.")]


@app.command("list", epilog="Example: chat-studio dead-letters list --reader webhooks")
def letters_list(
    reader: OfReader = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many, the latest first.")] = 50,
    data_dir: DataDir = None,
) -> None:
    """Show what could not be delivered, one a line; also beside a running server."""

    async def listed(database: Any) -> str:
        from server.hub.dead_letters import as_lines

        return as_lines(
            await _letters_of(database).page(reader=reader, target=None, conversation=None, page=1, page_size=limit)
        )

    print(with_database(settings_of(data_dir=data_dir), listed))


@app.command("retry", epilog="Example: chat-studio dead-letters retry --all")
def letters_retry(
    letter: LetterId = None, all_: AllLetters = False, reader: OfReader = None, data_dir: DataDir = None
) -> None:
    """Have one tried again, or all, by the server that runs now or starts next."""
    _check_one_or_all(letter, all_, reader)

    async def retried(database: Any) -> str:
        if letter is None:
            return f"{await _letters_of(database).retry_all(reader)} will be tried again"
        return f"{(await _letters_of(database).retry(letter)).id} will be tried again"

    print(with_database(settings_of(data_dir=data_dir), retried))


@app.command("delete", epilog="Example: chat-studio dead-letters delete --all --reader webhooks")
def letters_delete(
    letter: LetterId = None, all_: AllLetters = False, reader: OfReader = None, data_dir: DataDir = None
) -> None:
    """Delete one, or all."""
    _check_one_or_all(letter, all_, reader)

    async def deleted(database: Any) -> str:
        if letter is None:
            return f"{await _letters_of(database).delete_all(reader)} deleted"
        await _letters_of(database).delete(letter)
        return f"{letter} deleted"

    print(with_database(settings_of(data_dir=data_dir), deleted))


def _letters_of(database: Any) -> "DeadLetterDesk":
    from server.hub.dead_letters import DeadLetterDesk
    from server.storage.dead_letters import DeadLetters

    return DeadLetterDesk(DeadLetters(database))


def _check_one_or_all(letter: str | None, all_: bool, reader: str | None) -> None:
    if (letter is None) != all_ or (letter is not None and reader is not None):
        fail("name one dead letter, or say --all (with --reader for those of one reader)")
