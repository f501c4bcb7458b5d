"""psycopg 3: connections that log in with a new token each time, for psycopg_pool too.

    pgiam.psycopg.Connection.connect("host=… user=app_user dbname=app")
    psycopg_pool.ConnectionPool("host=… user=app_user dbname=app", connection_class=pgiam.psycopg.Connection)

A subclass that sets `pgiam_client` uses that client.
"""

from typing import TYPE_CHECKING, Any, ClassVar, Optional

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import Row

from ._client import Client
from ._login import async_login, login

if TYPE_CHECKING:
    from typing_extensions import Self

# Parameters of connect() that are not libpq's.
_PSYCOPG = ("autocommit", "prepare_threshold", "context", "row_factory", "cursor_factory")


class Connection(psycopg.Connection[Row]):
    """A psycopg.Connection whose `connect` makes a token, unless the connection has a password."""

    pgiam_client: ClassVar[Optional[Client]] = None

    @classmethod
    def connect(cls, conninfo: str = "", **parameters: Any) -> "Self":
        own = {name: parameters.pop(name) for name in _PSYCOPG if name in parameters}
        with login(conninfo_to_dict(conninfo, **parameters), cls.pgiam_client) as completed:
            return super().connect(**completed, **own)


class AsyncConnection(psycopg.AsyncConnection[Row]):
    """A psycopg.AsyncConnection whose `connect` makes a token, unless the connection has a password."""

    pgiam_client: ClassVar[Optional[Client]] = None

    @classmethod
    async def connect(cls, conninfo: str = "", **parameters: Any) -> "Self":
        own = {name: parameters.pop(name) for name in _PSYCOPG if name in parameters}
        async with async_login(conninfo_to_dict(conninfo, **parameters), cls.pgiam_client) as completed:
            return await super().connect(**completed, **own)


connect = Connection.connect
