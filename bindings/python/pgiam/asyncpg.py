"""asyncpg: a new token for each connection.

    pool = await pgiam.asyncpg.create_pool(host="…", user="app_user", database="app")

or, with asyncpg's own functions, `password=pgiam.asyncpg.password("…", user="app_user"), ssl="verify-full"`.
"""

import os
from typing import Any, Awaitable, Callable, Dict, Mapping, Optional

import asyncpg  # type: ignore[import-untyped, unused-ignore]

from ._client import Client, Token
from ._errors import InvalidArgument
from ._login import Target, needs_token, required_sslmode, targets_of


def password(
    host: str, port: int = 5432, *, user: str, client: Optional[Client] = None
) -> Callable[[], Awaitable[Token]]:
    """For the parameter `password` of asyncpg, which calls it at each connect."""
    target = Target(host, port, user)

    async def new_token() -> Token:
        return await target.async_token(client)

    return new_token


def connect(*, pgiam_client: Optional[Client] = None, **parameters: Any) -> Any:
    """Like asyncpg.connect, with keywords only. `ssl` becomes verify-full where none is given."""
    return asyncpg.connect(**completed(parameters, pgiam_client))


def create_pool(*, pgiam_client: Optional[Client] = None, **parameters: Any) -> Any:
    """Like asyncpg.create_pool, with keywords only. `ssl` becomes verify-full where none is given."""
    return asyncpg.create_pool(**completed(parameters, pgiam_client))


def completed(parameters: Mapping[str, Any], client: Optional[Client]) -> Dict[str, Any]:
    """The parameters with a function for a password, and TLS, unless they have a password."""
    if parameters.get("dsn"):
        raise InvalidArgument("pass host, port, user and database by keyword instead of dsn")
    if not needs_token(parameters.get("password")):
        return dict(parameters)
    host = parameters.get("host") or os.environ.get("PGHOST")
    if isinstance(host, (list, tuple)) or "," in str(host):
        raise InvalidArgument("asyncpg takes one password for all hosts, and each needs its own token: pass one host")
    (target,) = targets_of(parameters)
    result = {**parameters, "password": password(target.host, target.port, user=target.user, client=client)}
    ssl = parameters.get("ssl")
    if ssl is None or ssl is False or isinstance(ssl, str):
        result["ssl"] = required_sslmode("disable" if ssl is False else ssl)
    return result
