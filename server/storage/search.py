"""Full-text search over messages and titles."""

from server.storage.database import Database


class SearchIndex:
    def __init__(self, database: Database) -> None:
        self._database = database
