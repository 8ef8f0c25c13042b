"""How many bytes each socket may leave unsent, so that all of them together stay within what a process may hold.

A socket's share is 256 KiB while there are few, and shrinks as there are more: a thousand slow readers, or ten
thousand, cost the same memory. Past its share a socket is *behind* and is fed from the log as it drains; it loses
nothing by it.
"""

from server.gateway.websocket_protocol import HIGH_WATER_BYTES

BUDGET_BYTES = 256 * 1024 * 1024  # of a process: a thousand sockets may all be as slow as one
LEAST_BYTES = 16 * 1024  # some dozens of messages; less would make every burst a fall behind


def share_bytes(connections: int) -> int:
    return max(LEAST_BYTES, min(HIGH_WATER_BYTES, BUDGET_BYTES // max(1, connections)))
