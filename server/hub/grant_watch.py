"""The grant watch: asks the database whether the sign-ins behind open sockets still stand.

A grant that ends is announced, and its sockets are cut at once. The announcement may be lost, and a session that merely
expires is announced by nobody: so all are asked about every few seconds, and within ten a socket without a right is
gone, whatever the bus does.
"""

import asyncio

from loguru import logger

from server.hub.access import Access
from server.hub.hub import RIGHTS_CHANGED, SESSION_ENDED, Hub
from server.protocol.errors import ChatError

ASK_EVERY_S = 4.0
ASKED_AT_ONCE = 2000


class GrantWatch:
    def __init__(self, hub: Hub, access: Access) -> None:
        self._hub = hub
        self._access = access
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._watch())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(ASK_EVERY_S)
            try:
                await self.check()
            except ChatError:
                pass  # the database is away: nothing is delivered that it does not hold, and the next look finds it
            except Exception:  # noqa: BLE001 - the watch must not end
                logger.exception("open sockets could not be checked")

    async def check(self) -> None:
        """End every socket whose grant has ended or whose account has another role."""
        connections = self._hub.connections()
        grants = list({connection.grant_id for connection in connections})
        roles: dict[str, str] = {}
        for start in range(0, len(grants), ASKED_AT_ONCE):
            roles |= await self._access.roles_of(grants[start : start + ASKED_AT_ONCE])
        for connection in connections:
            role = roles.get(connection.grant_id)
            if role is None:
                connection.end(SESSION_ENDED, "session ended")
            elif role != connection.account_role:
                connection.end(RIGHTS_CHANGED, "your rights have changed")
