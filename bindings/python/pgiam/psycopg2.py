"""psycopg2: connections that log in with a new token each time.

    pgiam.psycopg2.connect("host=… user=app_user dbname=app")
    psycopg2.pool.ThreadedConnectionPool(1, 10, dsn, connection_factory=pgiam.psycopg2.Connection)

A subclass of `Connection` that sets `pgiam_client` uses that client.
"""

from typing import Any, ClassVar, Optional

import psycopg2
from psycopg2.extensions import connection, make_dsn, parse_dsn

from ._client import Client
from ._login import login


class Connection(connection):
    """A connection_factory of psycopg2 that makes a token, unless the connection has a password."""

    pgiam_client: ClassVar[Optional[Client]] = None

    def __init__(self, dsn: str, *arguments: Any, **options: Any) -> None:
        with login(parse_dsn(dsn), self.pgiam_client) as completed:
            super().__init__(make_dsn(**completed), *arguments, **options)


def connect(dsn: Optional[str] = None, **parameters: Any) -> connection:
    """Like psycopg2.connect."""
    parameters.setdefault("connection_factory", Connection)
    made: connection = psycopg2.connect(dsn, **parameters)
    return made
