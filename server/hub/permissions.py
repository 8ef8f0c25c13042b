"""Who may do what: one table, no I/O.

Every route and every client frame names its permission. The studio-wide ones look at the account alone; the others at a
conversation and the caller's standing in it. Somebody who may not even read a conversation hears `not_found`, the
same as for one that does not exist; somebody who may read it hears `forbidden`.
"""

from enum import StrEnum

from server.protocol.errors import ChatError, Forbidden, NotFound, Unauthenticated
from server.storage.standings import Standing


class Permission(StrEnum):
    # the account alone
    ANYONE = "anyone"  # no sign-in needed
    SIGNED_IN = "signed_in"
    STUDIO_MEMBER = "studio_member"  # not a guest
    ADMIN = "admin"
    # in a conversation
    READ = "read"
    REACT = "react"
    SEND = "send"
    EDIT = "edit"  # one's own message
    DELETE = "delete"  # one's own, or anybody's for a moderator
    PIN = "pin"
    RUN = "run"
    STOP = "stop"
    STEER = "steer"
    DECIDE = "decide"
    JOIN = "join"
    LEAVE = "leave"
    INVITE = "invite"
    KICK = "kick"
    SET_ROLE = "set_role"
    CHANGE_SETTINGS = "change_settings"
    SET_RETENTION = "set_retention"  # also for admins of the studio where they may read
    DELETE_CONVERSATION = "delete_conversation"
    MANAGE_WEBHOOKS = "manage_webhooks"


READERS = frozenset({"owner", "moderator", "member", "reader"})
MEMBERS = frozenset({"owner", "moderator", "member"})
MODERATORS = frozenset({"owner", "moderator"})
OWNERS = frozenset({"owner"})

ROLES_ALLOWED: dict[Permission, frozenset[str]] = {
    Permission.READ: READERS,
    Permission.REACT: READERS,
    Permission.SEND: MEMBERS,
    Permission.EDIT: MEMBERS,
    Permission.DELETE: MEMBERS,
    Permission.PIN: MODERATORS,
    Permission.RUN: MEMBERS,
    Permission.STOP: MEMBERS,
    Permission.STEER: MEMBERS,
    Permission.DECIDE: MODERATORS,
    Permission.JOIN: frozenset(),  # for those who are not members yet, see `refusal`
    Permission.LEAVE: READERS,
    Permission.INVITE: MODERATORS,
    Permission.KICK: MODERATORS,
    Permission.SET_ROLE: OWNERS,
    Permission.CHANGE_SETTINGS: MODERATORS,
    Permission.SET_RETENTION: OWNERS,
    Permission.DELETE_CONVERSATION: OWNERS,
    Permission.MANAGE_WEBHOOKS: MODERATORS,
}

STUDIO_WIDE = frozenset({Permission.ANYONE, Permission.SIGNED_IN, Permission.STUDIO_MEMBER, Permission.ADMIN})

# A private chat has two equal sides: nobody comes, goes or commands in it. Both may pin, and either may delete it.
IN_PRIVATE_CHATS = {
    Permission.PIN: READERS,
    Permission.LEAVE: frozenset[str](),
    Permission.INVITE: frozenset[str](),
    Permission.KICK: frozenset[str](),
    Permission.SET_ROLE: frozenset[str](),
    Permission.CHANGE_SETTINGS: frozenset[str](),
    Permission.SET_RETENTION: frozenset[str](),
    Permission.DELETE_CONVERSATION: READERS,
    Permission.MANAGE_WEBHOOKS: frozenset[str](),  # else one side could pass on what the other says, unseen
}

# New words and signs; taking back one's own, stopping an answer and deleting the chat stay possible.
REFUSED_BEHIND_A_BLOCK = frozenset({
    Permission.REACT, Permission.SEND, Permission.EDIT, Permission.PIN, Permission.RUN, Permission.STEER,
    Permission.DECIDE,
})  # fmt: skip


def studio_refusal(permission: Permission, account_role: str | None) -> ChatError | None:
    """For the permissions that need no conversation; `account_role` is None for a stranger."""
    if permission is Permission.ANYONE:
        return None
    if account_role is None:
        return Unauthenticated()
    if permission is Permission.ADMIN and account_role != "admin":
        return Forbidden("only an admin may do this")
    if permission is Permission.STUDIO_MEMBER and account_role == "guest":
        return Forbidden("guests may not do this")
    return None


def refusal(permission: Permission, standing: Standing) -> ChatError | None:
    """Why this may not be, or None when it may."""
    if not may_read(standing):
        return NotFound("there is no such conversation")
    if permission is Permission.JOIN:
        return None  # being a member already is a conflict, not a question of rights
    if permission is Permission.READ:
        return None
    allowed = ROLES_ALLOWED[permission]
    if standing.kind == "private":
        allowed = IN_PRIVATE_CHATS.get(permission, allowed)
    if permission is Permission.SET_RETENTION and standing.account_role == "admin" and standing.kind != "private":
        return None  # the operator answers for how long things are kept
    if standing.role not in allowed:
        return Forbidden("your role in this conversation does not allow this")
    if standing.is_blocked and permission in REFUSED_BEHIND_A_BLOCK:
        if standing.blocks_peer:
            return Forbidden("you have blocked this person: unblock them first")
        return Forbidden("you cannot write to this person")
    if permission is Permission.EDIT and not standing.is_own:
        return Forbidden("only its author may edit a message")
    if permission is Permission.DELETE and not standing.is_own and standing.role not in MODERATORS:
        return Forbidden("only its author or a moderator may delete a message")
    if permission is Permission.KICK and standing.subject_role == "owner" and standing.role != "owner":
        return Forbidden("only an owner may remove an owner")
    return None


def may_read(standing: Standing) -> bool:
    if standing.role in READERS:
        return True
    return standing.visibility == "public" and standing.account_role in ("admin", "member")
