"""What a search answers."""

from server.protocol.views import Conversation, Message, View


class SearchResult(View, frozen=True, kw_only=True):
    conversation: str
    title: str | None
    message: Message


class SearchAnswer(View, frozen=True, kw_only=True):
    """Newest first. `next` is the `before` of the next page, null on the last one. `complete` is false while the index
    is still being filled (after a large import): what is here is right, and there may be more soon."""

    results: list[SearchResult]
    conversations: list[Conversation]
    next: str | None
    complete: bool
