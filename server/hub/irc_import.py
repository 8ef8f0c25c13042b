"""Importing raw IRC logs into a room, with authors and times kept.

In:   log files, the title of a room.
Out:  their messages in the room's log, by users who cannot sign in, and a report.
Promises: a line is imported once, however often the import runs, also when it was killed in the middle: its id is made of
day, line number and content. Nicknames are users with `origin` import; where a name is not possible here, or belongs to
somebody with an account, they get one made of it. It works beside a running server, which goes on writing to the same room:
the room's row is held for one chunk at a time. Sockets are not told message by message: clients hear of the room's new head
with the next heartbeat, or reload.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

from server.hub.irc_log import client_id_of, day_of, lines_of, said, usernames_of
from server.hub.message_drafts import body_hash
from server.hub.usernames import key_of
from server.protocol import clock
from server.protocol.codec import encode
from server.protocol.errors import ChatError, Rejected
from server.protocol.events import MessageCreated
from server.protocol.frames import MAX_TEXT_LENGTH
from server.protocol.ids import uuid7
from server.storage.bulk_append import BulkAppend, Imported
from server.storage.conversations import Conversations, NewConversation
from server.storage.database import Database
from server.storage.users import Users

CHUNK = 2000  # messages a transaction: it holds the room's row for some 50 ms
ATTEMPTS = 5  # of a chunk, while the database is busy or away
MAX_TITLE_LENGTH = 200

Progress = Callable[[int, int, int], None]  # bytes read, bytes in all, messages found so far
