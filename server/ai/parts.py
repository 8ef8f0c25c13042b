"""The parts of one answer while it comes: numbers without gaps, deltas that add up, each part ended once.

Each wire format has its own way of naming a part (an index, an id, nothing at all): a reader hands in any hashable
`key`, and the book gives each new one the next number.
"""

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from server.ai.adapter import PartAnnotation, PartDelta, PartEnded, PartKind, PartStarted, ProviderData
from server.protocol.codec import foreign_decoder
from server.protocol.errors import BadJson

_any_json = foreign_decoder(object)


@dataclass(slots=True)
class _Part:
    index: int
    kind: PartKind
    call: str | None
    name: str | None
    pieces: list[str] = field(default_factory=list)
    provider_data: dict[str, Any] = field(default_factory=dict)


class PartBook:
    """`family` names whose opaque data this is."""

    def __init__(self, family: str) -> None:
        self._family = family
        self._open: dict[Hashable, _Part] = {}
        self._count = 0

    def __contains__(self, key: Hashable) -> bool:
        """Whether this part is open."""
        return key in self._open

    @property
    def is_empty(self) -> bool:
        """Whether nothing has been said at all."""
        return self._count == 0

    def start(self, key: Hashable, kind: PartKind, *, call: str | None = None, name: str | None = None) -> PartStarted:
        part = self._open[key] = _Part(self._count, kind, call, name)
        self._count += 1
        return PartStarted(part.index, kind, call, name)

    def add(self, key: Hashable, text: str) -> PartDelta:
        """`text` is not empty."""
        part = self._open[key]
        part.pieces.append(text)
        return PartDelta(part.index, text)

    def keep(self, key: Hashable, **data: object) -> None:
        """Opaque data that goes back with the part; a name that comes again replaces."""
        self._open[key].provider_data.update(data)

    def annotate(self, key: Hashable, data: Mapping[str, Any]) -> PartAnnotation:
        return PartAnnotation(self._open[key].index, data)

    def end(self, key: Hashable, *, is_cut: bool = False) -> PartEnded:
        """`is_cut`: the answer broke off, so a call of which no argument came is no call without arguments."""
        part = self._open.pop(key)
        text = "".join(part.pieces)
        data = ProviderData(self._family, part.provider_data) if part.provider_data else None
        arguments, error = None, None
        if part.kind == "tool_call":
            arguments, error = arguments_of(text) if text or not is_cut else (None, "the answer broke off before them")
        return PartEnded(part.index, part.kind, text, part.call, part.name, arguments, error, data)

    def end_all(self, *, is_cut: bool) -> Iterator[PartEnded]:
        """What is still open, oldest first."""
        for key in tuple(self._open):
            yield self.end(key, is_cut=is_cut)


def arguments_of(text: str) -> tuple[dict[str, Any] | None, str | None]:
    """The arguments of a tool call, or why they are none. No text at all is a call without arguments."""
    if not text.strip():
        return {}, None
    try:
        found = _any_json(text)
    except BadJson:
        return None, "the arguments are no JSON"
    if not isinstance(found, dict):
        return None, "the arguments are no JSON object"
    return found, None
