"""Which models can be called, by name: what runs, mentions and the doors for other programs ask.

A studio is handed its models at start, so far.
"""

from collections.abc import Iterable
from typing import Protocol

from server.ai.adapter import Model, Target
from server.protocol.errors import NotFound


class ModelCatalog(Protocol):
    @property
    def names(self) -> frozenset[str]:
        """All names and aliases that a text may call with `@name`, whoever may use them. Asked for at every message, so
        it is kept and not read."""

    async def targets(self, name: str, *, user: str | None, conversation: str | None = None) -> tuple[Target, ...]:
        """What to call for this name, in order: more than one for an alias. `user` None is the studio itself.

        Raises `NotFound` for a name that there is not, or not for this user.
        """

    async def default(self, *, user: str | None, conversation: str | None = None) -> str:
        """The name of the model that answers where none is named."""


class FixedCatalog:
    """Models handed over at start; everybody may use them."""

    def __init__(self, models: Iterable[Model]) -> None:
        self._targets = {model.name: Target(model.name, model.name, model) for model in models}
        self._names = frozenset(self._targets)

    @property
    def names(self) -> frozenset[str]:
        return self._names

    async def targets(self, name: str, *, user: str | None, conversation: str | None = None) -> tuple[Target, ...]:
        found = self._targets.get(name)
        if found is None:
            raise NotFound(f"there is no model named {name[:64]!r}")
        return (found,)

    async def default(self, *, user: str | None, conversation: str | None = None) -> str:
        return next(iter(self._targets))
