"""Backup and restore: the whole studio, its database and its files, in one archive.

Rows travel as Postgres writes and reads them itself (COPY, text), and the tables come from our own migrations. So no
pg_dump is needed, whose version would have to fit the server's; an archive goes from any Postgres to any other, newer
or older, with another C library or without ICU; and no password leaves this process.

`archive` is the file; `dump` reads a database in one snapshot; `replace` puts it into another in one transaction;
`files` are the studio's files beside the database; `commands` put them together for the command line.
"""

from server.storage.backup.errors import BackupError

__all__ = ["BackupError"]
