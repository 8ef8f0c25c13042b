"""How OpenAI counts tokens, in Chat Completions and in Responses alike."""

from msgspec import Struct

from server.ai.adapter import Usage


class Details(Struct):
    """Of what was asked, or of what was said."""

    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None


def usage_of(
    asked: int | None, said: int | None, of_asked: Details | None, of_said: Details | None, *, cached: int | None = None
) -> Usage:
    """`cached` is where a server names it elsewhere than in the details."""
    of_asked, of_said = of_asked or Details(), of_said or Details()
    return Usage(
        input_tokens=asked or 0,
        output_tokens=said or 0,
        cached_tokens=of_asked.cached_tokens or cached or 0,
        cache_write_tokens=of_asked.cache_write_tokens or 0,
        reasoning_tokens=of_said.reasoning_tokens or 0,
    )
