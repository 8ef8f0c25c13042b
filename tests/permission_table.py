"""Who may do what, written down a second time, by hand, from the design: one line an act, one column a role.

`yes` is allowed, `no` is forbidden, `none` is allowed and finds nothing there to act upon. Behind the last column stand
those who may not even read the conversation: they hear `not_found`, whatever the act. Whoever is not signed in hears
`unauthenticated`.

A word after a colon says which of several the act points at: it is no part of the route.
"""

import re
from dataclasses import dataclass

ROLES = ("owner", "moderator", "member", "reader", "visitor")  # a visitor reads a public room without being in it

# `*`: the route lets more people in; whom or what the act is about decides later, with the row at hand.
OVER_HTTP = """
    GET    /api/conversations/{conversation}                                             yes yes yes yes yes
    PATCH * /api/conversations/{conversation}                                            yes yes no  no  no
    PATCH * /api/conversations/{conversation}:retention                                  yes no  no  no  no
    DELETE /api/conversations/{conversation}                                             yes no  no  no  no
    POST   /api/conversations/{conversation}/join                                        yes yes yes yes yes
    POST   /api/conversations/{conversation}/leave                                       yes yes yes yes no
    GET    /api/conversations/{conversation}/members                                     yes yes yes yes yes
    PUT    /api/conversations/{conversation}/members/{user:newcomer}                     yes yes no  no  no
    PUT  * /api/conversations/{conversation}/members/{user:newcomer}:as-moderator        yes no  no  no  no
    PUT  * /api/conversations/{conversation}/members/{user:somebody}:as-moderator        yes no  no  no  no
    PUT  * /api/conversations/{conversation}/members/{user:self}:as-owner                yes no  no  no  no
    DELETE * /api/conversations/{conversation}/members/{user:somebody}                   yes yes no  no  no
    DELETE * /api/conversations/{conversation}/members/{user:deputy}                     yes no  no  no  no
    DELETE * /api/conversations/{conversation}/members/{user:self}                       yes yes yes yes not_found
    GET    /api/conversations/{conversation}/messages                                    yes yes yes yes yes
    GET    /api/conversations/{conversation}/messages/{message:other}                    yes yes yes yes yes
    POST   /api/conversations/{conversation}/messages                                    yes yes yes no  no
    PATCH  /api/conversations/{conversation}/messages/{message:own}                      yes yes yes no  no
    PATCH * /api/conversations/{conversation}/messages/{message:other}                   no  no  no  no  no
    DELETE * /api/conversations/{conversation}/messages/{message:own}                    yes yes yes no  no
    DELETE * /api/conversations/{conversation}/messages/{message:other}                  yes yes no  no  no
    PUT    /api/conversations/{conversation}/messages/{message:other}/reactions/{emoji}  yes yes yes yes no
    DELETE /api/conversations/{conversation}/messages/{message:other}/reactions/{emoji}  yes yes yes yes no
    PUT    /api/conversations/{conversation}/messages/{message:other}/pin                yes yes no  no  no
    DELETE /api/conversations/{conversation}/messages/{message:other}/pin                yes yes no  no  no
    PUT    /api/conversations/{conversation}/read                                        yes yes yes yes yes
    GET    /api/conversations/{conversation}/events                                      yes yes yes yes yes
    GET    /api/conversations/{conversation}/webhooks                                    yes yes no  no  no
    POST   /api/conversations/{conversation}/webhooks                                    yes yes no  no  no
    GET    /api/conversations/{conversation}/webhook-hosts                               yes yes yes yes yes
    GET    /api/conversations/{conversation}/webhooks/{webhook}                          yes yes no  no  no
    PATCH  /api/conversations/{conversation}/webhooks/{webhook}                          yes yes no  no  no
    DELETE /api/conversations/{conversation}/webhooks/{webhook}                          yes yes no  no  no
    POST   /api/conversations/{conversation}/webhooks/{webhook}/test                     yes yes no  no  no
    POST   /api/conversations/{conversation}/webhooks/{webhook}/secret                   yes yes no  no  no
    GET    /api/conversations/{conversation}/webhooks/{webhook}/deliveries               yes yes no  no  no
    POST   /api/conversations/{conversation}/runs                                        yes yes yes no  no
    POST   /api/runs/{run}/stop                                                          yes yes yes no  no
    POST   /api/runs/{run}/steer                                                         yes yes yes no  no
    POST   /api/runs/{run}/decide                                                        none none no no no
"""

