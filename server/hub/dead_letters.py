"""Dead letters, as an admin sees them: what could not be delivered, to be tried again or deleted.

No text of any conversation is shown here: an admin need not be a member of it.
"""

from datetime import datetime

from server.hub.log_readers import LogReaders
from server.protocol.clock import rfc3339
from server.protocol.errors import Conflict, NotFound
from server.protocol.ids import is_id
from server.protocol.webhooks import DeadLetterPage, DeadLetterView
from server.storage.dead_letters import DeadLetter, DeadLetters


class DeadLetterDesk:
    """Without `readers` (the command line, beside a running server) the server finds by itself what it is to retry."""

    def __init__(self, letters: DeadLetters, readers: LogReaders | None = None) -> None:
        self._letters = letters
        self._readers = readers

    async def page(
        self, *, reader: str | None, target: str | None, conversation: str | None, page: int, page_size: int
    ) -> DeadLetterPage:
        letters, total = await self._letters.page(
            reader=reader, target=target, conversation=conversation, offset=(page - 1) * page_size, limit=page_size
        )
        return DeadLetterPage(
            page=page, page_size=page_size, total=total, total_pages=-(-total // page_size),
            dead_letters=[_view(letter) for letter in letters],
        )  # fmt: skip

    async def retry(self, letter: str) -> DeadLetterView:
        found = await self._find(letter)
        if found.is_disabled:
            raise Conflict("its target is disabled: enable it first")
        self._look_at(await self._letters.retry(letter=letter))
        return _view(await self._find(letter))

    async def retry_all(self, reader: str | None = None) -> int:
        """How many there are to try; those of disabled targets are not among them."""
        conversations = await self._letters.retry(reader=reader)
        self._look_at(conversations)
        return len(conversations)

    async def delete(self, letter: str) -> None:
        if not is_id(letter) or not await self._letters.delete(letter=letter):
            raise NotFound("there is no such dead letter")

    async def delete_all(self, reader: str | None = None) -> int:
        return await self._letters.delete(reader=reader)

    async def _find(self, letter: str) -> DeadLetter:
        found = await self._letters.get(letter)
        if found is None:
            raise NotFound("there is no such dead letter")
        return found

    def _look_at(self, conversations: list[str]) -> None:
        if self._readers is not None:
            for conversation in set(conversations):
                self._readers.look_at(conversation)


def as_lines(page: DeadLetterPage) -> str:
    """For a terminal, one line each."""
    if not page.total:
        return "there are no dead letters"
    lines = [
        f"{letter.id}  {letter.dead_at}  {letter.reader} {letter.target}  "
        f"{letter.kind or 'an event that is gone'}, {letter.seq} of {letter.conversation}  "
        f"{letter.attempts} tries: {letter.reason}{'  (being tried again)' if letter.retrying else ''}"
        for letter in page.dead_letters
    ]
    more = page.total - len(lines)
    return "\n".join([*lines, *([f"and {more} more"] if more else [])])


def _view(letter: DeadLetter) -> DeadLetterView:
    return DeadLetterView(
        id=letter.id, reader=letter.key.reader, target=letter.key.target, conversation=letter.conversation,
        seq=letter.seq, kind=letter.kind, reason=letter.reason, attempts=letter.attempts,
        last_status=letter.last_status, first_attempt_at=_time(letter.first_attempt_at),
        last_attempt_at=_time(letter.last_attempt_at), dead_at=rfc3339(letter.dead_at),
        retrying=letter.retry_at is not None,
    )  # fmt: skip


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else rfc3339(moment)
