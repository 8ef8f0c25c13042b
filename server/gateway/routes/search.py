"""Full text over titles and messages."""

from server.gateway.routing import Routes

routes = Routes()
