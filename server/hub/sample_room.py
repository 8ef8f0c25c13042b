"""The sample room of a fresh studio: a short conversation that shows what a room is."""

from server.hub.accounts import Accounts
from server.hub.message_queue import MessageQueue
from server.hub.rooms import Rooms
from server.protocol.events import MessageCreated, ReactionAdded
from server.protocol.frames import Actor
from server.protocol.ids import new_id
from server.storage.message_log import Draft
from server.storage.new_conversations import NewConversation

TITLE = "Welcome"
GUIDE = Actor("system", "chat-studio", "Chat Studio")
LINES = (
    "**Welcome to Chat Studio.** This is a room: everybody in it sees the same messages, in the same order, and "
    "nothing that was acknowledged is ever lost, whatever happens to the server.",
    "Try it: write a line below. *Enter* sends, *Shift + Enter* breaks the line. Point at a message to react, answer, "
    "edit or delete.",
    "Models are members too. Write `@demo what can you do?` and watch the answer stream in. Everybody in the room may "
    "watch it, and every member may stop it.",
    "Open this page in a second browser to talk with yourself, or invite somebody from the members list. When you have "
    "looked around, make a room of your own.",
)


async def make_sample_room(rooms: Rooms, accounts: Accounts, queue: MessageQueue) -> None:
    admin = await accounts.first_admin()
    if admin is None:
        return
    plan = NewConversation("room", TITLE, "public", "all", None, None, admin.id, [(admin.id, "owner")])
    conversation = await rooms.create_for_system(plan)
    first = ""
    for line in LINES:
        data = MessageCreated(id=new_id(), client_id=None, text=line)
        first = first or data.id
        await queue.append(Draft(conversation, GUIDE, data))
    welcome = Actor("user", admin.id, admin.username)
    await queue.append(Draft(conversation, welcome, ReactionAdded(id=first, emoji="👋")))
