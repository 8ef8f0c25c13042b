"""Runs as they stand: who carries one, what it has said, and which have lost their carrier."""

from dataclasses import dataclass

from server.protocol.ids import is_id, new_id
from server.storage.database import Database
from server.storage.projections import RUN_LEASE_S


@dataclass(frozen=True, slots=True)
class Run:
    id: str
    conversation: str
    message: str
    model: str
    status: str
    text: str


class Runs:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, run: str) -> Run | None:
        if not is_id(run):
            return None
        row = await self._database.fetch_one(f"SELECT {_COLUMNS} FROM runs WHERE id = $1", run)
        return Run(*row) if row else None

    async def claim(self, run: str) -> str | None:
        """Take the lease of a run that nobody carries yet; the token, or None when it is over."""
        token = new_id()
        taken = await self._database.execute(
            "UPDATE runs SET token = $2, lease_until = now() + make_interval(secs => $3) "
            "WHERE id = $1 AND status = 'running'",
            run, token, RUN_LEASE_S,
        )  # fmt: skip
        return token if taken else None

    async def checkpoint(self, run: str, token: str, text: str) -> bool:
        """Store what was said so far and renew the lease. False: the run is over or another's, stop at once."""
        return await self._database.execute(
            "UPDATE runs SET text = $3, lease_until = now() + make_interval(secs => $4) "
            "WHERE id = $1 AND token = $2 AND status = 'running'",
            run, token, text, RUN_LEASE_S,
        ) > 0  # fmt: skip

    async def abandoned(self, limit: int = 100) -> list[Run]:
        """Running, but their lease is over: whoever carried them has died."""
        rows = await self._database.fetch(
            f"SELECT {_COLUMNS} FROM runs WHERE status = 'running' AND lease_until < now() "
            "ORDER BY lease_until LIMIT $1",
            limit,
        )
        return [Run(*row) for row in rows]


_COLUMNS = "id, conversation, message, model, status, text"
