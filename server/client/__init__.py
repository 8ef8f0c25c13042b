"""The client for programs: `from server.client import Studio`."""

from server.client.conversation import Conversation
from server.client.courier import Submitted
from server.client.errors import ClientError, Closed, Refused, SignedOut, StudioAway, Unconfirmed, WrongPassword
from server.client.items import Added, ConnectionChange, Down, Entry, Item, Removed, Reset, Up
from server.client.streams import Stream
from server.client.studio import Studio
from server.protocol.frames import Cursor

__all__ = [
    "Added",
    "ClientError",
    "Closed",
    "ConnectionChange",
    "Conversation",
    "Cursor",
    "Down",
    "Entry",
    "Item",
    "Refused",
    "Removed",
    "Reset",
    "SignedOut",
    "Stream",
    "Studio",
    "StudioAway",
    "Submitted",
    "Unconfirmed",
    "Up",
    "WrongPassword",
]
