"""Search: what the caller may see, by its words."""

from server.storage.conversations import Conversations
from server.storage.messages import Messages
from server.storage.search import SearchIndex


class Search:
    def __init__(self, index: SearchIndex, messages: Messages, conversations: Conversations) -> None:
        self._index = index
        self._messages = messages
        self._conversations = conversations

    async def open(self) -> None:
        return None

    async def close(self) -> None:
        return None
