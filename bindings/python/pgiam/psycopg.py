"""psycopg 3: connections that log in with a new token each time, for psycopg_pool too.

    pgiam.psycopg.Connection.connect("host=… user=app_user dbname=app")
    psycopg_pool.ConnectionPool("host=… user=app_user dbname=app", connection_class=pgiam.psycopg.Connection)

A subclass that sets `pgiam_client` uses that client.
"""

from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, Dict, FrozenSet, Optional, Tuple

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import Row

from ._client import Client
from ._login import async_login, login

if TYPE_CHECKING:
    from typing_extensions import Self


@lru_cache(maxsize=None)
def _libpq_keywords() -> FrozenSet[str]:
    return frozenset(option.keyword.decode() for option in psycopg.pq.Conninfo.get_defaults())


def _split(conninfo: str, parameters: Dict[str, Any]) -> Tuple[Dict[str, Any], Dict[str, Any]]:
    """Parameters of libpq, and psycopg's own such as autocommit and row_factory."""
    own = {name: value for name, value in parameters.items() if name not in _libpq_keywords()}
    libpq = {name: value for name, value in parameters.items() if name not in own}
    return conninfo_to_dict(conninfo, **libpq), own


class Connection(psycopg.Connection[Row]):
    """A psycopg.Connection whose `connect` makes a token, unless the connection has a password."""

    pgiam_client: ClassVar[Optional[Client]] = None

    @classmethod
    def connect(cls, conninfo: str = "", **parameters: Any) -> "Self":
        libpq, own = _split(conninfo, parameters)
        with login(libpq, cls.pgiam_client) as completed:
            return super().connect(**completed, **own)


class AsyncConnection(psycopg.AsyncConnection[Row]):
    """A psycopg.AsyncConnection whose `connect` makes a token, unless the connection has a password."""

    pgiam_client: ClassVar[Optional[Client]] = None

    @classmethod
    async def connect(cls, conninfo: str = "", **parameters: Any) -> "Self":
        libpq, own = _split(conninfo, parameters)
        async with async_login(libpq, cls.pgiam_client) as completed:
            return await super().connect(**completed, **own)


connect = Connection.connect
