"""How a part of the server is replaced in a worker that is to fail."""

from collections.abc import Callable
from typing import Any


def replace(owner: Any, name: str, make: Callable[[Any], Any]) -> None:
    """Put `make(what was there)` in its place; an `AttributeError` when it has moved."""
    setattr(owner, name, make(getattr(owner, name)))