OVER_SOCKETS = """
    subscribe                   yes yes yes yes yes
    unsubscribe                 yes yes yes yes yes
    send                        yes yes yes no  no
    edit:own                    yes yes yes no  no
    edit:other                * no  no  no  no  no
    delete:own                  yes yes yes no  no
    delete:other              * yes yes no  no  no
    react                       yes yes yes yes no
    pin                         yes yes no  no  no
    delivered                   yes yes yes yes yes
    read                        yes yes yes yes yes
    typing                      yes yes yes no  no
    run                         yes yes yes no  no
    stop                        yes yes yes no  no
    steer                       yes yes yes no  no
    decide                      none none no no no
    ping                        yes yes yes yes yes
"""
WITHOUT_A_CONVERSATION = {"ping", "unsubscribe"}  # frames that concern the socket alone

# A private chat has two equal sides: nobody comes, goes or commands in it.
IN_A_PRIVATE_CHAT = """
    GET    /api/conversations/{conversation}                                             yes
    PATCH * /api/conversations/{conversation}                                            no
    PATCH * /api/conversations/{conversation}:retention                                  no
    POST   /api/conversations/{conversation}/leave                                       no
    PUT    /api/conversations/{conversation}/members/{user:newcomer}                     no
    PUT    /api/conversations/{conversation}/members/{user:self}:as-owner                no
    DELETE * /api/conversations/{conversation}/members/{user:somebody}                     no
    DELETE * /api/conversations/{conversation}/members/{user:self}                         no
    POST   /api/conversations/{conversation}/messages                                    yes
    GET    /api/conversations/{conversation}/webhooks                                    no
    POST   /api/conversations/{conversation}/webhooks                                    no
    PATCH * /api/conversations/{conversation}/messages/{message:other}                    no
    DELETE * /api/conversations/{conversation}/messages/{message:other}                    no
    PUT    /api/conversations/{conversation}/messages/{message:other}/pin                yes
    DELETE /api/conversations/{conversation}/messages/{message:own}                      yes
    DELETE /api/conversations/{conversation}                                             yes
"""

# The same where one side has blocked the other: who blocked, then who was blocked.
BEHIND_A_BLOCK = """
    GET    /api/conversations/{conversation}                                             yes yes
    GET    /api/conversations/{conversation}/members                                     yes yes
    GET    /api/conversations/{conversation}/messages                                    yes yes
    GET    /api/conversations/{conversation}/messages/{message:other}                    yes yes
    POST   /api/conversations/{conversation}/messages                                    no  no
    PATCH  /api/conversations/{conversation}/messages/{message:own}                      no  no
    PUT    /api/conversations/{conversation}/messages/{message:other}/reactions/{emoji}  no  no
    DELETE /api/conversations/{conversation}/messages/{message:other}/reactions/{emoji}  no  no
    PUT    /api/conversations/{conversation}/messages/{message:other}/pin                no  no
    PUT    /api/conversations/{conversation}/read                                        yes yes
    GET    /api/conversations/{conversation}/events                                      yes yes
    POST   /api/conversations/{conversation}/runs                                        no  no
    DELETE /api/conversations/{conversation}/messages/{message:own}                      yes yes
    subscribe                                                                            yes yes
    send                                                                                 no  no
    edit:own                                                                             no  no
    react                                                                                no  no
    pin                                                                                  no  no
    delivered                                                                            yes yes
    read                                                                                 yes yes
    typing                                                                               no  no
    run                                                                                  no  no
    steer                                                                                no  no
    stop                                                                                 yes yes
    delete:own                                                                           yes yes
"""


@dataclass(frozen=True)
class Row:
    """`method` is empty for a frame; `words` go by ROLES."""

    method: str
    act: str
    words: tuple[str, ...]
    is_judged_later: bool

    @property
    def path(self) -> str:
        """The path of the route, as it is declared."""
        return re.sub(r"({\w+)(?::\w+)?(})|:[\w-]+$", r"\1\2", self.act)

    @property
    def frame(self) -> str:
        return self.act.partition(":")[0]

    def __str__(self) -> str:
        return f"{self.method} {self.act}".strip()


def _rows(table: str) -> list[Row]:
    rows = []
    for line in table.strip().splitlines():
        parts = line.split()
        is_judged_later = "*" in parts
        parts = [part for part in parts if part != "*"]
        method = parts.pop(0) if parts[0].isupper() else ""
        rows.append(Row(method, parts[0], tuple(parts[1:]), is_judged_later))
    return rows


HTTP_ROWS = _rows(OVER_HTTP)
FRAME_ROWS = _rows(OVER_SOCKETS)
PRIVATE_CHAT_ROWS = _rows(IN_A_PRIVATE_CHAT)
BLOCKED_ROWS = _rows(BEHIND_A_BLOCK)
